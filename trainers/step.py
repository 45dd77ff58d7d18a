"""One training step and one evaluation, as compiled functions that run on every replica alike."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainers.config import TrainConfig
from trainers.job import SERIES
from trainers.losses import cross_entropy, loss_function, one_hot, smooth
from trainers.mixing import mix
from trainers.optimizers import decays, l2
from trainers.state import State, architecture

Series = dict[str, tf.Tensor]
Sums = dict[str, tf.Tensor]
Views = Callable[[tf.Tensor], list[tf.Tensor]]


def train_function(
    state: State,
    config: TrainConfig,
    strategy: tf.distribute.Strategy,
    jit: bool,
    class_weights: Sequence[float] | None = None,
    graph: keras.Model | None = None,
) -> Callable[[Any, tf.Tensor], Series]:
    """(iterator, n) -> the series of n steps: loss (nats an example), correct (examples), grad_norm, lr; each (n,)."""
    step = replica_step(state, config, strategy.num_replicas_in_sync, jit, class_weights, graph)

    @tf.function(reduce_retracing=False)
    def train(iterator: Any, steps: tf.Tensor) -> Series:
        series = {name: tf.TensorArray(tf.float32, steps) for name in SERIES}
        for i in tf.range(steps):
            lr = tf.cast(state.optimizer.learning_rate, tf.float32)
            outputs = strategy.run(step, args=(next(iterator),))
            values = [strategy.experimental_local_results(o)[0] for o in outputs]
            series = {name: series[name].write(i, v) for name, v in zip(SERIES, [*values, lr], strict=True)}
        return {name: values.stack() for name, values in series.items()}

    return train


def replica_step(
    state: State,
    config: TrainConfig,
    replicas: int,
    jit: bool,
    class_weights: Sequence[float] | None = None,
    graph: keras.Model | None = None,
) -> Callable[[dict[str, tf.Tensor]], tuple[tf.Tensor, ...]]:
    """One replica's part of a step: {"image": (n, h, w, 3), "label": (n,)} -> the step's loss, correct, grad_norm.

    All state is in the variables of the state. A random draw depends on (seed, step, replica, layer) alone. The n
    images go through the network in `config.accumulate_steps` parts, one after the other. The gradient is that of
    sum(w loss) / sum(w) over all replicas and parts, with w the label's class weight. `graph` is the state's network
    for images of another size, whose own variables are not used.
    """
    optimizer, ema, parts, loss_of = state.optimizer, state.ema, config.accumulate_steps, loss_function(config)
    graph, classes = graph or state.model, state.plain.output_shape[-1]
    variables = state.model.trainable_variables
    kernels = [v.value for v in variables]
    weights = [v.value for v in state.model.weights]
    seeds, own = random_states(graph), {id(s) for s in random_states(state.model)}
    statistics = [v for v in state.model.non_trainable_variables if id(v) not in own]
    seeds_too = {id(s) for s in seeds}
    inner_statistics = [v for v in graph.non_trainable_variables if id(v) not in seeds_too]
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    aux_weights = [a.weight for a in architecture(config).aux]
    decay_of = [l2(config) if decays(v) else 0.0 for v in variables]
    weight_of = None if class_weights is None else tf.constant(class_weights, tf.float32)
    # Layers that talk to other replicas cannot do so from within a function of their own.
    apart = jit or (parts > 1 and not (config.sync_bn and replicas > 1))

    def forward_backward(
        images: tf.Tensor, labels: tf.Tensor, draws: list[tf.Tensor], before: list[tf.Tensor], values: list[tf.Tensor]
    ) -> tuple[Any, ...]:
        *draws, key = draws
        images, targets = mix(images, one_hot(labels, classes), key, mixup=config.mixup, cutmix=config.cutmix,
                              switch=config.mix_switch)  # fmt: skip
        share = tf.ones_like(labels, tf.float32) if weight_of is None else tf.linalg.matvec(targets, weight_of)
        targets = smooth(targets, config.label_smoothing) if config.label_smoothing else targets
        # Inside the scope layers read all variables from the mapping and leave new statistics in it.
        mapping = [*zip(seeds, draws, strict=True), *zip(inner_statistics, before, strict=True),
                   *zip(graph.trainable_variables, values, strict=True)]  # fmt: skip
        with tf.GradientTape() as tape, keras.StatelessScope(mapping) as scope:
            tape.watch(values)
            outputs = graph(images, training=True)
            logits, *others = outputs if isinstance(outputs, list) else [outputs]
            loss, *asides = (
                tf.reduce_sum(loss_of(x, targets) * share) / config.global_batch for x in (logits, *others)
            )
            objective = loss + sum(w * aside for w, aside in zip(aux_weights, asides, strict=True))
            objective = optimizer.scale_loss(objective) if scaled else objective
        gradients = tape.gradient(objective, values)
        moved = [current(scope, s) for s in inner_statistics]
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, -1, labels.dtype) == labels, tf.float32))
        return gradients, loss, correct, tf.reduce_sum(share) / config.global_batch, moved

    compiled = tf.function(forward_backward, jit_compile=jit, reduce_retracing=False) if apart else forward_backward

    @tf.autograph.experimental.do_not_convert
    def step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        context = tf.distribute.get_replica_context()
        number = tf.identity(state.step)
        images, labels = (tf.split(batch[key], parts) for key in ("image", "label"))

        def differentiate(values: list[tf.Tensor]) -> tuple[Any, ...]:
            """Gradients at these weights, loss, correct, of all replicas; new statistics."""
            moved: list[tf.Tensor] = [tf.convert_to_tensor(s.value) for s in statistics]
            sums: Any = None
            for i in range(parts):
                draws = [
                    draw_key(config.seed, layer, context.replica_id_in_sync_group, number * parts + i)
                    for layer in range(len(seeds) + 1)  # the last for mixing
                ]
                # One part after the other, or all would be in memory at once.
                with tf.control_dependencies(tf.nest.flatten(sums or ())):
                    *new, moved = compiled(tf.cast(images[i], tf.float32), labels[i], draws, moved, values)
                    sums = new if sums is None else tf.nest.map_structure(tf.add, sums, new)
            if replicas > 1:
                sums, moved = context.all_reduce(tf.distribute.ReduceOp.SUM, (sums, moved))
                moved = [m / replicas for m in moved]
            gradients, loss, correct, share = sums
            if weight_of is not None:
                gradients, loss = [g / share for g in gradients], loss / share
            return gradients, loss, correct, moved

        here = [tf.convert_to_tensor(k) for k in kernels]
        gradients, loss, correct, moved = differentiate(here)
        unit = tf.cast(optimizer.dynamic_scale, tf.float32) if scaled else tf.constant(1.0)
        norm = tf.linalg.global_norm(gradients) / unit
        if config.sam:
            reach = config.sam / tf.maximum(norm * unit, 1e-12)
            gradients, *_ = differentiate([w + reach * g for w, g in zip(here, gradients, strict=True)])
        if config.clip_norm:
            length = tf.linalg.global_norm(gradients) / unit if config.sam else norm
            gradients = [g * tf.minimum(1.0, config.clip_norm / length) for g in gradients]
        if any(decay_of):
            gradients = [g + d * unit * v if d else g for g, v, d in zip(gradients, here, decay_of, strict=True)]
        optimizer.apply(gradients, variables)
        if moved:
            update(context, statistics, moved)
        if ema:
            # The average of the first steps follows faster, or it would remember the random start.
            decay = tf.minimum(config.ema, (1.0 + tf.cast(number, tf.float32)) / (10.0 + tf.cast(number, tf.float32)))
            update(context, ema, weights, lambda old, new: old.assign_sub((1 - decay) * (old - new)))
        state.step.assign_add(1)
        return loss, correct, norm

    return step


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
    def write(means: list[tf.Tensor]) -> None:
        update(tf.distribute.get_replica_context(), targets, means)

    @tf.function(reduce_retracing=False)
    def precise(iterator: Any, batches: tf.Tensor) -> None:
        sums = [tf.zeros(v.shape) for v, _ in statistics]
        for _ in tf.range(batches):
            parts = strategy.run(measure, args=(next(iterator),))
            sums = [s + strategy.reduce(tf.distribute.ReduceOp.SUM, p, None) for s, p in zip(sums, parts, strict=True)]
        strategy.run(write, args=([s / tf.cast(batches * replicas, tf.float32) for s in sums],))

    return precise


def update(context: Any, variables: list[Any], values: list[Any],
           how: Callable[[Any, Any], Any] = lambda old, new: old.assign(new)) -> None:  # fmt: skip
    """how(variable, value) on every device; the values are the same on all replicas."""
    targets = [v.value if isinstance(v, keras.Variable) else v for v in variables]

    def merged(strategy: tf.distribute.Strategy, values: list[Any]) -> None:
        for variable, value in zip(targets, values, strict=True):
            strategy.extended.update(variable, how, args=(value,), group=False)

    context.merge_call(merged, args=(values,))


def current(scope: keras.StatelessScope, variable: keras.Variable) -> tf.Tensor:
    """The value a variable was given in the scope, or its own where it was given none."""
    value = scope.get_current_value(variable)
    return tf.convert_to_tensor(variable.value if value is None else value)


def random_states(model: keras.Model) -> list[keras.Variable]:
    """The states of the model's seed generators, which Keras counts neither as weights nor by replica."""
    weights = {id(v) for v in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def draw_key(seed: int, layer: int, replica: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Two numbers that no other (seed, layer, replica, step) shares; the low byte is left to draws within a layer."""
    return tf.stack([(seed << 32) + (layer << 16) + tf.cast(replica, tf.int64), step * 256])


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
