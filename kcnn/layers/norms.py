"""Normalizations: of batches, of places, of neighbours."""

import functools

import keras
from keras import ops

from kcnn.terminal.processor import cpuinfo

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
else:
    tf = None


@keras.saving.register_keras_serializable("kcnn")
class BatchNormalization(keras.layers.BatchNormalization):
    """Normalizes as Keras's layer does, with its variable names, by TensorFlow's fused operation where there is one.

    gamma * (x - mean) / sqrt(variance + epsilon) + beta over all axes but the channels'; moving statistics keep
    the biased variance, as Keras does. Replicas average their moving statistics; with `synchronized=True` they
    also share the batch's. Ioffe and Szegedy, 2015 (https://arxiv.org/abs/1502.03167).
    """

    def add_weight(self, *args, trainable=True, **kwargs):
        if not trainable:
            kwargs.setdefault("aggregation", "mean")
        return super().add_weight(*args, trainable=trainable, **kwargs)

    def call(self, inputs, training=None, mask=None):
        training = bool(training) and self.trainable
        plain = mask is not None or self.renorm or (training and self.synchronized)
        if tf is None or plain or len(inputs.shape) != 4 or self.axis not in (-1, 3):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        if not training and _fusing_is_slow():
            inputs = tf.ensure_shape(inputs, inputs.shape)  # TensorFlow then fuses it with no convolution before it
        none = tf.constant([], tf.float32)  # one node of a graph, where tf.zeros(0) makes three
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(self.gamma) if self.scale else tf.ones(channels),
            offset=ops.convert_to_tensor(self.beta) if self.center else tf.zeros(channels),
            mean=none if training else ops.convert_to_tensor(self.moving_mean),
            variance=none if training else ops.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            count = inputs.shape[:3].num_elements()  # of values in a channel; unknown where the batch is
            count = tf.cast(tf.size(inputs) // channels, variance.dtype) if count is None else count
            keep, take = (tf.constant(share, variance.dtype) for share in (self.momentum, 1 - self.momentum))
            variance *= (count - 1) / count  # the kernel's is the unbiased one
            self.moving_mean.assign(self.moving_mean * keep + mean * take)
            self.moving_variance.assign(self.moving_variance * keep + variance * take)
        return outputs

    def _moments(self, inputs, mask):
        if not tf or not self.synchronized or mask is not None or len(inputs.shape) != 4 or self.axis not in (-1, 3):
            return super()._moments(inputs, mask)
        # Of each example first: TensorFlow's sums on CPUs lose four digits over a large batch at once.
        mean, variance = _joined(*tf.nn.moments(inputs, [1, 2]))
        replicas = tf.distribute.get_replica_context()
        if replicas is None or replicas.num_replicas_in_sync == 1:
            return mean, variance
        # Replicas have equally many examples, so one exchange serves (Keras makes three).
        parts = replicas.all_gather(tf.stack([mean, variance])[None], axis=0)
        return _joined(parts[:, 0], parts[:, 1])


@functools.cache
def _fusing_is_slow():
    """Tells whether oneDNN has no fast kernel here for a convolution and its normalization at once.

    Without AVX512, the two fused take up to 30 times as long as one after the other.
    """
    flags = cpuinfo().get("flags", "").split()
    return "avx2" in flags and "avx512f" not in flags


def _joined(means, variances):
    """Joins the means and variances of equal parts, (parts, channels), without a difference of large squares."""
    mean, between = tf.nn.moments(means, [0])
    return mean, tf.reduce_mean(variances, 0) + between


@keras.saving.register_keras_serializable("kcnn")
class LayerNormalization(keras.layers.LayerNormalization):
    """Normalizes as Keras's layer does, with its settings and variable names: over the channels of each place.

    gamma * (x - mean) / sqrt(variance + epsilon) + beta. Ba et al., 2016 (https://arxiv.org/abs/1607.06450).
    """


@keras.saving.register_keras_serializable("kcnn")
class GlobalResponseNormalization(keras.layers.Layer):
    """x + gamma * x * n + beta, n = the channel's Euclidean norm over all places, divided by the mean over channels.

    Both weights start at 0, where the layer changes nothing. Woo et al., 2023 (https://arxiv.org/abs/2301.00808).
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=input_shape[-1:], initializer="zeros", name="gamma")
        self.beta = self.add_weight(shape=input_shape[-1:], initializer="zeros", name="beta")

    def call(self, inputs):
        places = tuple(range(1, len(inputs.shape) - 1))
        x = ops.cast(inputs, "float32")  # half precision would overflow
        norm = ops.sqrt(ops.sum(ops.square(x), places, keepdims=True) + 1e-12)  # whose gradient at 0 is no number
        share = norm / (ops.mean(norm, -1, keepdims=True) + self.epsilon)
        scale = 1 + ops.cast(self.gamma, "float32") * share
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(self.beta, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"epsilon": self.epsilon}


@keras.saving.register_keras_serializable("kcnn")
class ResponseNormalization(keras.layers.Layer):
    """x / (1 + alpha / size * sum of x^2 over the `size` nearest channels)^beta.

    Krizhevsky et al., 2012, with GoogLeNet's constants.
    """

    def __init__(self, size=5, alpha=1e-4, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.alpha = alpha
        self.beta = beta

    def call(self, inputs):
        channels, around = inputs.shape[-1], self.size // 2
        squares = ops.pad(ops.square(inputs), [(0, 0)] * (len(inputs.shape) - 1) + [(around, around)])
        near = sum(squares[..., i : i + channels] for i in range(self.size))
        return inputs * ops.power(1 + self.alpha / self.size * near, -self.beta)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"size": self.size, "alpha": self.alpha, "beta": self.beta}
