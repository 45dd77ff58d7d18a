"""The 1,797 handwritten digits that come with scikit-learn: real images, at hand without a download."""

import numpy as np
import tensorflow as tf

from trainers.data.splits import Source, Split, indexed_split


def open_digits() -> Source:
    """8 x 8 grey images of 0 to 9; every fifth example of each class is held out for validation."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    images, labels = tf.io.encode_png(grey).numpy(), digits.target
    rank = np.empty(len(labels), np.int64)
    for label in range(10):
        members = labels == label
        rank[members] = np.arange(members.sum())

    def part(name: str, chosen: np.ndarray) -> Split:
        return indexed_split(
            images[chosen],
            labels[chosen],
            10,
            lambda index, _: f"example {index} of digits/{name}",
            covered=lambda png: tf.io.decode_png(png).numpy().tobytes(),
        )

    held_out = rank % 5 == 4
    return Source("digits", tuple(map(str, range(10))), part("train", ~held_out), part("val", held_out))
