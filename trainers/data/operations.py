"""The operations of augmentation policies, as graph functions: uint8 (h, w, 3) and a value to uint8 (h, w, 3).

They round as Pillow does, on which the policies were found. Most are a table from old levels to new ones.
"""

import functools
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

Operation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_FILL = 128.0  # what turns in from outside, as in the code of EfficientNet, where the policies met ImageNet


def identity(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    return tf.identity(image)


def autocontrast(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Each channel is stretched to 0 ... 255."""
    pixels = tf.reshape(image, (-1, 3))
    low, high = (tf.cast(f(pixels, 0), tf.float64)[:, None] for f in (tf.reduce_min, tf.reduce_max))
    scale = 255 / (high - low)
    levels = tf.range(256, dtype=tf.float64)
    return _mapped(image, tf.where(high > low, levels * scale - low * scale, levels))


def equalize(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """In each channel all levels become about equally frequent."""
    counts = tf.reshape(tf.math.bincount(tf.reshape(_offset(image), (-1,)), minlength=768), (3, 256))
    highest = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), -1, keepdims=True)
    step = (tf.reduce_sum(counts, -1, keepdims=True) - tf.gather(counts, highest, batch_dims=1)) // 255
    before = tf.cumsum(counts, -1, exclusive=True)
    return _mapped(image, tf.where(step > 0, (step // 2 + before) // tf.maximum(step, 1), tf.range(256)))


def invert(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    return 255 - image


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Levels from the threshold (0 ... 256) on are inverted."""
    return tf.where(tf.cast(image, tf.float32) < threshold, image, 255 - image)


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """The upper bits (1 ... 8) of every level, rounded to a whole number of them."""
    dropped = tf.cast(8 - tf.round(bits), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, dropped), dropped)


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """A factor of 0 gives black, 1 changes nothing."""
    return _mapped(image, _levels() * factor)


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """A factor of 0 gives the mean grey everywhere, 1 changes nothing."""
    return _mapped(image, _blend(tf.floor(tf.reduce_mean(_grey(image)) + 0.5), _levels(), factor))


def color(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """A factor of 0 gives grey levels, 1 changes nothing."""
    return _bytes(_blend(_grey(image), tf.cast(image, tf.float32), factor))


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """A factor of 0 smooths over 3 x 3 pixels (of weight 1, the middle one of 5), 1 changes nothing; borders stay."""
    if min(image.shape[:2]) < 3:
        return tf.identity(image)
    x = tf.cast(image, tf.float32)
    rows = x[:-2] + x[1:-1] + x[2:]
    middle = x[1:-1, 1:-1]
    smooth = tf.floor((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * middle) / 13 + 0.5)
    return _bytes(_blend(x + tf.pad(smooth - middle, ((1, 1), (1, 1), (0, 0))), x, factor))


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """The image turns anticlockwise about its centre."""
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    y, x = (tf.cast(n, tf.float32) / 2 for n in (tf.shape(image)[0], tf.shape(image)[1]))
    return _moved(image, (cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y))


def shear_x(image: tf.Tensor, tangent: tf.Tensor) -> tf.Tensor:
    """Each row moves left by tangent times its distance from the top."""
    return _moved(image, (1.0, tangent, 0.0), (0.0, 1.0, 0.0))


def shear_y(image: tf.Tensor, tangent: tf.Tensor) -> tf.Tensor:
    """Each column moves up by tangent times its distance from the left."""
    return _moved(image, (1.0, 0.0, 0.0), (tangent, 1.0, 0.0))


def translate_x(image: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """The image moves left by a share of its width."""
    return _moved(image, (1.0, 0.0, share * tf.cast(tf.shape(image)[1], tf.float32)), (0.0, 1.0, 0.0))


def translate_y(image: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """The image moves up by a share of its height."""
    return _moved(image, (1.0, 0.0, 0.0), (0.0, 1.0, share * tf.cast(tf.shape(image)[0], tf.float32)))


OPERATIONS: dict[str, Operation] = {
    f.__name__: f
    for f in (
        identity,
        autocontrast,
        equalize,
        invert,
        solarize,
        posterize,
        brightness,
        contrast,
        color,
        sharpness,
        rotate,
        shear_x,
        shear_y,
        translate_x,
        translate_y,
    )
}


def apply(
    image: tf.Tensor, choice: tf.Tensor, value: tf.Tensor, operations: Sequence[Operation] = tuple(OPERATIONS.values())
) -> tf.Tensor:
    """The operation at the place `choice`, an int32; the others are not computed."""
    branches = [functools.partial(f, image, value) for f in operations]
    return tf.ensure_shape(tf.switch_case(choice, branches), image.shape)


def _levels() -> tf.Tensor:
    return tf.range(256, dtype=tf.float32)


def _bytes(levels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(levels, 0, 255), tf.uint8)  # cut off, not rounded, as in Pillow


def _blend(without: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return without + factor * (image - without)


def _grey(image: tf.Tensor) -> tf.Tensor:
    """The luma of ITU-R 601-2, float32 (h, w, 1) of whole numbers; all sums stay below 2^24 and so exact."""
    weights = tf.constant([[19595.0], [38470.0], [7471.0]]) / 65536
    return tf.floor(tf.tensordot(tf.cast(image, tf.float32), weights, 1) + 0.5)


def _offset(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(image, tf.int32) + tf.constant([0, 256, 512])


def _mapped(image: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """The new levels (256,), or (3, 256) by channel, in the place of the old ones."""
    index = _offset(image) if levels.shape.rank == 2 else tf.cast(image, tf.int32)
    return tf.gather(tf.reshape(_bytes(levels), (-1,)), index)


def _moved(image: tf.Tensor, x: tuple[tf.Tensor, ...], y: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """Each pixel from the nearest to where (a, b, c) times (column, row, 1) points, measured from pixels' centres."""
    rows = [tf.stack([a, b, c + (a + b) / 2 - 0.5]) for a, b, c in (x, y)]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.concat([*rows, [0.0, 0.0]], 0)[None],
        output_shape=image.shape[:2],
        interpolation="NEAREST",
        fill_mode="CONSTANT",
        fill_value=_FILL,
    )[0]
