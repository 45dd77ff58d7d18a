"""How long a compiled network takes for one image on this machine."""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from kcnn.arch import Arch
from kcnn.builder import build

WARM_UP, ROUNDS = 3, 20


def latency_ms(arch: Arch, classes: int) -> float:
    """The median of the milliseconds in which a network with random weights answers a batch of one image."""
    model = build(arch, classes, stem="standard")
    predict = tf.function(lambda x: model(x, training=False), reduce_retracing=False)
    image = tf.constant(np.zeros((1, arch.resolution, arch.resolution, 3), np.float32))
    for _ in range(WARM_UP):
        predict(image).numpy()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        predict(image).numpy()
        times.append(time.perf_counter() - started)
    keras.backend.clear_session()
    return 1e3 * statistics.median(times)
