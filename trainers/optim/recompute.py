"""The gradient of a network in training, for which all tensors are kept, or those between its segments alone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from kcnn.analysis.graph import Graph, leaves, walk
from kcnn.analysis.segments import joins, segments

Tensors = list[tf.Tensor]
Key = int | str  # of a gradient: the number of a tensor, or the path of a variable


@dataclass(frozen=True)
class Segment:
    """A part of a network in training.

    run: from its inputs to its outputs. inputs, outputs: the numbers of these tensors in the network. variables: those
    of its layers, of which it may write some.
    """

    run: Callable[[Tensors], Tensors]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variables: list[keras.Variable]


@dataclass(frozen=True)
class Chain:
    """A network as segments that run one after the other; inputs and outputs are the network's."""

    segments: list[Segment]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def chain(model: keras.Model, recompute: bool) -> Chain:
    """The network in one segment, or in those of `kcnn.analysis.segments`."""
    if recompute:
        graph = walk(model)
        nodes = {call.outputs: node for call, node in zip(graph.calls, leaves(model), strict=True)}
        return Chain([segment(part, nodes) for part in segments(graph)], graph.inputs, graph.outputs)
    inputs, outputs = tuple(range(len(model.inputs))), tuple(range(-len(model.outputs), 0))

    def run(x: Tensors) -> Tensors:
        return keras.tree.flatten(model(x if len(x) > 1 else x[0], training=True))

    return Chain([Segment(run, inputs, outputs, [])], inputs, outputs)


def segment(part: Graph, nodes: Mapping[tuple[int, ...], Any]) -> Segment:
    """The part of a network whose calls of layers are these nodes of Keras's."""
    layers = [nodes[call.outputs].operation for call in part.calls]
    variables = {id(v): v for layer in layers for v in getattr(layer, "variables", ())}

    def run(inputs: Tensors) -> Tensors:
        values = dict(zip(part.inputs, inputs, strict=True))
        for call in part.calls:
            made = called(nodes[call.outputs], [values[i] for i in call.inputs], joined=joins(part, call))
            values |= zip(call.outputs, made, strict=True)
        return [values[i] for i in part.outputs]

    return Segment(run, part.inputs, part.outputs, list(variables.values()))


def called(node: Any, inputs: Tensors, joined: bool) -> Tensors:
    """What the layer of a node makes of these inputs in training; one that joins channels takes any number of them."""
    if joined:
        return [tf.concat([tf.cast(x, node.outputs[0].dtype) for x in inputs], -1)]
    args, kwargs = node.arguments.fill_in({id(x): y for x, y in zip(node.input_tensors, inputs, strict=True)})
    if isinstance(node.operation, keras.layers.Layer):
        kwargs["training"] = True  # as a model tells its layers, whatever the node has
    return keras.tree.flatten(node.operation(*args, **kwargs))


def gradient(
    network: Chain,
    inputs: Tensors,
    weights: dict[str, tf.Tensor],
    objective: Callable[[Tensors], tuple[tf.Tensor, Any]],
    compiled: bool = False,
) -> tuple[Tensors, Any]:
    """The gradient of the objective at the weights, by automatic differentiation, and what else the objective returns.

    It is called in a stateless scope that has a value for each variable of the network. Of all segments but the last
    the insides are computed again, from the same values, when their gradient is; new statistics are those of the first
    time. weights: the values of the variables of these paths. objective: from the network's outputs. compiled: whether
    XLA compiles this.
    """
    *early, last = network.segments
    tensors: dict[Key, tf.Tensor] = dict(zip(network.inputs, inputs, strict=True))
    states = []
    for s in early:
        states.append({v.path: (v, tf.convert_to_tensor(v.value)) for v in s.variables})
        tensors |= zip(s.outputs, s.run([tensors[i] for i in s.inputs]), strict=True)
    sources = {i: x for i, x in tensors.items() if i not in network.inputs} | weights
    with tf.GradientTape() as tape:
        tape.watch(list(sources.values()))
        tensors |= zip(last.outputs, last.run([tensors[i] for i in last.inputs]), strict=True)
        value, more = objective([tensors[i] for i in network.outputs])
    slopes: dict[Key, tf.Tensor] = {}
    add(slopes, sources, tape.gradient(value, list(sources.values())))
    for s, state in zip(reversed(early), reversed(states), strict=True):
        own = {path: value for path, (_, value) in state.items() if path in weights}
        sources = {i: tensors[i] for i in s.inputs} | own
        arriving = {i: slopes.pop(i) for i in s.outputs if i in slopes}
        again = after(arriving.values(), sources, compiled)
        scope = keras.StatelessScope([(v, again.get(path, value)) for path, (v, value) in state.items()])
        with tf.GradientTape() as tape, scope:
            tape.watch(list(again.values()))
            made = dict(zip(s.outputs, s.run([again[i] for i in s.inputs]), strict=True))
        found = tape.gradient([made[i] for i in arriving], list(again.values()), list(arriving.values()))
        add(slopes, again, found)
    return [slopes.get(path) for path in weights], more


def add(sums: dict[Key, tf.Tensor], keys: Iterable[Key], gradients: Iterable[tf.Tensor | None]) -> None:
    """Adds gradients to the sums so far."""
    for key, g in zip(keys, gradients, strict=True):
        if g is not None:
            sums[key] = sums[key] + g if key in sums else g


def after(events: Iterable[tf.Tensor], tensors: dict[Key, tf.Tensor], compiled: bool) -> dict[Key, tf.Tensor]:
    """The tensors, but not before the events.

    Or all would be recomputed at once, or not at all, because it is the same as the first time.
    """
    if compiled:  # XLA heeds no control dependencies, and on CPUs no barriers, either
        first = tf.reshape(next(iter(events)), [-1])[0]
        zero = tf.where(first == first, 0.0, float("nan"))
        return {key: x + tf.cast(zero, x.dtype) for key, x in tensors.items()}
    with tf.control_dependencies(list(events)):
        return {key: tf.identity(x) for key, x in tensors.items()}
