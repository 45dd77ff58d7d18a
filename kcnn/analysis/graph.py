"""One walk over a Keras functional graph: every call of every layer, with what its rule says of it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from kcnn.analysis.rules import Axis, Field, Shape, rule
from kcnn.arch import MOST_PIXELS
from kcnn.errors import InputError, shown, whole


@dataclass(frozen=True)
class LayerFacts:
    """One call of one layer. Shapes are without the batch; sizes and strides in pixels of the input.

    params: its trainable weights, at its first call; macs: multiply-adds of convolutions and dense layers, without
    biases; activations: output elements of convolutions. inputs, outputs: numbers of tensors, which index the
    shapes beside. keeps: what back-propagation needs, see Rule.
    """

    name: str
    kind: str
    shape: Shape
    params: int
    params_nontrainable: int
    macs: int
    activations: int
    field: Field | None
    keeps: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def receptive_field(self) -> int | None:
        """Of the larger of height and width; None for a tensor without places."""
        return max(axis.size for axis in self.field) if self.field else None

    @property
    def stride(self) -> float | None:
        return max(axis.jump for axis in self.field) if self.field else None

    @property
    def centre(self) -> float | None:
        """Of what the first output sees, in pixels from the middle of the input's first one."""
        return self.field[0].centre if self.field else None


@dataclass(frozen=True)
class Graph:
    """All calls in an order in which they can run; shapes[n] is that of tensor n."""

    calls: tuple[LayerFacts, ...]
    shapes: tuple[Shape, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def walk(model: keras.Model, resolution: int | None = None) -> Graph:
    """The graph of a functional (or built Sequential) model, models inside it opened up.

    resolution: pixels, for a model whose input leaves its size open. Raises InputError for a layer without a rule
    and a model without a graph.
    """
    shapes: list[Shape] = []
    fields: list[Field | None] = []
    calls: list[LayerFacts] = []
    counted: set[int] = set()

    def new(shape: Shape, field: Field | None) -> int:
        shapes.append(shape)
        fields.append(field)
        return len(shapes) - 1

    def enter(model: Any, tensors: list[tuple[int, Any]], path: str) -> list[tuple[int, Any]]:
        function = opened(model)
        place = {id(x): t for x, t in zip(function.inputs, tensors, strict=True)}
        for node in nodes(function):
            inputs = [place[id(x)] for x in node.input_tensors]
            layer, name = node.operation, f"{path}{node.operation.name}"
            if isinstance(layer, keras.Model):
                outputs = enter(layer, inputs, f"{name}/")
            else:
                outputs = call(layer, name, node, place, inputs)
            place |= {id(x): t for x, t in zip(node.outputs, outputs, strict=True)}
        return [place[id(x)] for x in function.outputs]

    def call(layer: Any, name: str, node: Any, place: dict, inputs: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
        known = rule(layer)
        if getattr(layer, "data_format", None) == "channels_first":
            raise InputError(f"layer {name!r} has its channels first: facts are known of channels_last only")
        tensors = node.outputs
        if any(None in t.shape[1:] for t in tensors):  # the size is open where the model was built, not here
            args, kwargs = node.arguments.fill_in({k: t for k, (_, t) in place.items()})
            tensors = keras.tree.flatten(layer.compute_output_spec(*args, **kwargs))
        x, y = tuple(inputs[0][1].shape[1:]), tuple(tensors[0].shape[1:])
        macs, activations = known.cost(layer, x, y)
        field = known.see(layer, [f for i, _ in inputs if (f := fields[i]) is not None], x, y)
        trainable, other = weights(layer, counted)
        outputs = [(new(tuple(t.shape[1:]), field), t) for t in tensors]
        ins, outs = tuple(i for i, _ in inputs), tuple(i for i, _ in outputs)
        calls.append(LayerFacts(name, type(layer).__name__, y, trainable, other, macs, activations, field,
                                known.keeps(layer), ins, outs))  # fmt: skip
        return outputs

    if resolution is not None:
        resolution = whole("resolution", resolution, MOST_PIXELS)
    start = []
    for x in opened(model).inputs:
        if None in x.shape[1:] and resolution is None:
            raise InputError(f"{model.name} leaves the size of its input open: give a resolution")
        shape = tuple(n or resolution or 0 for n in x.shape[1:])
        start.append((new(shape, (Axis(), Axis()) if len(shape) == 3 else None), keras.KerasTensor((None, *shape))))
    end = enter(model, start, "")
    return Graph(tuple(calls), tuple(shapes), tuple(i for i, _ in start), tuple(i for i, _ in end))


def opened(model: Any) -> Any:
    """The functional graph of a model. Keras 3 keeps a Sequential one's under a private name."""
    model = getattr(model, "_functional", None) or model
    if not hasattr(model, "_nodes_by_depth"):
        name = shown(getattr(model, "name", model))
        raise InputError(f"{name} has no graph: a functional or built Sequential model is needed")
    return model


def nodes(function: Any) -> Iterator[Any]:
    """Calls of layers, each after those it needs. `model.layers` would tell neither order nor wiring nor a second
    call of one layer, and the nodes have no public name in Keras 3."""
    for depth in sorted(function._nodes_by_depth, reverse=True):
        yield from (node for node in function._nodes_by_depth[depth] if not node.is_input)


def weights(layer: Any, counted: set[int]) -> tuple[int, int]:
    """(trainable, other) elements, each variable once however often it is used."""

    def count(variables: list[Any]) -> int:
        fresh = [v for v in variables if id(v) not in counted]
        counted.update(map(id, fresh))
        return sum(math.prod(v.shape) for v in fresh)

    if not isinstance(layer, keras.Layer):
        return 0, 0
    return count(layer.trainable_weights), count(layer.non_trainable_weights)
