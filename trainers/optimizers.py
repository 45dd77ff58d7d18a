"""Optimizer and learning-rate schedule from a config."""

import functools
import math

import keras
import tensorflow as tf
from keras import ops

from trainers.config import TrainConfig


@keras.saving.register_keras_serializable("kcnn")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0 to `peak` in `warmup` updates, then half a cosine down to 0 at update `total`.

    Loshchilov and Hutter, 2017 (https://arxiv.org/abs/1608.03983); warmup: Goyal et al., 2017
    (https://arxiv.org/abs/1706.02677).
    """

    def __init__(self, peak: float, warmup: int, total: int):
        self.peak, self.warmup, self.total = peak, warmup, total

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rising = (step + 1) / max(1, self.warmup)
        progress = ops.clip((step - self.warmup) / max(1, self.total - self.warmup), 0.0, 1.0)
        return self.peak * ops.where(step < self.warmup, rising, 0.5 * (1 + ops.cos(math.pi * progress)))

    def get_config(self):
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


def make_optimizer(config: TrainConfig, steps_per_epoch: int, model: keras.Model) -> keras.Optimizer:
    """The optimizer, built on the model's trainable variables, whose gradients come to it already summed."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    constant = config.schedule == "constant" and warmup == 0
    lr = config.lr if constant else WarmupCosine(config.lr, warmup, config.epochs * steps_per_epoch)
    optimizer = OPTIMIZERS[config.optimizer](config, lr)
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if not decays(v)])
    optimizer.build(model.trainable_variables)
    # The step sums gradients over replicas once, before it clips them; Keras would sum them again.
    inner = optimizer
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(inner)
        optimizer.build(model.trainable_variables)
    inner._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars
    if fused := FUSED.get(config.optimizer):
        inner.update_step = functools.partial(fused, inner)
    return optimizer


OPTIMIZERS = {
    # L2 in the gradient is added by the step: Keras's weight_decay of SGD is the decoupled one.
    "sgd": lambda config, lr: keras.optimizers.SGD(lr, momentum=config.momentum, nesterov=config.momentum > 0),
    "adamw": lambda config, lr: keras.optimizers.AdamW(lr, weight_decay=config.weight_decay, epsilon=1e-8),
}


def fused_sgd(optimizer: keras.optimizers.SGD, gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor) -> None:
    """Keras's update, m = momentum m - lr g; w += m (Nesterov: momentum m - lr g), in one pass over the weights."""
    if not optimizer.momentum:
        return keras.optimizers.SGD.update_step(optimizer, gradient, variable, lr)
    slot = optimizer.momentums[optimizer._get_variable_index(variable)].value
    return tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=slot.handle,
        lr=tf.cast(lr, tf.float32),
        grad=gradient,
        momentum=optimizer.momentum,
        use_nesterov=optimizer.nesterov,
    )


def fused_adam(optimizer: keras.optimizers.AdamW, gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor) -> None:
    """Keras's update, w -= lr m' / (sqrt(v') + epsilon) of the averages without their bias, in one pass."""
    index = optimizer._get_variable_index(variable)
    updates = tf.cast(optimizer.iterations + 1, tf.float32)
    return tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=optimizer._momentums[index].value.handle,
        v=optimizer._velocities[index].value.handle,
        beta1_power=optimizer.beta_1**updates,
        beta2_power=optimizer.beta_2**updates,
        lr=tf.cast(lr, tf.float32),
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        epsilon=optimizer.epsilon,
        grad=gradient,
    )


# One kernel a weight, where Keras runs eight operations over it.
FUSED = {"sgd": fused_sgd, "adamw": fused_adam}


def l2(config: TrainConfig) -> float:
    """The factor of a weight that is added to its gradient."""
    return config.weight_decay if config.optimizer == "sgd" else 0.0


def decays(variable: keras.Variable) -> bool:
    """Kernels decay; biases and the scales and offsets of normalization do not (https://arxiv.org/abs/1706.02677)."""
    return len(variable.shape) > 1
