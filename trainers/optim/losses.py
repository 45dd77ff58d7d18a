"""Losses of logits against soft targets, in float32 whatever the precision.

All take logits (batch, classes) and targets (batch, classes), shares that are 1 in total, and give (batch,) in nats.
"""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from trainers.settings import RunConfig

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """-sum(t log p), p = softmax(logits)."""
    return -tf.reduce_sum(floats(targets) * tf.nn.log_softmax(floats(logits)), -1)


def binary_cross_entropy(logits: tf.Tensor, targets: tf.Tensor, weights: Sequence[float] | None = None) -> tf.Tensor:
    """-mean(w (t log p + (1 - t) log(1 - p))) over classes, p = sigmoid(logits): each class a question of its own, with
    the weight w, by default 1.

    Wightman et al., 2021, "ResNet strikes back" (https://arxiv.org/abs/2110.00476), section 3.3. The paper does not say
    whether it is the sum or the mean; its code, timm's, takes the mean, and so the learning rates are for that.
    """
    losses = tf.nn.sigmoid_cross_entropy_with_logits(floats(targets), floats(logits))
    return tf.reduce_mean(losses if weights is None else losses * tf.constant(weights, tf.float32), -1)


def focal(logits: tf.Tensor, targets: tf.Tensor, gamma: float = 2.0) -> tf.Tensor:
    """-sum(t (1 - p)^gamma log p), p = softmax(logits): examples that are right already count less.

    Lin et al., 2017 (https://arxiv.org/abs/1708.02002), equation 4, for one of several classes instead of yes or no;
    its alpha is a matter of class weights. gamma 0 is cross entropy.
    """
    log_p = tf.nn.log_softmax(floats(logits))
    wrong = tf.maximum(-tf.math.expm1(log_p), 1e-12)  # 1 - p to its last bit; the root of 0 has no gradient
    return -tf.reduce_sum(floats(targets) * wrong**gamma * log_p, -1)


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "bce": binary_cross_entropy, "focal": focal}


def loss_function(config: RunConfig, class_weights: Sequence[float] | None = None) -> Loss:
    """The loss of a configuration, with its parameters. Where images have any number of labels, the weight of a class
    is that of its question; otherwise the weights are no matter here, as they are those of whole images."""
    if config.multi_label and class_weights is not None:
        return functools.partial(binary_cross_entropy, weights=class_weights)
    if config.loss == "focal":
        return functools.partial(focal, gamma=config.focal_gamma)
    return LOSSES[config.loss]


def probabilities(logits: tf.Tensor, multi_label: bool) -> tf.Tensor:
    """float32 (batch, classes): of one class among all, or, with `multi_label`, of each class apart."""
    return tf.sigmoid(floats(logits)) if multi_label else tf.nn.softmax(floats(logits))


def one_hot(labels: tf.Tensor, classes: int) -> tf.Tensor:
    """(batch,) -> (batch, classes): 1 at the label."""
    return tf.one_hot(labels, classes, dtype=tf.float32)


def targets_of(labels: tf.Tensor, classes: int) -> tf.Tensor:
    """(batch, classes): labels (batch,) as `one_hot` has them; sets of labels, (batch, classes) of 0 and 1, as
    floats."""
    return floats(labels) if labels.shape.rank == 2 else one_hot(labels, classes)


def smooth(targets: tf.Tensor, smoothing: float, multi_label: bool = False) -> tf.Tensor:
    """(1 - smoothing) t + smoothing / classes: Szegedy et al., 2016 (https://arxiv.org/abs/1512.00567), section 7. With
    `multi_label` each class is a question of two answers: (1 - smoothing) t + smoothing / 2.
    """
    return (1 - smoothing) * targets + smoothing / (2 if multi_label else targets.shape[-1])


def right(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """(batch,) of 0 and 1: whether the likeliest class is the label, or one of the set of labels."""
    if len(labels.shape) == 2:
        return tf.gather(floats(labels), tf.argmax(logits, -1), batch_dims=1)
    return floats(tf.argmax(logits, -1, labels.dtype) == labels)


def floats(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.float32)
