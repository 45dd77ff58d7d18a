"""Optimizer from a config: the rules of an update, each in as few passes over the weights as TensorFlow allows.

Keras's optimizers hold the state of a rule; what it does to a weight is a function of ours in `RULES`.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from trainers.config import TrainConfig
from trainers.schedules import Constant, make_schedule


def make_optimizer(config: TrainConfig, steps_per_epoch: int, model: keras.Model) -> keras.Optimizer:
    """The optimizer, built on the model's trainable variables, whose gradients come to it already summed.

    To be called in the strategy's scope. Its learning rate is the schedule's times the variable `optimizer.lr_scale`,
    which may be changed while a run goes on and is none of `optimizer.variables`; with layer decay it is that of the
    head. Where it is constant it can be set, too, as Keras's callbacks do.
    """
    rule, variables, schedule = (
        RULES[config.optimizer],
        model.trainable_variables,
        make_schedule(config, steps_per_epoch),
    )
    inner = rule.make(config, config.lr if type(schedule) is Constant and not schedule.warmup else schedule)
    first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    scale = tf.Variable(1.0, trainable=False, dtype=tf.float32, name="lr_scale", aggregation=first)
    inner._get_current_learning_rate = lambda: type(inner)._get_current_learning_rate(inner) * scale
    inner.build(variables)
    if config.optimizer == "rmsprop":  # TensorFlow's average of squares starts at 1, which softens the first updates
        for velocity in inner._velocities:
            velocity.assign(tf.ones(velocity.shape))
    factors = layer_factors([v.path for v in variables], config.layer_decay)
    decay = config.weight_decay if rule.decoupled else 0.0

    def update_step(gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor) -> None:
        i = inner._get_variable_index(variable)
        rate = tf.cast(lr, tf.float32) * factors[i]
        rule.update(inner, i, gradient, variable, rate, decay if decays(variable) else 0.0)

    inner.update_step = update_step
    # The step sums gradients over replicas once, before it clips them; Keras would sum them again.
    inner._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars
    optimizer = inner
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(inner)
        optimizer.build(variables)
    optimizer.lr_scale = scale
    return optimizer


def sgd(optimizer: Any, i: int, gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor, decay: float) -> None:
    """m = momentum m - lr g; w += m (Nesterov: momentum m - lr g). Without momentum: w -= lr g.

    Sutskever et al., 2013 (https://proceedings.mlr.press/v28/sutskever13.html), equations 3 and 4.
    """
    if not optimizer.momentum:
        return tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=lr, delta=gradient)
    slot = optimizer.momentums[i].value
    return tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=slot.handle,
        lr=lr,
        grad=gradient,
        momentum=optimizer.momentum,
        use_nesterov=optimizer.nesterov,
    )


def rmsprop(optimizer: Any, i: int, gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor, decay: float) -> None:
    """v = rho v + (1 - rho) g^2; m = momentum m + lr g / sqrt(v + epsilon); w -= m. v starts at 1.

    As TensorFlow 1 had it, which trained the Inceptions, MobileNets and EfficientNets: an epsilon of 1e-3 inside the
    root is one of 0.03 outside. Its origin: Tieleman and Hinton, 2012, lecture 6.5 of a course.
    """
    square = optimizer._velocities[i].value
    if not optimizer.momentum:
        square.assign(optimizer.rho * square + (1 - optimizer.rho) * tf.square(gradient))
        return variable.assign_sub(lr * gradient * tf.math.rsqrt(square + optimizer.epsilon))
    return tf.raw_ops.ResourceApplyRMSProp(
        var=variable.handle,
        ms=square.handle,
        mom=optimizer._momentums[i].value.handle,
        lr=lr,
        rho=optimizer.rho,
        momentum=optimizer.momentum,
        epsilon=optimizer.epsilon,
        grad=gradient,
    )


def adamw(optimizer: Any, i: int, gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor, decay: float) -> None:
    """w -= lr (c m / (sqrt(v) + epsilon) + decay w), m and v the averages of g and g^2, c = sqrt(1 - beta2^t) /
    (1 - beta1^t) against their bias at update t.

    Kingma and Ba, 2015 (https://arxiv.org/abs/1412.6980), in the order of computation at the end of section 2; the
    decay: Loshchilov and Hutter, 2019 (https://arxiv.org/abs/1711.05101), times the whole learning rate.
    """
    if decay:
        variable.assign_sub(lr * decay * variable)
    updates = tf.cast(optimizer.iterations + 1, tf.float32)
    return tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=optimizer._momentums[i].value.handle,
        v=optimizer._velocities[i].value.handle,
        beta1_power=optimizer.beta_1**updates,
        beta2_power=optimizer.beta_2**updates,
        lr=lr,
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        epsilon=optimizer.epsilon,
        grad=gradient,
    )


def lamb(optimizer: Any, i: int, gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor, decay: float) -> None:
    """w -= lr |w| / |u| u, u = m' / (sqrt(v') + epsilon) + decay w, with Adam's averages without their bias.

    You et al., 2020 (https://arxiv.org/abs/1904.00962), algorithm 2 with phi(z) = z, the norms over one variable.
    Biases and normalization, whose norms tell little, take u as it is; the ratio is 1 where a norm is 0.
    Keras's own leaves the decay out of u and so out of the ratio.
    """
    updates = tf.cast(optimizer.iterations + 1, tf.float32)
    m, v = optimizer._momentums[i].value, optimizer._velocities[i].value
    mean = optimizer.beta_1 * m + (1 - optimizer.beta_1) * gradient
    square = optimizer.beta_2 * v + (1 - optimizer.beta_2) * tf.square(gradient)
    m.assign(mean)
    v.assign(square)
    mean, square = mean / (1 - optimizer.beta_1**updates), square / (1 - optimizer.beta_2**updates)
    update = mean / (tf.sqrt(square) + optimizer.epsilon) + decay * variable
    if decays(variable):
        weight, size = tf.norm(variable), tf.norm(update)
        lr = lr * tf.where((weight > 0) & (size > 0), weight / size, 1.0)
    variable.assign_sub(lr * update)


def lion(optimizer: Any, i: int, gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor, decay: float) -> None:
    """w -= lr (sign(beta1 m + (1 - beta1) g) + decay w); m = beta2 m + (1 - beta2) g.

    Chen et al., 2023 (https://arxiv.org/abs/2302.06675), algorithm 2. Its learning rate is 3 to 10 times smaller than
    AdamW's and its decay as much larger.
    """
    m = optimizer._momentums[i].value
    direction = tf.sign(optimizer.beta_1 * m + (1 - optimizer.beta_1) * gradient)
    variable.assign_sub(lr * (direction + decay * variable))
    m.assign(optimizer.beta_2 * m + (1 - optimizer.beta_2) * gradient)


@dataclass(frozen=True)
class Rule:
    """make: of a config and a learning rate, the Keras optimizer whose variables the rule uses. update: of that, the
    variable's place in it, gradient, variable, learning rate and decay, one update. decoupled: whether the decay is
    the update's part; where it is not, the step adds it to the gradient (see `l2`)."""

    make: Callable[[TrainConfig, Any], keras.Optimizer]
    update: Callable[[Any, int, tf.Tensor, tf.Variable, tf.Tensor, float], None]
    decoupled: bool = True


RULES = {
    "sgd": Rule(lambda c, lr: keras.optimizers.SGD(lr, c.momentum, nesterov=c.momentum > 0), sgd, decoupled=False),
    "rmsprop": Rule(
        lambda c, lr: keras.optimizers.RMSprop(lr, rho=0.9, momentum=c.momentum, epsilon=c.epsilon),
        rmsprop,
        decoupled=False,
    ),
    "adamw": Rule(lambda c, lr: keras.optimizers.Adam(lr, epsilon=1e-8), adamw),
    "lamb": Rule(lambda c, lr: keras.optimizers.Lamb(lr, epsilon=1e-6), lamb),
    "lion": Rule(lambda c, lr: keras.optimizers.Lion(lr, beta_1=0.9, beta_2=0.99), lion),
}


def l2(config: TrainConfig) -> float:
    """The factor of a weight that is added to its gradient."""
    return 0.0 if RULES[config.optimizer].decoupled else config.weight_decay


def decays(variable: keras.Variable) -> bool:
    """Kernels decay; biases and the scales and offsets of normalization do not (https://arxiv.org/abs/1706.02677)."""
    return len(variable.shape) > 1


def layer_factors(paths: Sequence[str], decay: float) -> list[float]:
    """decay^k for a variable k blocks below the head; stem and head count as a block each.

    Lower layers are more general and should change less when a network is fine-tuned: Howard and Ruder, 2018
    (https://arxiv.org/abs/1801.06146), section 3.2; by powers: Bao et al., 2021 (https://arxiv.org/abs/2106.08254).
    """
    places = [place(path) for path in paths]
    order = sorted(set(places))
    return [decay ** (len(order) - 1 - order.index(p)) for p in places]


def place(path: str) -> tuple[float, float]:
    """Order in the network of the block that a variable's path, like stage3_block2_expand/kernel, belongs to."""
    found = re.search(r"(?:^|/)(?:stem|stage(\d+)_block(\d+))", path)
    return (int(found[1] or 0), int(found[2] or 0)) if found else (math.inf, 0)
