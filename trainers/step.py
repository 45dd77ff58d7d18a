"""One training step, as a compiled function that runs on every replica alike: gradients, reduction, update."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainers.data.mixing import mix
from trainers.optim.losses import loss_function, right, smooth, targets_of
from trainers.optim.optimizers import decays, l2, learning_rate
from trainers.optim.recompute import chain, gradient
from trainers.optim.watched import kernels_by_stage, norms
from trainers.settings import RunConfig
from trainers.state import State
from trainers.transfer.parts import Parts, cut

Series = dict[str, tf.Tensor]
Tensors = list[tf.Tensor]


class Gradients(NamedTuple):
    """The gradient of a loss, and the other figures of the same images.

    gradients: one for each variable in training, of the sum of w loss / N over the images, N the global batch and w the
    weight of an image's class. loss: that sum, in nats. correct: the number of images that are right. share: the sum
    of w / N. statistics: those of batch normalization after these images.
    """

    gradients: Tensors
    loss: tf.Tensor
    correct: tf.Tensor
    share: tf.Tensor
    statistics: Tensors


@dataclass(frozen=True)
class Variables:
    """The variables that a step reads and writes, by their part in it.

    weights: the trainable variables. statistics: batch normalization's. seed_states: those of random layers, which a
    step replaces by draws of its own.
    """

    weights: list[keras.Variable]
    statistics: list[keras.Variable]
    seed_states: list[keras.Variable]

    @classmethod
    def of(cls, model: keras.Model) -> "Variables":
        seeds = random_states(model)
        own = {id(s) for s in seeds}
        return cls(model.trainable_variables, [v for v in model.non_trainable_variables if id(v) not in own], seeds)


def train_function(
    state: State,
    config: RunConfig,
    strategy: tf.distribute.Strategy,
    class_weights: Sequence[float] | None = None,
    graph: keras.Model | None = None,
) -> Callable[[Any, tf.Tensor], Series]:
    """(iterator, n) -> the series of n steps: loss (nats an example), correct (examples), grad_norm, lr; each (n,).
    With `config.watch` there is another one, (n, 3, stages): see `watched.scalars`."""
    step = replica_step(state, config, strategy.num_replicas_in_sync, class_weights, graph)
    names = ("loss", "correct", "grad_norm", *(("watched",) if config.watch else ()), "lr")

    @tf.function(reduce_retracing=False, autograph=False)
    def train(iterator: Any, steps: tf.Tensor) -> Series:
        def one(i: tf.Tensor, series: dict[str, tf.TensorArray]) -> dict[str, tf.TensorArray]:
            lr = learning_rate(state.optimizer)
            outputs = strategy.run(step, args=(next(iterator),))
            values = [strategy.experimental_local_results(o)[0] for o in outputs]
            return {name: series[name].write(i, v) for name, v in zip(names, [*values, lr], strict=True)}

        series = repeated(steps, one, {name: tf.TensorArray(tf.float32, steps) for name in names})
        return {name: values.stack() for name, values in series.items()}

    return train


def repeated(times: tf.Tensor, body: Callable[[tf.Tensor, Any], Any], values: Any) -> Any:
    """values = body(i, values) for i from 0, so many times, in a graph. What AutoGraph makes of a `for` is the same,
    but it rewrites all functions that the body calls, which takes seconds."""
    return tf.while_loop(lambda i, _: i < times, lambda i, values: (i + 1, body(i, values)), (0, values))[1]


def replica_step(
    state: State,
    config: RunConfig,
    replicas: int,
    class_weights: Sequence[float] | None = None,
    graph: keras.Model | None = None,
) -> Callable[[dict[str, tf.Tensor]], tuple[tf.Tensor, ...]]:
    """One replica's part of a step: {"image": (n, h, w, 3), "label": (n,)} -> the step's loss, correct, grad_norm,
    and with `config.watch` the norms of `watched.kernels_by_stage`. Where images have any number of labels, "label" is
    (n, classes).

    All state is in the variables of the state. `graph` is the state's network for images of another size, whose own
    variables are not used. Of what `config.freeze` leaves as it is, no gradient is computed. With `config.sam` the
    gradient is that of the weights w + sam g / |g|: Foret et al., 2021 (https://arxiv.org/abs/2010.01412), equation 2.
    """
    parts = cut(state.model, config)
    own = Variables.of(parts.trained)
    stages = kernels_by_stage(state.model, own.weights) if config.watch else {}
    gradients_at = gradient_function(state, config, replicas, class_weights, parts, graph)

    @tf.autograph.experimental.do_not_convert
    def step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        context = tf.distribute.get_replica_context()
        weights = [tf.convert_to_tensor(v.value) for v in own.weights]
        index, unit = tf.identity(state.step), loss_scale(state.optimizer)

        def reduced(at: Tensors) -> Gradients:
            return reduction(gradients_at(batch, index, at), context, replicas, weighted=class_weights is not None)

        first = found = reduced(weights)
        norm = length = tf.linalg.global_norm(first.gradients) / unit
        if config.sam:
            reach = config.sam / tf.maximum(norm * unit, 1e-12)
            found = reduced([w + reach * g for w, g in zip(weights, first.gradients, strict=True)])
            length = tf.linalg.global_norm(found.gradients) / unit if config.clip_norm else length
        gradients = found.gradients
        if config.clip_norm:
            gradients = [g * tf.minimum(1.0, config.clip_norm / length) for g in gradients]
        if l2(state.optimizer):
            gradients = decayed(gradients, own.weights, weights, l2(state.optimizer) * unit)
        update(state, config, own, gradients, first.statistics, index)
        if not stages:
            return first.loss, first.correct, norm
        changes = [v.value - w for v, w in zip(own.weights, weights, strict=True)]
        unscaled = [g / unit for g in first.gradients]
        return first.loss, first.correct, norm, norms(stages, unscaled, changes, weights)

    return step


def gradient_function(
    state: State,
    config: RunConfig,
    replicas: int,
    class_weights: Sequence[float] | None,
    own: Parts,
    graph: keras.Model | None = None,
) -> Callable[[dict[str, tf.Tensor], tf.Tensor, Tensors], Gradients]:
    """(batch, index of the step, weights) -> the gradient of one replica's images at these weights.

    A random draw depends on (seed, step, replica, layer) alone. The images go through the network in
    `config.accumulate_steps` parts, one after the other.
    """
    seen = cut(graph, config) if graph else own
    parts, seeds = config.accumulate_steps, random_states(seen.trained)
    forward_backward = forward_backward_function(state, config, class_weights, seen)
    # Layers that talk to other replicas cannot do so from within a function of their own.
    if config.jit or (parts > 1 and not (config.sync_bn and replicas > 1)):
        forward_backward = tf.function(forward_backward, jit_compile=config.jit, reduce_retracing=False)
    start = Variables.of(own.trained).statistics

    def gradients_at(batch: dict[str, tf.Tensor], index: tf.Tensor, weights: Tensors) -> Gradients:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        images, labels = (tf.split(batch[key], parts) for key in ("image", "label"))
        statistics: Tensors = [tf.convert_to_tensor(s.value) for s in start]
        still = [tf.convert_to_tensor(v.value) for v in own.still_weights]
        sums: Any = None
        for i in range(parts):
            # A key for each random layer, and the last one for mixing.
            keys = [draw_key(config.seed, layer, replica, index * parts + i) for layer in range(len(seeds) + 1)]
            # One part after the other, or all would be in memory at once.
            with tf.control_dependencies(tf.nest.flatten(sums or ())):
                *new, statistics = forward_backward(
                    tf.cast(images[i], tf.float32), labels[i], keys, statistics, weights, still
                )
                sums = new if sums is None else tf.nest.map_structure(tf.add, sums, new)
        gradients, loss, correct, share = sums
        return Gradients(gradients, loss, correct, share, statistics)

    return gradients_at


def forward_backward_function(
    state: State, config: RunConfig, class_weights: Sequence[float] | None, parts: Parts
) -> Callable[..., Gradients]:
    """(images float32, labels, keys, statistics, weights, still) -> the gradient at these weights, by automatic
    differentiation, of the loss against mixed and smoothed targets. still: the weights that stay as they are.
    """
    variables, optimizer, classes = Variables.of(parts.trained), state.optimizer, state.plain.output_shape[-1]
    network, loss_of = chain(parts.trained, config.recompute), loss_function(config, class_weights)
    plain = class_weights is None or config.multi_label  # whose loss has the weights
    weight_of = None if plain else tf.constant(class_weights, tf.float32)

    def forward_backward(
        images: tf.Tensor, labels: tf.Tensor, keys: Tensors, statistics: Tensors, weights: Tensors, still: Tensors
    ) -> Gradients:
        *draws, key = keys
        images, targets = mix(
            images, targets_of(labels, classes), key, mixup=config.mixup, cutmix=config.cutmix, switch=config.mix_switch
        )
        share = tf.ones(tf.shape(labels)[:1]) if weight_of is None else tf.linalg.matvec(targets, weight_of)
        if config.label_smoothing:
            targets = smooth(targets, config.label_smoothing, config.multi_label)
        # Inside the scope layers read all variables from the mapping and leave new statistics in it.
        mapping = [
            *zip(variables.seed_states, draws, strict=True),
            *zip(variables.statistics, statistics, strict=True),
            *zip(variables.weights, weights, strict=True),
            *zip(parts.still_weights, still, strict=True),
        ]

        def objective(outputs: Tensors) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
            loss, *aux = (tf.reduce_sum(loss_of(x, targets) * share) / config.global_batch for x in outputs)
            value = loss + sum(w * x for w, x in zip(parts.aux, aux, strict=True))
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                value = optimizer.scale_loss(value)
            return value, (loss, outputs[0])

        with keras.StatelessScope(mapping) as scope:
            inputs = keras.tree.flatten(parts.entrance(images))
            values = {v.path: w for v, w in zip(variables.weights, weights, strict=True)}
            gradients, (loss, logits) = gradient(network, inputs, values, objective, config.jit)
        new_statistics = [current(scope, s) for s in variables.statistics]
        correct = tf.reduce_sum(right(logits, labels))
        return Gradients(gradients, loss, correct, tf.reduce_sum(share) / config.global_batch, new_statistics)

    return forward_backward


def reduction(found: Gradients, context: Any, replicas: int, weighted: bool) -> Gradients:
    """The sums over all replicas, divided by the sum of the images' weights where classes are weighted; the means of
    the statistics."""
    *sums, statistics = found
    if replicas > 1:
        sums, statistics = context.all_reduce(tf.distribute.ReduceOp.SUM, (sums, statistics))
        statistics = [s / replicas for s in statistics]
    gradients, loss, correct, share = sums
    if weighted:
        gradients, loss = [g / share for g in gradients], loss / share
    return Gradients(gradients, loss, correct, share, statistics)


def decayed(gradients: Tensors, variables: Sequence[keras.Variable], weights: Tensors, decay: Any) -> Tensors:
    """g + decay w, for kernels: the gradient with that of decay / 2 |w|^2."""
    return [g + decay * w if decays(v) else g for g, v, w in zip(gradients, variables, weights, strict=True)]


def update(
    state: State, config: RunConfig, variables: Variables, gradients: Tensors, statistics: Tensors, index: tf.Tensor
) -> None:
    """Moves the weights by the optimizer's rule, takes over the new statistics, and lets the average follow:
    average += (1 - decay) (weights - average)."""
    context = tf.distribute.get_replica_context()
    state.optimizer.apply(gradients, variables.weights)
    if statistics:
        write(context, variables.statistics, statistics)
    if state.ema:
        # The average of the first steps follows faster, or it would remember the random start.
        decay = tf.minimum(config.ema, (1.0 + tf.cast(index, tf.float32)) / (10.0 + tf.cast(index, tf.float32)))
        moving = {id(v) for v in (*variables.weights, *variables.statistics)}
        pairs = zip(state.ema, state.model.weights, strict=True)
        averages, weights = zip(*((average, v.value) for average, v in pairs if id(v) in moving), strict=True)
        write(context, averages, list(weights), lambda old, new: old.assign_sub((1 - decay) * (old - new)))
    state.step.assign_add(1)


def loss_scale(optimizer: keras.Optimizer) -> tf.Tensor:
    """The factor by which the loss was multiplied, so that float16 can hold its gradients."""
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return tf.cast(optimizer.dynamic_scale, tf.float32) if scaled else tf.constant(1.0)


def write(
    context: Any,
    variables: Sequence[Any],
    values: list[Any],
    how: Callable[[Any, Any], Any] = lambda old, new: old.assign(new),
) -> None:
    """how(variable, value) on every device; the values are the same on all replicas."""
    targets = [v.value if isinstance(v, keras.Variable) else v for v in variables]

    def merged(strategy: tf.distribute.Strategy, values: list[Any]) -> None:
        for variable, value in zip(targets, values, strict=True):
            strategy.extended.update(variable, how, args=(value,), group=False)

    context.merge_call(merged, args=(values,))


def current(scope: keras.StatelessScope, variable: keras.Variable) -> tf.Tensor:
    """The value that a variable was given in the scope, or its own where it was given none."""
    value = scope.get_current_value(variable)
    return tf.convert_to_tensor(variable.value if value is None else value)


def random_states(model: keras.Model) -> list[keras.Variable]:
    """The states of the model's seed generators, which Keras counts neither as weights nor by replica."""
    weights = {id(v) for v in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def draw_key(seed: int, layer: int, replica: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Two numbers that no other (seed, layer, replica, step) shares; the low byte is left to draws within a layer."""
    return tf.stack([(seed << 32) + (layer << 16) + tf.cast(replica, tf.int64), step * 256])
