"""A side that trains keras.applications with `fit`: `python -m benchmarks.sides.keras_train NETWORK BATCH PIXELS JIT`.

JIT is 1 where XLA compiles the step. The batch is in memory, and the model has its own preprocessing where it has one.
"""

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.turns import requests

CLASSES = 1000


def main() -> None:
    network, batch, side, jit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, network)(
        weights=None, classes=CLASSES, input_shape=(side, side, 3), classifier_activation=None
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit,
    )
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (batch, side, side, 3)).astype("float32")
    labels = draws.integers(0, CLASSES, batch).astype("int32")
    data = tf.data.Dataset.from_tensors((images, labels)).cache().repeat()
    model.fit(data, steps_per_epoch=10**6, epochs=1, verbose=0, callbacks=[Turns()])


class Turns(keras.callbacks.Callback):
    """Waits for the next turn when the steps of one are done."""

    def __init__(self) -> None:
        super().__init__()
        self.requests, self.left = requests(), 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not self.left:
            self.left = next(self.requests, 0)
            if not self.left:
                raise SystemExit

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1


if __name__ == "__main__":
    main()
