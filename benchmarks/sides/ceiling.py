"""What the machine can do at all: `python -m benchmarks.sides.ceiling product|copy`.

product: a step is a product of two float32 matrices by TensorFlow, with all its threads. copy: a step copies an array
that is larger than the caches, by one thread.
"""

import sys

from benchmarks.turns import requests

SIDE = 3072  # of the matrices
PRODUCT_MACS = SIDE**3  # multiply-adds of a step
COPY_BYTES = 2**28  # read and written in a step, each


def main() -> None:
    work = {"product": product, "copy": copy}[sys.argv[1]]()
    for steps in requests():
        for _ in range(steps):
            work()


def product():
    import tensorflow as tf

    a, b = (tf.random.stateless_uniform((SIDE, SIDE), (0, seed)) for seed in (1, 2))
    multiply = tf.function(lambda: tf.reduce_sum(a @ b))
    return lambda: multiply().numpy()


def copy():
    import numpy as np

    source, target = np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)
    return lambda: np.copyto(target, source)


if __name__ == "__main__":
    main()
