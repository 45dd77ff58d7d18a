"""Real images and the network's probabilities of them: every export is compared with these."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data import READ_ERRORS, Split, eval_image, reason, sample
from trainers.optim.losses import probabilities as shares_of
from trainers.settings import RunConfig

BATCH = 32


@dataclass(frozen=True)
class Reference:
    """Encoded pictures, their labels (-1: unknown), their pixels uint8 (n, r, r, 3), probabilities (n, classes)."""

    pictures: list[bytes]
    labels: np.ndarray
    pixels: np.ndarray
    probabilities: np.ndarray

    def accuracy(self, probabilities: np.ndarray) -> float | None:
        """The share of images whose label is the likeliest by these probabilities; None without labels."""
        return float(np.mean(probabilities.argmax(-1) == self.labels)) if (self.labels >= 0).all() else None


def samples(split: Split, count: int, classes: int) -> tuple[list[bytes], list[int]]:
    """Encoded pictures from all classes of a split, and their labels: the same ones every time. Raises InputError."""
    pictures, labels = [], []
    for record in sample(split, count, classes).once():
        try:
            pictures.append(split.load(record["image"]).numpy())
        except READ_ERRORS as error:
            raise InputError(f"cannot read {split.describe(int(record['index']))}: {reason(error)}") from error
        labels.append(int(record["label"]))
    return pictures, labels


def made_up(count: int, resolution: int) -> tuple[list[bytes], list[int]]:
    """Pictures of random blots, in the place of real ones, and the label -1 (unknown) for each."""
    draws = tf.random.stateless_uniform((count, 8, 8, 3), (0, 1), 0, 256, tf.int32)
    large = tf.image.resize(tf.cast(draws, tf.float32), (resolution + 32, resolution + 16), method="bicubic")
    pixels = tf.saturate_cast(large, tf.uint8)
    return [tf.io.encode_png(one).numpy() for one in pixels], [-1] * count


def make_reference(model: keras.Model, config: RunConfig, pictures: list[bytes], labels: list[int]) -> Reference:
    """The probabilities that `kcnn evaluate` computes: with the same preprocessing and the same network in float32."""
    pixels = eval_pixels(pictures, config)
    return Reference(pictures, np.array(labels), pixels, probabilities(model, pixels, config.multi_label))


def eval_pixels(pictures: list[bytes], config: RunConfig) -> np.ndarray:
    """uint8 (n, r, r, 3) of encoded pictures, as in evaluation. Raises InputError for a broken one."""
    try:
        return np.stack(
            [
                eval_image(tf.constant(p), config.resolution, crop=config.eval_crop, method=config.interpolation)
                for p in pictures
            ]
        )
    except READ_ERRORS as error:
        raise InputError(f"a broken image among the data: {reason(error)} (`kcnn evaluate` names it)") from error


def probabilities(model: keras.Model, pixels: np.ndarray, multi_label: bool = False) -> np.ndarray:
    """float32 (n, classes) of uint8 (n, r, r, 3), on the CPU: a GPU's convolutions round to fewer bits (TF32)."""

    @tf.function(reduce_retracing=True)
    def classify(images: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU:0"):
            return shares_of(model(tf.cast(images, tf.float32), training=False), multi_label)

    return np.concatenate([classify(tf.constant(pixels[i : i + BATCH])) for i in range(0, len(pixels), BATCH)])
