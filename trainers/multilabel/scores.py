"""The evaluation of a network whose classes are questions of their own: average precision and thresholds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainers.evaluation import Evaluation, ratio
from trainers.evaluation_step import Views
from trainers.optim.losses import binary_cross_entropy, floats, probabilities
from trainers.step import repeated

HALF = 0.5  # the threshold of a class that none was found for


@dataclass(frozen=True)
class MultiLabelEvaluation(Evaluation):
    """accuracy is mAP: the mean, over the classes that have images, of scikit-learn's average_precision_score. top5:
    the share of images with a label among their five likeliest classes. loss: binary cross entropy, in nats.

    shares: the probabilities of all images, float32 (n, classes); truth: their labels, of 0 and 1. thresholds: from
    which probability on a class counts as found; by default a half.
    """

    shares: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    truth: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    thresholds: tuple[float, ...] | None = None

    @classmethod
    def of(cls, shares: np.ndarray, truth: np.ndarray, loss: np.ndarray, weight: np.ndarray) -> "MultiLabelEvaluation":
        """The evaluation of images (n, classes), of which those of weight 0 do not count."""
        real = weight > 0
        shares, truth = shares[real], truth[real]
        scores = [s for s in average_precisions(shares, truth) if s is not None]
        best = np.argsort(-shares, -1, kind="stable")[:, :5]
        top5 = float(np.take_along_axis(truth, best, -1).any(-1).mean())
        return cls(
            float(loss[real].mean()),
            float(np.mean(scores)) if scores else 0.0,
            top5,
            np.zeros((0, 0)),
            shares=shares,
            truth=truth,
        )

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """JSON: the totals, and for each class its count, average precision, and recall, precision and F1 score at its
        threshold."""
        thresholds = self.thresholds or (HALF,) * len(classes)
        found = self.shares >= np.array(thresholds, np.float32)
        hits, counts, told = (found * self.truth).sum(0), self.truth.sum(0), found.sum(0)
        scores = average_precisions(self.shares, self.truth)
        per_class = [
            {
                "class": name,
                "count": int(counts[i]),
                "average_precision": scores[i],
                "threshold": thresholds[i],
                "recall": ratio(hits[i], counts[i]),
                "precision": ratio(hits[i], told[i]),
                "f1": ratio(2 * hits[i], counts[i] + told[i]),
            }
            for i, name in enumerate(classes)
        ]
        return {
            "images": len(self.truth),
            "loss": self.loss,
            "map": self.accuracy,
            "f1": ratio(2 * hits.sum(), counts.sum() + told.sum()),
            "per_class": per_class,
        }


def average_precisions(shares: np.ndarray, truth: np.ndarray) -> list[float | None]:
    """scikit-learn's average precision of each class; None for one that no image has."""
    from sklearn.metrics import average_precision_score

    finite = np.nan_to_num(shares)  # a network that blew up is told by its loss
    columns = zip(truth.T, finite.T, strict=True)
    return [float(average_precision_score(labels, column)) if labels.any() else None for labels, column in columns]


def best_thresholds(shares: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    """For each class the probability from which on it has the highest F1 score, the highest of such; a half for a class
    that no image has."""
    from sklearn.metrics import precision_recall_curve

    found = []
    for labels, column in zip(truth.T, np.nan_to_num(shares).T, strict=True):
        if not labels.any():
            found.append(HALF)
            continue
        precision, recall, values = precision_recall_curve(labels, column)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = np.flatnonzero(f1[:-1] == f1[:-1].max())[-1]
        # Halfway to the next lower probability: equal pictures need not round to equal bits elsewhere.
        below = values[best - 1] if best else 0.0
        found.append(float((values[best] + below) / 2))
    return tuple(found)


def score_function(
    model: keras.Model,
    averages: list[tuple[Any, tf.Variable]],
    classes: int,
    strategy: tf.distribute.Strategy,
    views: Views | None = None,
) -> Callable[[Any, tf.Tensor], dict[str, tf.Tensor]]:
    """(iterator, n) -> of all images of n batches: shares and truth (images, classes), loss and weight (images,).

    For the rest see `evaluation_step.eval_function`.
    """
    views = views or (lambda images: [images])

    @tf.autograph.experimental.do_not_convert
    def replica_step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        with keras.StatelessScope(averages):
            seen = [model(view, training=False) for view in views(tf.cast(batch["image"], tf.float32))]
        shares = tf.add_n([probabilities(x, True) for x in seen]) / len(seen)
        logits = seen[0]
        if len(seen) > 1:
            inside = tf.clip_by_value(shares, 1e-7, 1 - 1e-7)
            logits = tf.math.log(inside) - tf.math.log1p(-inside)
        truth = floats(batch["label"])
        return shares, truth, binary_cross_entropy(logits, truth), batch["weight"]

    @tf.function(reduce_retracing=False, autograph=False)
    def evaluate(iterator: Any, batches: tf.Tensor) -> dict[str, tf.Tensor]:
        def one(i: tf.Tensor, arrays: list[tf.TensorArray]) -> list[tf.TensorArray]:
            outputs = strategy.run(replica_step, args=(next(iterator),))
            parts = (tf.concat(strategy.experimental_local_results(output), 0) for output in outputs)
            return [array.write(i, part) for array, part in zip(arrays, parts, strict=True)]

        arrays = repeated(batches, one, [tf.TensorArray(tf.float32, batches) for _ in range(4)])
        return dict(zip(("shares", "truth", "loss", "weight"), (array.concat() for array in arrays), strict=True))

    return evaluate
