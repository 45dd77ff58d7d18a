"""What a network looks at in an image: where it sees a class (Grad-CAM), which pixels count (integrated gradients)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.analysis.graph import nodes, opened
from kcnn.errors import InputError

FEWEST, MOST = 32, 256  # steps of the integral
COMPLETE = 1e-3  # of what the integral has to come to: closer than this is good enough
BATCH = 16


@dataclass(frozen=True)
class Attribution:
    """values: what each number of the pixels (height, width, channels) adds to the logit. error: how far their sum is
    from the difference of the logits of image and baseline, as a share of it. steps: of the integral."""

    values: np.ndarray
    error: float
    steps: int


def last_map(model: keras.Model) -> Any:
    """The last tensor of a network that has places. Raises InputError where none has."""
    for node in reversed([*nodes(opened(model))]):
        shape = node.outputs[0].shape
        if len(shape) == 4 and (shape[1] is None or shape[1] > 1 or shape[2] > 1):
            return node.outputs[0]
    raise InputError(f"model {model.name}: it has no map that could tell where it looks")


def grad_cam(model: keras.Model, pixels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Where an image (height, width, channels) shows each class: (classes, height, width), 0 to 1.

    max(0, sum of a_k A_k), where a_k is the mean gradient of the class's logit at channel k of the last map A.
    Selvaraju et al., 2017 (https://arxiv.org/abs/1610.02391), equations 1 and 2.
    """
    looking = keras.Model(opened(model).inputs, [last_map(model), model.outputs[0]])
    with tf.GradientTape() as tape:
        maps, logits = looking(tf.constant(pixels[None], tf.float32), training=False)
        chosen = tf.gather(tf.cast(logits[0], tf.float32), classes)
    slopes = tape.jacobian(chosen, maps)[:, 0]
    weights = tf.reduce_mean(tf.cast(slopes, tf.float32), [1, 2], keepdims=True)
    found = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), -1))
    large = tf.image.resize(found[..., None], pixels.shape[:2], method="bilinear")[..., 0].numpy()
    highest = large.max((1, 2), keepdims=True)
    return np.divide(large, highest, out=np.zeros_like(large), where=highest > 0)


def integrated_gradients(
    model: keras.Model, pixels: np.ndarray, label: int, baseline: np.ndarray | float = 0.0
) -> Attribution:
    """What each pixel of an image (height, width, channels) adds to the logit of a class, from a baseline on.

    (x - b) times the mean gradient on the straight way from b to x: Sundararajan et al., 2017
    (https://arxiv.org/abs/1703.01365), equation 1. The values add up to the difference of the logits (completeness);
    the number of steps is doubled until they do so to a thousandth, or there are MOST.
    """
    image = pixels.astype(np.float32)
    start = np.broadcast_to(np.asarray(baseline, np.float32), image.shape)

    @tf.function(reduce_retracing=True, autograph=False)
    def slopes(points: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(points)
            logits = tf.cast(model(points, training=False), tf.float32)[:, label]
        return tf.reduce_sum(tape.gradient(logits, points), 0)

    ends = tf.cast(model(tf.constant(np.stack([start, image])), training=False), tf.float32)[:, label].numpy()
    wanted, steps = float(ends[1]) - float(ends[0]), FEWEST
    while True:
        total = np.zeros(image.shape, np.float64)
        shares = (np.arange(steps) + 0.5) / steps
        for part in range(0, steps, BATCH):
            share = shares[part : part + BATCH, None, None, None].astype(np.float32)
            total += slopes(tf.constant(start + share * (image - start))).numpy()
        values = (image - start) * (total / steps)
        error = abs(values.sum() - wanted) / max(abs(wanted), 1e-6)
        if error <= COMPLETE or steps >= MOST:
            return Attribution(values, float(error), steps)
        steps *= 2
