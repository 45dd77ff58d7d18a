"""A side that asks a model of keras.applications: `python -m benchmarks.sides.keras_infer NETWORK BATCH PIXELS WAY`.

WAY is predict (predict_on_batch), function (a tf.function of the model) or xla (the same, compiled by XLA).
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from benchmarks.turns import requests


def main() -> None:
    name, batch, side, way = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.float32)
    images = tf.constant(pixels)
    function = tf.function(lambda x: model(x, training=False), jit_compile=way == "xla")
    for steps in requests():
        for _ in range(steps):
            _ = model.predict_on_batch(pixels) if way == "predict" else function(images).numpy()


if __name__ == "__main__":
    main()
