"""A glance at some training images before a run: what they are, as far as a few hundred of them tell."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from trainers.data.decoding.headers import checked
from trainers.data.decoding.images import train_image
from trainers.data.splits import THREADS, Source, Split, as_written, in_order

LOOKED, PIXELS = 200, 2e8  # images that are looked at, and pixels in all of them, at most
SIDE = 32  # pixels of an image as it is looked at: all of it, squeezed into a square
COLOURLESS = 4.0  # levels of 256 between an image's channels, in the mean: no more in a grey one saved as JPEG
SMOOTH = 12.0  # levels by which the rim of an image may vary, as a ground on which an object lies
APART = 32.0  # levels by which an object differs from its ground
TWO_TONES = 0.9  # the share of an image's variance that two tones leave (Otsu, 1979)
CHARACTER = re.compile(r"\w")
SIDES = re.compile(r"(^|[\W_])(left|right)([\W_]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Glance:
    """What is known of the training images. Shares are of those that were looked at.

    images, classes: how many there are. counts: images of each class, where they are known. side: the median of the
    shorter sides, in pixels. grey: the share without colours. drawn: the share of two tones on a plain ground. plain:
    the share on a plain ground. extent: the median share of the image that the object on it takes, None where most
    have no plain ground. characters: whether the classes are named as characters are. handed: what tells that a mirror
    image is another thing, "" where nothing does.
    """

    images: int
    classes: int
    counts: tuple[int, ...] | None = None
    side: int | None = None
    grey: float = 0.0
    drawn: float = 0.0
    plain: float = 0.0
    extent: float | None = None
    characters: bool = False
    handed: str = ""

    @property
    def balance(self) -> float:
        """How many times more images the largest class has than the smallest; 1 where the counts are not known."""
        return max(self.counts) / min(self.counts) if self.counts and all(self.counts) else 1.0


def glance(source: Source, seed: int = 0) -> Glance:
    """Looks at the source's training images. Images that cannot be decoded are passed over: training names them."""
    split, names = source.train, source.classes
    characters = all(CHARACTER.fullmatch(name) for name in names)
    handed = "classes are told apart by left and right" if any(map(SIDES.search, names)) else ""
    known = Glance(split.size, len(names), split.class_counts, characters=characters, handed=handed)
    sides, pixels, labels = read(split, seed)
    if not len(pixels):
        return known
    light = pixels.mean(-1)
    colour = np.abs(pixels - light[..., None]).mean((1, 2, 3))
    rims = np.concatenate([light[:, 0], light[:, -1], light[:, :, 0], light[:, :, -1]], 1)
    ground = np.median(rims, 1)
    plain = np.abs(rims - ground[:, None]).mean(1) < SMOOTH
    extents = [extent(np.abs(image - g) > APART) for image, g in zip(light[plain], ground[plain], strict=True)]
    return Glance(
        split.size, len(names), split.class_counts, int(np.median(sides)),
        grey=float(np.mean(colour < COLOURLESS)),
        drawn=float(np.mean(plain & (np.array([tones(image) for image in light]) > TWO_TONES))),
        plain=float(np.mean(plain)),
        extent=float(np.median(extents)) if np.mean(plain) > 0.5 else None,
        characters=characters,
        handed=handed or mirrored(light, labels),
    )  # fmt: skip


def read(split: Split, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shorter sides (n,), the pixels, float32 (n, SIDE, SIDE, 3), and the labels (n,) of images drawn by the seed.

    Headers are checked before anything is decoded, and large JPEGs are decoded at a part of their size.
    """

    @as_written
    def look(record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        data = split.load(record["image"])
        size = checked(data).sizes[:2]
        image = train_image(data, SIDE, tf.constant([0, 0]), crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False)
        return size, image, record["label"]

    count = min(LOOKED, split.size)
    records = split.stream(seed, split.size, 0).take(count)
    sides, images, labels, spent = [], [], [], 0.0
    for size, image, label in in_order(records.map(look, num_parallel_calls=THREADS).ignore_errors()):
        sides.append(int(size.numpy().min()))
        images.append(image.numpy())
        labels.append(int(label))
        spent += float(size.numpy().prod())
        if spent > PIXELS:
            break
    return np.array(sides), np.array(images, np.float32), np.array(labels)


def tones(image: np.ndarray) -> float:
    """The share of the variance of an image (h, w) that is left where each pixel is the mean of the darker or of the
    lighter ones, at the best threshold between them."""
    values = np.sort(image, axis=None)
    n, total = len(values), values.var()
    if total < 1:
        return 0.0
    sums, k = np.cumsum(values)[:-1], np.arange(1, n)
    low, high = sums / k, (sums[-1] + values[-1] - sums) / (n - k)
    return float((k / n * (1 - k / n) * (high - low) ** 2).max() / total)


def extent(mask: np.ndarray) -> float:
    """The share of an image that the box around the pixels of a mask (h, w) takes."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return 0.0
    return float((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1) / mask.size)


def mirrored(light: np.ndarray, labels: np.ndarray) -> str:
    """Tells whether mirror images are other things: a linear classifier that has seen half of the images (n, h, w)
    recognizes the other half, and fails on its mirror images. "" where it does not, or recognizes nothing."""
    n = len(labels) // 2
    small = light.reshape(len(light), SIDE // 2, 2, SIDE // 2, 2).mean((2, 4))
    small = (small - small.mean((1, 2), keepdims=True)) / (small.std((1, 2), keepdims=True) + 1)
    targets = np.eye(labels.max() + 1)[labels]
    right, turned = 0, 0
    for seen, others in ((slice(0, n), slice(n, 2 * n)), (slice(n, 2 * n), slice(0, n))):
        x = small[seen].reshape(n, -1)
        # Ridge regression by its dual: there are fewer images than pixels.
        weights = x.T @ np.linalg.solve(x @ x.T + x.shape[1] * np.eye(n), targets[seen] - targets[seen].mean(0))
        right += hits(small[others], weights, labels[others])
        turned += hits(small[others][..., ::-1], weights, labels[others])
    if n < 20 or right - turned < 4 * np.sqrt(n):  # four standard deviations of either count, at most
        return ""
    return f"mirror images are not recognized: {turned / (2 * n):.0%} of them, {right / (2 * n):.0%} of the others"


def hits(images: np.ndarray, weights: np.ndarray, labels: Sequence[int] | np.ndarray) -> int:
    return int((np.argmax(images.reshape(len(images), -1) @ weights, 1) == labels).sum())
