"""Random changes of a training image, as graph functions: integers decide them all, so that a run can be repeated.

Policies draw operations (see operations.py) and their values from tables; jitter and erasing come after them.
"""

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainers.data.operations import OPERATIONS, apply, brightness, color, contrast

Draws = tuple[tf.Tensor, tf.Tensor]

# By operation: its value at strength 0, how far strength 1 moves it, and whether it moves in both directions.
Table = dict[str, tuple[float, float, bool]]
RANDAUGMENT: Table = {
    "identity": (0, 0, False), "autocontrast": (0, 0, False), "equalize": (0, 0, False), "rotate": (0, 30, True),
    "solarize": (256, -256, False), "color": (1, 0.9, True), "posterize": (8, -4, False), "contrast": (1, 0.9, True),
    "brightness": (1, 0.9, True), "sharpness": (1, 0.9, True), "shear_x": (0, 0.3, True), "shear_y": (0, 0.3, True),
    "translate_x": (0, 150 / 331, True), "translate_y": (0, 150 / 331, True),
}  # fmt: skip
# The paper moves by up to 32 pixels; here it is the same share of any image as 32 of 224.
TRIVIALAUGMENT: Table = RANDAUGMENT | {
    "rotate": (0, 135, True),
    "color": (1, 0.99, True),
    "posterize": (8, -6, False),
    "contrast": (1, 0.99, True),
    "brightness": (1, 0.99, True),
    "sharpness": (1, 0.99, True),
    "shear_x": (0, 0.99, True),
    "shear_y": (0, 0.99, True),
    "translate_x": (0, 32 / 224, True),
    "translate_y": (0, 32 / 224, True),
}

