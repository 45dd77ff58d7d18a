"""Every call of every layer of a network, with what its rule says of it: read off Keras's graph or off an outline."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kcnn.analysis.rules import Axis, Field, Shape, rule
from kcnn.arch import MOST_PIXELS
from kcnn.blocks import outline
from kcnn.errors import InputError, shown, whole

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class LayerFacts:
    """The facts of one call of one layer. Shapes are without the batch; sizes and strides in pixels of the input.

    params, params_nontrainable: its weights, counted at its first call. macs: multiply-adds of convolutions and dense
    layers, without biases. activations: output elements of convolutions. inputs, outputs: the numbers of its tensors,
    which index Graph.shapes. keeps: what back-propagation needs, see Rule.
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
        """The pixels that one output sees along the larger of height and width; None for a tensor without places."""
        return max(axis.size for axis in self.field) if self.field else None

    @property
    def stride(self) -> float | None:
        return max(axis.jump for axis in self.field) if self.field else None

    @property
    def centre(self) -> float | None:
        """The centre of what the first output sees, in pixels from the middle of the input's first one."""
        return self.field[0].centre if self.field else None


@dataclass(frozen=True)
class Graph:
    """A graph has all calls, in an order in which they can run; shapes[n] is the shape of tensor n."""

    calls: tuple[LayerFacts, ...]
    shapes: tuple[Shape, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class Record:
    """A record grows into a graph: it has the shapes and fields of the tensors so far, and the calls that made them."""

    shapes: list[Shape] = field(default_factory=list)
    fields: list[Field | None] = field(default_factory=list)
    calls: list[LayerFacts] = field(default_factory=list)
    counted: set[int] = field(default_factory=set)

    def new(self, shape: Shape, seen: Field | None) -> int:
        """Returns the number of a new tensor."""
        self.shapes.append(shape)
        self.fields.append(seen)
        return len(self.shapes) - 1

    def image(self, shape: Shape) -> int:
        """Returns the number of a new input, which sees itself if it has places."""
        return self.new(shape, (Axis(), Axis()) if len(shape) == 3 else None)

    def call(self, layer: Any, name: str, inputs: list[int], outputs: list[Shape]) -> list[int]:
        """Returns the numbers of the tensors that a layer makes. Raises InputError for a layer without a rule."""
        known = rule(layer)
        if getattr(layer, "data_format", None) == "channels_first":
            raise InputError(f"layer {name!r} has its channels first: facts are known of channels_last only")
        x, y = self.shapes[inputs[0]], outputs[0]
        macs, activations = known.cost(layer, x, y)
        seen = known.see(layer, [f for i in inputs if (f := self.fields[i]) is not None], x, y)
        trainable, other = weights(layer, self.counted)
        made = [self.new(shape, seen) for shape in outputs]
        self.calls.append(
            LayerFacts(
                name,
                type(layer).__name__,
                y,
                trainable,
                other,
                macs,
                activations,
                seen,
                known.keeps(layer),
                tuple(inputs),
                tuple(made),
            )
        )
        return made

    def graph(self, inputs: Iterable[int], outputs: Iterable[int]) -> Graph:
        return Graph(tuple(self.calls), tuple(self.shapes), tuple(inputs), tuple(outputs))


def follow(network: outline.Model) -> Graph:
    """Returns the graph of an outline, which is the one that `walk` finds in the network itself."""
    record = Record()
    place = {network.input: record.image(plain(network.input))}
    for x in network.tensors:
        if x.layer:
            (place[x],) = record.call(x.layer, x.layer.name, [place[i] for i in x.inputs], [plain(x)])
    return record.graph([place[network.input]], [place[y] for y in network.outputs])


def plain(tensor: Any) -> Shape:
    """Returns the shape of a tensor without the batch."""
    return tuple(tensor.shape[1:])


def walk(model: "keras.Model", resolution: int | None = None) -> Graph:
    """Returns the graph of a functional (or built Sequential) model, with the models inside it opened up.

    resolution: pixels, for a model whose input leaves its size open. Raises InputError for a layer without a rule
    and a model without a graph.
    """
    import keras

    record = Record()

    def enter(model: Any, tensors: list[tuple[int, Any]], path: str) -> list[tuple[int, Any]]:
        function = opened(model)
        place = {id(x): t for x, t in zip(function.inputs, tensors, strict=True)}
        for node in nodes(function):
            inputs = [place[id(x)] for x in node.input_tensors]
            layer, name = node.operation, f"{path}{node.operation.name}"
            if isinstance(layer, keras.Model):
                outputs = enter(layer, inputs, f"{name}/")
            else:
                made = tensors_of(node, place)
                outputs = list(
                    zip(record.call(layer, name, [i for i, _ in inputs], [plain(t) for t in made]), made, strict=True)
                )
            place |= {id(x): t for x, t in zip(node.outputs, outputs, strict=True)}
        return [place[id(x)] for x in function.outputs]

    def tensors_of(node: Any, place: dict[int, tuple[int, Any]]) -> list[Any]:
        """Returns what a call makes. Sizes that were open when the model was built are known here."""
        if not any(None in t.shape[1:] for t in node.outputs):
            return node.outputs
        args, kwargs = node.arguments.fill_in({k: t for k, (_, t) in place.items()})
        return keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs))

    if resolution is not None:
        resolution = whole("resolution", resolution, MOST_PIXELS)
    start = []
    for x in opened(model).inputs:
        if None in x.shape[1:] and resolution is None:
            raise InputError(f"{model.name} leaves the size of its input open: give a resolution")
        shape = tuple(n or resolution or 0 for n in x.shape[1:])
        start.append((record.image(shape), keras.KerasTensor((None, *shape))))
    end = enter(model, start, "")
    return record.graph([i for i, _ in start], [i for i, _ in end])


def opened(model: Any) -> Any:
    """Returns the functional graph of a model. Keras 3 keeps that of a Sequential one under a private name."""
    model = getattr(model, "_functional", None) or model
    if not hasattr(model, "_nodes_by_depth"):
        name = shown(getattr(model, "name", model))
        raise InputError(f"{name} has no graph: a functional or built Sequential model is needed")
    return model


def nodes(function: Any) -> Iterator[Any]:
    """Yields the calls of layers, each after those it needs.

    `model.layers` would tell neither order nor wiring nor a second call of one layer, and the nodes have no public
    name in Keras 3.
    """
    for depth in sorted(function._nodes_by_depth, reverse=True):
        yield from (node for node in function._nodes_by_depth[depth] if not node.is_input)


def leaves(model: Any) -> Iterator[Any]:
    """Yields the calls of layers in the order of `walk`'s, with those inside the models in it."""
    for node in nodes(opened(model)):
        if hasattr(node.operation, "layers"):
            yield from leaves(node.operation)
        else:
            yield node


def weights(layer: Any, counted: set[int]) -> tuple[int, int]:
    """Counts the trainable and the other elements, each variable once however often it is used."""

    def count(variables: list[Any]) -> int:
        fresh = [v for v in variables if id(v) not in counted]
        counted.update(map(id, fresh))
        return sum(math.prod(v.shape) for v in fresh)

    return count(getattr(layer, "trainable_weights", [])), count(getattr(layer, "non_trainable_weights", []))
