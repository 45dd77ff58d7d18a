"""The update rules, as Keras optimizers whose `update_step` is ours: it passes over the weights as few times as
TensorFlow allows. Keras's own classes hold the state of a rule.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainers.optim.schedules import Constant, make_schedule
from trainers.settings import RunConfig
from trainers.transfer.parts import cut

Common = dict[str, Any]  # tensors, also in tuples and mappings

registered = keras.saving.register_keras_serializable("kcnn")


def make_optimizer(config: RunConfig, steps_per_epoch: int, model: keras.Model) -> keras.Optimizer:
    """The optimizer, built on the variables that the run will ever train, whose gradients come to it already summed.

    It is to be called in the strategy's scope. With layer decay the learning rate is that of the head. A constant rate
    can be set, as Keras's callbacks do.
    """
    first = cut(model, config).trained.trainable_variables
    variables = model.trainable_variables if config.unfreeze_epoch else first
    later = {id(v) for v in variables} - {id(v) for v in first}
    unfrozen = (config.unfreeze_epoch - 1) * steps_per_epoch if config.unfreeze_epoch else 0
    schedule = make_schedule(config, steps_per_epoch)
    rate = config.lr if type(schedule) is Constant and not schedule.warmup else schedule
    optimizer = OPTIMIZERS[config.optimizer](
        config, learning_rate=rate, decay=config.weight_decay, layer_decay=config.layer_decay
    )
    optimizer.begins = [unfrozen if id(v) in later else 0 for v in variables]
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def rule_of(optimizer: keras.Optimizer) -> Any:
    """The optimizer itself; without the LossScaleOptimizer around it, if there is one."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def learning_rate(optimizer: keras.Optimizer) -> tf.Tensor:
    """The learning rate of the next update: the schedule's, or the one that was set, times `lr_scale`."""
    return tf.cast(optimizer.learning_rate, tf.float32) * rule_of(optimizer).lr_scale


class Rule:
    """The common part of our optimizers: gradients are summed already, kernels decay, each block has a learning rate.

    decay: of kernels alone (see `decays`). layer_decay: the learning rate of a block as a share of the next one's (see
    `layer_factors`). lr_scale: a variable that is not among `variables`; it scales the learning rate, and may change
    during a run. begins: after how many updates of the run each variable gets its first, where it is frozen before.
    """

    coupled = False  # whether the step adds the decay to the gradient (see `l2`), or the update applies it

    def __init__(self, *args: Any, decay: float = 0.0, layer_decay: float = 1.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.decay = decay
        self.layer_decay = layer_decay
        self.begins: list[int] = []

    def build(self, variables: Sequence[keras.Variable]) -> None:
        super().build(variables)  # type: ignore[misc]
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.lr_scale = tf.Variable(1.0, trainable=False, dtype=tf.float32, name="lr_scale", aggregation=first)
        self.factors = layer_factors([v.path for v in variables], self.layer_decay)
        self.begins = self.begins or [0] * len(self.factors)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, common: Common) -> None:
        i = self._get_variable_index(variable)  # type: ignore[attr-defined]
        self.change(i, gradient, variable, common, self.decay if decays(variable) else 0.0)

    def _backend_update_step(self, gradients: Any, variables: Any, learning_rate: tf.Tensor) -> None:
        """The update of all variables. What it has in common for them is computed once: for each of them anew, it was a
        quarter of the step's graph."""
        rate = tf.cast(learning_rate, tf.float32) * self.lr_scale
        rates = {factor: rate if factor == 1 else rate * factor for factor in set(self.factors)}
        common = {"rates": rates, **self.common()}
        super()._backend_update_step(gradients, variables, common)  # type: ignore[misc]

    def common(self) -> Common:
        """Tensors that the updates of all variables use."""
        return {}

    def updates(self) -> dict[int, tf.Tensor]:
        """The number of the update that a variable gets now, from 1, by its `begins`: averages of fewer are nearer to
        0."""
        iterations = self.iterations  # type: ignore[attr-defined]
        return {b: tf.maximum(1.0, tf.cast(iterations + 1, tf.float32) - b) for b in set(self.begins)}

    def change(self, i: int, gradient: tf.Tensor, variable: tf.Variable, common: Common, decay: float) -> None:
        """One update of variable number i, whose rate is common["rates"][self.factors[i]]."""
        raise NotImplementedError

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        """The step sums gradients over replicas once, before it clips them; Keras would sum them again."""
        return grads_and_vars

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"decay": self.decay, "layer_decay": self.layer_decay}  # type: ignore[misc]


@registered
class SGD(Rule, keras.optimizers.SGD):
    """m = momentum m - lr g; w += m (Nesterov: momentum m - lr g). Without momentum: w -= lr g.

    Sutskever et al., 2013 (https://proceedings.mlr.press/v28/sutskever13.html), equations 3 and 4.
    """

    coupled = True

    def common(self) -> Common:
        return {"momentum": tf.constant(self.momentum)}

    def change(self, i: int, gradient: tf.Tensor, variable: tf.Variable, common: Common, decay: float) -> None:
        lr = common["rates"][self.factors[i]]
        if not self.momentum:
            return tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=lr, delta=gradient)
        slot = self.momentums[i].value
        return tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=slot.handle,
            lr=lr,
            grad=gradient,
            momentum=common["momentum"],
            use_nesterov=self.nesterov,
        )


