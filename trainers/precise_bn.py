"""Statistics of batch normalization measured anew, for the weights that are evaluated."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from trainers.state import State
from trainers.step import current, random_states, write


def precise_function(state: State, strategy: tf.distribute.Strategy) -> Callable[[Any, tf.Tensor], None]:
    """(iterator, n): sets the statistics of batch normalization to their means over n batches, for the weights that
    are evaluated: the averages', where there are any.

    Wu and Johnson, 2021, "Rethinking Batch in BatchNorm" (https://arxiv.org/abs/2105.07576), section 3: moving
    averages lag behind the weights, and those of averaged weights were never measured on them.
    """
    model, replicas = state.plain, strategy.num_replicas_in_sync
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
            model(tf.cast(batch["image"], tf.float32), training=True)
        # From zero a statistic moves by 1 - momentum of the batch's.
        return [current(scope, v) / (1 - momentum) for v, momentum in statistics]

    @tf.autograph.experimental.do_not_convert
    def take_over(means: list[tf.Tensor]) -> None:
        write(tf.distribute.get_replica_context(), targets, means)

    @tf.function(reduce_retracing=False)
    def precise(iterator: Any, batches: tf.Tensor) -> None:
        sums = [tf.zeros(v.shape) for v, _ in statistics]
        for _ in tf.range(batches):
            parts = strategy.run(measure, args=(next(iterator),))
            sums = [s + strategy.reduce(tf.distribute.ReduceOp.SUM, p, None) for s, p in zip(sums, parts, strict=True)]
        strategy.run(take_over, args=([s / tf.cast(batches * replicas, tf.float32) for s in sums],))

    return precise
