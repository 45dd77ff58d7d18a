"""Compiled functions that every replica runs: an evaluation, and the measurement of batch statistics for it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainers.optim.losses import cross_entropy, one_hot
from trainers.state import State
from trainers.step import current, random_states, repeated, write
from trainers.transfer.parts import Parts

Sums = dict[str, tf.Tensor]
Views = Callable[[tf.Tensor], list[tf.Tensor]]


def eval_function(
    model: keras.Model,
    averages: list[tuple[Any, tf.Variable]],
    classes: int,
    strategy: tf.distribute.Strategy,
    views: Views | None = None,
) -> Callable[[Any, tf.Tensor], Sums]:
    """(iterator, n) -> sums over n batches: loss, top5, and confusion (classes, classes) by [label, prediction].

    Each example counts with its weight: 1, or 0 for padding. `averages` are pairs of a weight and the variable that is
    evaluated in its place. Probabilities are means over the `views` of an image.
    """
    views = views or (lambda images: [images])

    @tf.autograph.experimental.do_not_convert
    def replica_step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        with keras.StatelessScope(averages):
            logits = averaged([model(view, training=False) for view in views(tf.cast(batch["image"], tf.float32))])
        labels, weight = batch["label"], batch["weight"]
        loss = tf.reduce_sum(cross_entropy(logits, one_hot(labels, classes)) * weight)
        top5 = tf.reduce_sum(tf.cast(tf.math.in_top_k(labels, logits, min(5, classes)), tf.float32) * weight)
        predicted = tf.argmax(logits, -1, labels.dtype)
        cells = tf.math.unsorted_segment_sum(weight, labels * classes + predicted, classes * classes)
        return loss, top5, tf.reshape(cells, (classes, classes))

    @tf.function(reduce_retracing=False, autograph=False)
    def evaluate(iterator: Any, batches: tf.Tensor) -> Sums:
        def one(_: tf.Tensor, sums: list[tf.Tensor]) -> list[tf.Tensor]:
            return added(strategy, sums, strategy.run(replica_step, args=(next(iterator),)))

        sums = repeated(batches, one, [tf.constant(0.0), tf.constant(0.0), tf.zeros((classes, classes))])
        return dict(zip(("loss", "top5", "confusion"), sums, strict=True))

    return evaluate


def answer_function(
    model: keras.Model, classes: int, top: int, views: Views | None = None
) -> Callable[[tf.Tensor, tf.Tensor], Sums]:
    """(images, labels) -> for each image its loss, top5, own, the probability of its label, likely, the `top` likeliest
    classes, shares, their probabilities, and logits. Probabilities are means over the `views` of an image.
    """
    views = views or (lambda images: [images])

    @tf.function(reduce_retracing=False, autograph=False)
    def answer(images: tf.Tensor, labels: tf.Tensor) -> Sums:
        logits = averaged([model(view, training=False) for view in views(tf.cast(images, tf.float32))])
        logits = tf.cast(logits, tf.float32)
        probabilities = tf.nn.softmax(logits)
        shares, likely = tf.math.top_k(probabilities, top)
        return {
            "loss": cross_entropy(logits, one_hot(labels, classes)),
            "top5": tf.math.in_top_k(labels, logits, min(5, classes)),
            "own": tf.gather(probabilities, labels, batch_dims=1),
            "likely": likely,
            "shares": shares,
            "logits": logits,
        }

    return answer


def averaged(seen: list[tf.Tensor]) -> tf.Tensor:
    """The logits of several views, whose probabilities are the means of theirs; of one view, its logits."""
    if len(seen) == 1:
        return seen[0]
    return tf.reduce_logsumexp([tf.nn.log_softmax(x) for x in seen], 0) - math.log(len(seen))


def added(strategy: tf.distribute.Strategy, sums: list[tf.Tensor], outputs: Sequence[Any]) -> list[tf.Tensor]:
    """The sums with those of the outputs over all replicas."""
    totals = [strategy.reduce(tf.distribute.ReduceOp.SUM, output, None) for output in outputs]
    return [s + total for s, total in zip(sums, totals, strict=True)]


def precise_function(state: State, parts: Parts, strategy: tf.distribute.Strategy) -> Callable[[Any, tf.Tensor], None]:
    """(iterator, n): sets the statistics of batch normalization to their means over n batches, for the weights that
    are evaluated: the averages', where there are any. Those of the still part stay as they are.

    Wu and Johnson, 2021, "Rethinking Batch in BatchNorm" (https://arxiv.org/abs/2105.07576), section 3: moving
    averages lag behind the weights, and those of averaged weights were never measured on them.
    """
    model, replicas = parts.trained, strategy.num_replicas_in_sync
    averages = dict(zip(map(id, state.model.weights), state.ema, strict=bool(state.ema)))
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    statistics = [(v, layer.momentum) for layer in layers for v in (layer.moving_mean, layer.moving_variance)]
    targets = [averages.get(id(v), v) for v, _ in statistics]
    seeds = random_states(model)

    @tf.autograph.experimental.do_not_convert
    def measure(batch: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        zeros = [(v, tf.zeros(v.shape)) for v, _ in statistics]
        values = [(v, averages[id(v)]) for v in model.trainable_variables if averages]
        draws = [(s, tf.zeros(s.shape, s.dtype)) for s in seeds]
        with keras.StatelessScope([*zeros, *values, *draws]) as scope:
            parts(tf.cast(batch["image"], tf.float32), training=True)
        # From zero a statistic moves by 1 - momentum of the batch's.
        return [current(scope, v) / (1 - momentum) for v, momentum in statistics]

    @tf.autograph.experimental.do_not_convert
    def take_over(means: list[tf.Tensor]) -> None:
        write(tf.distribute.get_replica_context(), targets, means)

    @tf.function(reduce_retracing=False, autograph=False)
    def precise(iterator: Any, batches: tf.Tensor) -> None:
        def one(_: tf.Tensor, sums: list[tf.Tensor]) -> list[tf.Tensor]:
            return added(strategy, sums, strategy.run(measure, args=(next(iterator),)))

        sums = repeated(batches, one, [tf.zeros(v.shape) for v, _ in statistics])
        strategy.run(take_over, args=([s / tf.cast(batches * replicas, tf.float32) for s in sums],))

    return precise