@registered
class RMSprop(Rule, keras.optimizers.RMSprop):
    """v = rho v + (1 - rho) g^2; m = momentum m + lr g / sqrt(v + epsilon); w -= m. v starts at 1.

    As TensorFlow 1 had it, which trained the Inceptions, MobileNets and EfficientNets: an epsilon of 1e-3 inside the
    root is one of 0.03 outside. Its origin: Tieleman and Hinton, 2012, lecture 6.5 of a course.
    """

    coupled = True

    def build(self, variables: Sequence[keras.Variable]) -> None:
        super().build(variables)
        for velocity in self._velocities:  # the first updates are softer for it
            velocity.assign(tf.ones(velocity.shape))

    def common(self) -> Common:
        return {name: tf.constant(getattr(self, name)) for name in ("rho", "momentum", "epsilon")}

    def change(self, i: int, gradient: tf.Tensor, variable: tf.Variable, common: Common, decay: float) -> None:
        lr = common["rates"][self.factors[i]]
        square = self._velocities[i].value
        if not self.momentum:
            square.assign(self.rho * square + (1 - self.rho) * tf.square(gradient))
            return variable.assign_sub(lr * gradient * tf.math.rsqrt(square + self.epsilon))
        return tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=square.handle,
            mom=self._momentums[i].value.handle,
            lr=lr,
            grad=gradient,
            **{name: common[name] for name in ("rho", "momentum", "epsilon")},
        )


@registered
class AdamW(Rule, keras.optimizers.Adam):
    """w -= lr (c m / (sqrt(v) + epsilon) + decay w), m and v the averages of g and g^2, c = sqrt(1 - beta2^t) /
    (1 - beta1^t) against their bias at update t.

    Kingma and Ba, 2015 (https://arxiv.org/abs/1412.6980), in the order of computation at the end of section 2; the
    decay: Loshchilov and Hutter, 2019 (https://arxiv.org/abs/1711.05101), times the whole learning rate.
    """

    def common(self) -> Common:
        powers = {b: (self.beta_1**updates, self.beta_2**updates) for b, updates in self.updates().items()}
        return {"powers": powers, "betas": (tf.constant(self.beta_1), tf.constant(self.beta_2)),
                "epsilon": tf.constant(self.epsilon)}  # fmt: skip

    def change(self, i: int, gradient: tf.Tensor, variable: tf.Variable, common: Common, decay: float) -> None:
        lr, (power_1, power_2) = common["rates"][self.factors[i]], common["powers"][self.begins[i]]
        if decay:
            variable.assign_sub(lr * decay * variable)
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[i].value.handle,
            v=self._velocities[i].value.handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=lr,
            beta1=common["betas"][0],
            beta2=common["betas"][1],
            epsilon=common["epsilon"],
            grad=gradient,
        )


@registered
class LAMB(Rule, keras.optimizers.Lamb):
    """w -= lr |w| / |u| u, u = m' / (sqrt(v') + epsilon) + decay w, with Adam's averages without their bias.

    You et al., 2020 (https://arxiv.org/abs/1904.00962), algorithm 2 with phi(z) = z, the norms over one variable.
    Biases and normalization, whose norms tell little, take u as it is; the ratio is 1 where a norm is 0.
    Keras's own leaves the decay out of u and so out of the ratio.
    """

    def common(self) -> Common:
        biases = {b: (1 - self.beta_1**updates, 1 - self.beta_2**updates) for b, updates in self.updates().items()}
        return {"biases": biases}

    def change(self, i: int, gradient: tf.Tensor, variable: tf.Variable, common: Common, decay: float) -> None:
        lr, (bias_1, bias_2) = common["rates"][self.factors[i]], common["biases"][self.begins[i]]
        m, v = self._momentums[i].value, self._velocities[i].value
        mean = self.beta_1 * m + (1 - self.beta_1) * gradient
        square = self.beta_2 * v + (1 - self.beta_2) * tf.square(gradient)
        m.assign(mean)
        v.assign(square)
        mean, square = mean / bias_1, square / bias_2
        update = mean / (tf.sqrt(square) + self.epsilon) + decay * variable
        if decays(variable):
            weight, size = tf.norm(variable), tf.norm(update)
            lr = lr * tf.where((weight > 0) & (size > 0), weight / size, 1.0)
        variable.assign_sub(lr * update)


@registered
class Lion(Rule, keras.optimizers.Lion):
    """w -= lr (sign(beta1 m + (1 - beta1) g) + decay w); m = beta2 m + (1 - beta2) g.

    Chen et al., 2023 (https://arxiv.org/abs/2302.06675), algorithm 2. Its learning rate is 3 to 10 times smaller than
    AdamW's and its decay as much larger.
    """

    def change(self, i: int, gradient: tf.Tensor, variable: tf.Variable, common: Common, decay: float) -> None:
        lr = common["rates"][self.factors[i]]
        m = self._momentums[i].value
        direction = tf.sign(self.beta_1 * m + (1 - self.beta_1) * gradient)
        variable.assign_sub(lr * (direction + decay * variable))
        m.assign(self.beta_2 * m + (1 - self.beta_2) * gradient)


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": lambda config, **shared: SGD(momentum=config.momentum, nesterov=config.momentum > 0, **shared),
    "rmsprop": lambda config, **shared: RMSprop(rho=0.9, momentum=config.momentum, epsilon=config.epsilon, **shared),
    "adamw": lambda config, **shared: AdamW(epsilon=1e-8, **shared),
    "lamb": lambda config, **shared: LAMB(epsilon=1e-6, **shared),
    "lion": lambda config, **shared: Lion(beta_1=0.9, beta_2=0.99, **shared),
}


def l2(optimizer: keras.Optimizer) -> float:
    """The factor by which a weight is added to its gradient."""
    rule = rule_of(optimizer)
    return rule.decay if rule.coupled else 0.0


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