# What a level of 10 does to AutoAugment's operations. Other than above, solarize and posterize are strongest at level
# 0, and a factor grows from 0.1 to 1.9: on this scale the policy was found.
_LEVELS: Table = RANDAUGMENT | {
    "invert": (0, 0, False),
    "solarize": (0, 256, False),
    "posterize": (4, 4, False),
    "color": (0.1, 1.8, False),
    "contrast": (0.1, 1.8, False),
    "brightness": (0.1, 1.8, False),
    "sharpness": (0.1, 1.8, False),
}
# The pairs that the paper lists for ImageNet: each operation with its probability and level.
AUTOAUGMENT: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)), (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)), (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)), (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)), (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)), (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)), (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)), (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)), (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)), (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)), (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)), (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)), (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)  # fmt: skip


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed at random.

    crop_scale: the smallest share of the image's area that a random crop covers. flip: whether images are mirrored.
    policy: none, randaugment, trivialaugment or autoaugment; magnitude, std, probability, layers: the parameters of
    `randaugment`. color_jitter: the strength of `jitter`; 0 leaves it out. erase: the probability of `erased`.
    """

    crop_scale: float = 0.08
    flip: bool = True
    policy: str = "none"
    magnitude: float = 9.0
    std: float = 0.0
    probability: float = 1.0
    layers: int = 2
    color_jitter: float = 0.0
    erase: float = 0.0


USUAL = Augmentation()  # Inception's crops and mirrored images, nothing else


def augment(image: tf.Tensor, seed: tf.Tensor, how: Augmentation) -> tf.Tensor:
    """uint8 (r, r, 3) to the same: the policy's operations, then jitter, then erasing. The integers `seed`, shape
    (2,), decide everything. (`train_image` crops and mirrors before.)
    """
    seeds = tf.random.split(seed, 3)
    if how.policy != "none":
        draws = {
            "randaugment": lambda: randaugment(seeds[0], how.magnitude, how.std, how.probability, how.layers),
            "trivialaugment": lambda: trivialaugment(seeds[0]),
            "autoaugment": lambda: autoaugment(seeds[0]),
        }
        for operation, value in zip(*map(tf.unstack, draws[how.policy]()), strict=True):
            image = apply(image, operation, value)
    if how.color_jitter:
        image = jitter(image, seeds[1], how.color_jitter)
    return erased(image, seeds[2], how.erase) if how.erase else image


def randaugment(
    seed: tf.Tensor, magnitude: float, std: float = 0.0, probability: float = 1.0, layers: int = 2
) -> Draws:
    """RandAugment (Cubuk et al., https://arxiv.org/abs/1909.13719): `layers` operations, each one of 14.

    Returns their places in OPERATIONS, int32 (layers,), and their values, float32 (layers,). The magnitude goes from
    0, nothing, to 10, the end of AutoAugment's ranges. Not in the paper but in timm, and so in the recipes of others:
    magnitudes are normal with a standard deviation of `std`, and an operation is left out with 1 - probability.
    """
    seeds = tf.random.split(seed, 4)
    rows = tf.random.stateless_uniform([layers], seeds[0], 0, len(RANDAUGMENT), tf.int32)
    strength = (magnitude + std * tf.random.stateless_normal([layers], seeds[1])) / 10
    return _drawn(RANDAUGMENT, rows, tf.clip_by_value(strength, 0, 1), probability, seeds[2:])


def trivialaugment(seed: tf.Tensor) -> Draws:
    """TrivialAugment (Müller and Hutter, https://arxiv.org/abs/2103.10158), wide: one operation of 14 at one of 31
    strengths. Returns its place and its value as `randaugment` does, both (1,).
    """
    seeds = tf.random.split(seed, 4)
    rows = tf.random.stateless_uniform([1], seeds[0], 0, len(TRIVIALAUGMENT), tf.int32)
    strength = tf.random.stateless_uniform([1], seeds[1], 0, 31, tf.int32)
    return _drawn(TRIVIALAUGMENT, rows, tf.cast(strength, tf.float32) / 30, 1.0, seeds[2:])


def autoaugment(seed: tf.Tensor) -> Draws:
    """AutoAugment (Cubuk et al., https://arxiv.org/abs/1805.09501): one of the 25 pairs found for ImageNet.

    Returns the places and values of its two operations as `randaugment` does, both (2,).
    """
    seeds = tf.random.split(seed, 3)
    names = list(_LEVELS)
    rows = tf.constant([[names.index(name) for name, _, _ in pair] for pair in AUTOAUGMENT])
    probabilities = tf.constant([[p for _, p, _ in pair] for pair in AUTOAUGMENT])
    strengths = tf.constant([[level / 10 for _, _, level in pair] for pair in AUTOAUGMENT])
    pair = tf.random.stateless_uniform([], seeds[0], 0, len(AUTOAUGMENT), tf.int32)
    return _drawn(_LEVELS, rows[pair], strengths[pair], probabilities[pair], seeds[1:])


def jitter(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Colour jitter (Howard, https://arxiv.org/abs/1312.5402): brightness, contrast and saturation in random order,
    each by a factor from 1 - strength (at least 0) to 1 + strength.
    """
    seeds = tf.random.split(seed, 2)
    order = tf.argsort(tf.random.stateless_uniform([3], seeds[0]))
    factors = tf.random.stateless_uniform([3], seeds[1], max(0.0, 1 - strength), 1 + strength)
    for operation, factor in zip(tf.unstack(order), tf.unstack(factors), strict=True):
        image = apply(image, operation, factor, (brightness, contrast, color))
    return image


def erased(image: tf.Tensor, seed: tf.Tensor, probability: float) -> tf.Tensor:
    """Random erasing (Zhong et al., https://arxiv.org/abs/1708.04896) of a box, filled with random pixels: each
    value is uniform on 0 ... 255, the filling that was best there.
    """
    seeds = tf.random.split(seed, 3)

    def fill() -> tf.Tensor:
        box = erased_box(seeds[1], *image.shape[:2])
        rows, columns = (
            (tf.range(n) >= begin) & (tf.range(n) < begin + size)
            for n, begin, size in zip(image.shape, tf.unstack(box[:2]), tf.unstack(box[2:]), strict=False)
        )
        n = math.prod(image.shape)
        words = tf.random.stateless_uniform([-(-n // 4)], seeds[2], None, None, tf.int32)
        noise = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:n], image.shape)
        return tf.where((rows[:, None] & columns)[..., None], noise, image)

    return tf.cond(tf.random.stateless_uniform([], seeds[0]) < probability, fill, lambda: image)


def erased_box(seed: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """(top, left, height, width), int32, of a box with 0.02 to 0.33 of the area and 0.3 to 3.3 times as high as wide.

    The logarithm of that ratio is uniform, so that flat boxes are as likely as high ones; in the paper it is the
    ratio. Where ten tries find none inside the image, the box is empty.
    """
    seeds = tf.random.split(seed, 3)
    area = height * width * tf.random.stateless_uniform([10], seeds[0], 0.02, 0.33)
    ratio = tf.exp(tf.random.stateless_uniform([10], seeds[1], math.log(0.3), math.log(3.3)))
    sizes = tf.cast(tf.round(tf.sqrt(tf.stack([area * ratio, area / ratio], -1))), tf.int32)
    fits = tf.reduce_all(sizes < [height, width], -1)
    size = tf.where(tf.reduce_any(fits), sizes[tf.argmax(fits)], 0)
    free = tf.cast([height, width] - size + 1, tf.float32)
    begin = tf.cast(tf.random.stateless_uniform([2], seeds[2]) * free, tf.int32)
    return tf.concat([begin, size], 0)


def _drawn(table: Table, rows: tf.Tensor, strength: tf.Tensor, probability: Any, seeds: tf.Tensor) -> Draws:
    """The operations in the table's `rows`, or the identity, and their values."""
    names = list(OPERATIONS)
    columns = ([names.index(name) for name in table], *zip(*table.values(), strict=True))
    dtypes = (tf.int32, tf.float32, tf.float32, tf.bool)
    operation, rest, reach, either = (
        tf.gather(tf.constant(column, dtype), rows) for column, dtype in zip(columns, dtypes, strict=True)
    )
    chosen = tf.random.stateless_uniform(rows.shape, seeds[0]) < probability
    negative = either & (tf.random.stateless_uniform(rows.shape, seeds[1]) < 0.5)
    values = rest + tf.where(negative, -reach, reach) * strength
    return tf.where(chosen, operation, names.index("identity")), values
