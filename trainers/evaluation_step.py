"""One batch of an evaluation, as a compiled function that runs on every replica alike."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from trainers.optim.losses import cross_entropy, one_hot

Sums = dict[str, tf.Tensor]
Views = Callable[[tf.Tensor], list[tf.Tensor]]


def eval_function(model: keras.Model, averages: list[tuple[Any, tf.Variable]], classes: int,
                  strategy: tf.distribute.Strategy, views: Views | None = None
                  ) -> Callable[[Any, tf.Tensor], Sums]:  # fmt: skip
    """(iterator, n) -> sums over n batches: loss, top5, and confusion (classes, classes) by [label, prediction].

    Each example counts with its weight: 1, or 0 for one that only fills up a batch. `averages` are pairs of a weight
    and what is evaluated in its place. Probabilities are means over the `views` of an image.
    """
    views = views or (lambda images: [images])

    @tf.autograph.experimental.do_not_convert
    def replica_step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        with keras.StatelessScope(averages):
            seen = [model(view, training=False) for view in views(tf.cast(batch["image"], tf.float32))]
        logits = seen[0]
        if len(seen) > 1:
            logits = tf.reduce_logsumexp([tf.nn.log_softmax(x) for x in seen], 0) - math.log(len(seen))
        labels, weight = batch["label"], batch["weight"]
        loss = tf.reduce_sum(cross_entropy(logits, one_hot(labels, classes)) * weight)
        top5 = tf.reduce_sum(tf.cast(tf.math.in_top_k(labels, logits, min(5, classes)), tf.float32) * weight)
        predicted = tf.argmax(logits, -1, labels.dtype)
        cells = tf.math.unsorted_segment_sum(weight, labels * classes + predicted, classes * classes)
        return loss, top5, tf.reshape(cells, (classes, classes))

    @tf.function(reduce_retracing=False)
    def evaluate(iterator: Any, batches: tf.Tensor) -> Sums:
        sums = (tf.constant(0.0), tf.constant(0.0), tf.zeros((classes, classes)))
        for _ in tf.range(batches):
            outputs = strategy.run(replica_step, args=(next(iterator),))
            sums = tuple(
                s + strategy.reduce(tf.distribute.ReduceOp.SUM, o, None) for s, o in zip(sums, outputs, strict=True)
            )
        return dict(zip(("loss", "top5", "confusion"), sums, strict=True))

    return evaluate
