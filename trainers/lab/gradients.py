"""What reaches the first layers of the loss's gradient, and how much of an image a place of the last map looks at.

Both are measured on a few images, with the weights that the network has, and in training mode: batch normalization
uses the statistics of the batch, as it does in a step.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.analysis.graph import opened
from kcnn.diagnosis.representation import looked_at
from kcnn.errors import InputError

VANISHES, EXPLODES = 1e-2, 1e2  # first over last stage
ENOUGH = 64  # images that gradients are averaged over, at most
EDGE = 1 - 0.9545  # of the highest value: within two standard deviations of a Gaussian's middle, as in Luo et al.


@dataclass(frozen=True)
class LayerGradient:
    """The norms of a layer's kernel, and of its gradient in the mean over batches."""

    layer: str
    weight: float
    gradient: float

    @property
    def ratio(self) -> float:
        """By which share of itself the kernel would change at a learning rate of 1."""
        return self.gradient / self.weight if self.weight else math.inf


@dataclass(frozen=True)
class Gradients:
    """stages: at the end of each, the norm of the loss's gradient there, of an image in the mean. first_to_last: the
    first of them over the last. verdict: "passed on", "vanishing", "exploding", or "not finite"."""

    layers: tuple[LayerGradient, ...]
    stages: dict[str, float]
    first_to_last: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        rows = [asdict(row) | {"ratio": row.ratio} for row in self.layers]
        return {"layers": rows, "stages": self.stages, "first_to_last": self.first_to_last, "verdict": self.verdict}


@dataclass(frozen=True)
class Field:
    """What a place in the middle of a map sees in fact: the mean over images of its gradient's size at each pixel,
    float64 (height, width), 1 at the most. size: the side of a square of as many pixels as have more than EDGE of it.
    sigma: the standard deviation of a Gaussian of that size. theoretical: pixels, as `kcnn.facts` counts."""

    stage: str
    picture: np.ndarray
    size: float
    sigma: float
    theoretical: int | None

    def to_dict(self) -> dict[str, Any]:
        return {"stage": self.stage, "size": self.size, "sigma": self.sigma, "theoretical": self.theoretical}


def gradients(model: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray | None]], seed: int = 0) -> Gradients:
    """The gradients of the cross entropy. Without labels classes are drawn for the images. Raises InputError."""
    places = [place for place in looked_at(model) if place.where == "end"]
    looking = keras.Model(opened(model).inputs, [*(place.tensor for place in places), model.outputs[0]])
    kernels = {
        v.path: v for v in model.trainable_variables if v.name in ("kernel", "depthwise_kernel", "pointwise_kernel")
    }
    draws, classes = np.random.default_rng(seed), model.outputs[0].shape[-1]

    @tf.function(reduce_retracing=True, autograph=False)
    def norms(pixels: tf.Tensor, labels: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            *ends, logits = looking(pixels, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))
            loss = tf.reduce_mean(losses)
        variables = [v.value for v in kernels.values()]
        found = tape.gradient(loss, [*ends, *variables], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        of_ends, of_kernels = found[: len(ends)], found[len(ends) :]
        size = tf.cast(tf.shape(pixels)[0], tf.float32)
        # The loss is a mean over the batch: the gradient of an image's own loss is so many times as large.
        return [size * tf.reduce_mean(norm_of_each(g)) for g in of_ends], [norm_of_each(g[None])[0] for g in of_kernels]

    ends, weights, steps, images = np.zeros(len(places)), np.zeros(len(kernels)), 0, 0
    kept = [v.numpy() for v in model.non_trainable_variables]  # statistics that a forward pass in training moves
    for pixels, labels in batches:
        if labels is None:
            labels = draws.integers(0, classes, len(pixels))
        one, other = norms(tf.constant(pixels), tf.constant(labels, tf.int32))
        ends, weights, steps = ends + np.array(one), weights + np.array(other), steps + 1
        images += len(pixels)
        if images >= ENOUGH:
            break
    for variable, value in zip(model.non_trainable_variables, kept, strict=True):
        variable.assign(value)
    if not steps:
        raise InputError("no images: some are needed to see which gradients they give")
    rows = tuple(
        LayerGradient(path.rpartition("/")[0], float(np.linalg.norm(v.numpy())), float(w / steps))
        for (path, v), w in zip(kernels.items(), weights, strict=True)
    )
    stages = {place.stage: float(norm / steps) for place, norm in zip(places, ends, strict=True)}
    values = [norm for stage, norm in stages.items() if stage != "stem"]
    ratio = values[0] / values[-1] if values and values[-1] else math.inf
    return Gradients(rows, stages, ratio, verdict(values, ratio))


def norm_of_each(x: tf.Tensor) -> tf.Tensor:
    """The norms (n,) of what is in each row of x (n, ...)."""
    return tf.norm(tf.reshape(tf.cast(x, tf.float32), (tf.shape(x)[0], -1)), axis=1)


def verdict(values: list[float], ratio: float) -> str:
    if not np.isfinite(values).all():
        return "not finite"
    if ratio < VANISHES:
        return "vanishing"
    return "exploding" if ratio > EXPLODES else "passed on"


def effective_field(
    model: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray | None]], theoretical: int | None = None
) -> Field:
    """What the middle of the last stage's map sees. Luo et al., 2016 (https://arxiv.org/abs/1701.04128)."""
    ends = [place for place in looked_at(model) if place.where == "end"]
    if not ends:
        raise InputError(f"model {model.name}: it has no map whose places could see something")
    place = ends[-1]
    looking = keras.Model(opened(model).inputs, place.tensor)
    rows, columns = place.tensor.shape[1:3]

    @tf.function(reduce_retracing=True, autograph=False)
    def look(pixels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            y = tf.cast(looking(pixels, training=False), tf.float32)
            middle = tf.reduce_sum(y[:, rows // 2, columns // 2])
        return tf.reduce_sum(tf.abs(tape.gradient(middle, pixels)), [0, 3])

    total, images = np.zeros(()), 0
    for pixels, _ in batches:
        total = total + look(tf.constant(pixels)).numpy().astype(np.float64)
        images += len(pixels)
        if images >= ENOUGH:
            break
    if not images:
        raise InputError("no images: some are needed to see what the network looks at")
    highest = float(total.max())
    picture = total / highest if highest > 0 else total
    size = math.sqrt(float((picture > EDGE).sum())) if highest > 0 else 0.0
    return Field(place.stage, picture, size, size / 4, theoretical)
