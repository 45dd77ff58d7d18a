"""One walk over a Keras functional graph: what every call of every layer costs, sees and keeps.

A table {layer class -> Rule} holds all that is known of layers; one that it lacks is an error, never a silent zero.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers as kl

from kcnn.errors import InputError
from kcnn.layers import DropPath, ResponseNormalization

Shape = tuple[int, ...]  # without the batch


@dataclass(frozen=True)
class Axis:
    """What a row of outputs sees along one axis of the input, in pixels.

    Output 0 sees the pixels lo ... hi (padding has numbers below 0), output i those i * jump further on.
    """

    lo: float = 0.0
    hi: float = 0.0
    jump: float = 1.0

    @property
    def size(self) -> int:
        return math.ceil(self.hi - self.lo) + 1

    @property
    def centre(self) -> float:
        return (self.lo + self.hi) / 2

    def window(self, before: float, kernel: int, stride: float = 1.0) -> "Axis":
        """Through windows of `kernel` positions, the first of which starts `before` positions early."""
        lo = self.lo - before * self.jump
        return Axis(lo, lo + self.hi - self.lo + (kernel - 1) * self.jump, self.jump * stride)

    def union(self, other: "Axis") -> "Axis":
        return Axis(min(self.lo, other.lo), max(self.hi, other.hi), max(self.jump, other.jump))


Field = tuple[Axis, Axis]  # height, width


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


# What layers cost: (layer, shape of the input, shape of the output) -> (multiply-adds, activations)

Cost = Callable[[Any, Shape, Shape], tuple[int, int]]


def nothing(layer: Any, x: Shape, y: Shape) -> tuple[int, int]:
    return 0, 0


def convolution(layer: Any, x: Shape, y: Shape) -> tuple[int, int]:
    return math.prod(y) * math.prod(layer.kernel.shape[:-1]), math.prod(y)


def depthwise(layer: Any, x: Shape, y: Shape) -> tuple[int, int]:
    return math.prod(y) * math.prod(layer.kernel.shape[:-2]), math.prod(y)


def separable(layer: Any, x: Shape, y: Shape) -> tuple[int, int]:
    *kernel, channels, multiplier = layer.depthwise_kernel.shape
    middle = math.prod(y[:-1]) * channels * multiplier
    return middle * (math.prod(kernel) + y[-1]), middle + math.prod(y)


def transposed(layer: Any, x: Shape, y: Shape) -> tuple[int, int]:
    return math.prod(x) * math.prod(layer.kernel.shape[:-1]), math.prod(y)


def dense(layer: Any, x: Shape, y: Shape) -> tuple[int, int]:
    return math.prod(y) * x[-1], 0


# What layers see: (layer, fields of the inputs, shape of the first input, shape of the output) -> field

See = Callable[[Any, list[Field], Shape, Shape], Field | None]


def merged(layer: Any, fields: list[Field], x: Shape, y: Shape) -> Field | None:
    """All that the inputs see. Inputs without places, such as a gate of squeeze-and-excite, do not count."""
    if not fields or len(y) != 3:
        return None
    first, *rest = fields
    for other in rest:
        first = (first[0].union(other[0]), first[1].union(other[1]))
    return first


def windowed(layer: Any, fields: list[Field], x: Shape, y: Shape) -> Field | None:
    if not fields:
        return None
    kernels = getattr(layer, "kernel_size", None) or layer.pool_size
    dilations = getattr(layer, "dilation_rate", (1, 1))
    axes = []
    for axis, n, kernel, stride, dilation in zip(fields[0], x, kernels, layer.strides, dilations, strict=False):
        kernel = (kernel - 1) * dilation + 1
        pad = max(0, (math.ceil(n / stride) - 1) * stride + kernel - n) // 2 if layer.padding == "same" else 0
        axes.append(axis.window(pad, kernel, stride))
    return axes[0], axes[1]


def unpooled(layer: Any, fields: list[Field], x: Shape, y: Shape) -> Field | None:
    """Transposed convolutions: output o sees the inputs i with o = i * stride + t - pad, t below the kernel."""
    if not fields:
        return None
    axes = []
    for axis, kernel, stride in zip(fields[0], layer.kernel_size, layer.strides, strict=True):
        pad = max(0, kernel - stride) // 2 if layer.padding == "same" else 0
        axes.append(axis.window((kernel - 1 - pad) // stride, math.ceil(kernel / stride), 1 / stride))
    return axes[0], axes[1]


def enlarged(layer: Any, fields: list[Field], x: Shape, y: Shape) -> Field | None:
    if not fields:
        return None
    kernel = 1 if layer.interpolation == "nearest" else 2
    a, b = (axis.window(0, kernel, 1 / size) for axis, size in zip(fields[0], layer.size, strict=True))
    return a, b


def padded(layer: Any, fields: list[Field], x: Shape, y: Shape) -> Field | None:
    a, b = (axis.window(p[0], 1) for axis, p in zip(fields[0], layer.padding, strict=True))
    return a, b


def cropped(layer: Any, fields: list[Field], x: Shape, y: Shape) -> Field | None:
    a, b = (axis.window(-p[0], 1) for axis, p in zip(fields[0], layer.cropping, strict=True))
    return a, b


def nowhere(layer: Any, fields: list[Field], x: Shape, y: Shape) -> Field | None:
    return None


# What back-propagation keeps, as letters: x inputs, y outputs, h something hidden as large as the output,
# m a mask of one byte an element; i is no tensor: the output may take the place of its input; v: it is its input.

RECTIFIERS = {"relu": "iy", "relu6": "iy", "sigmoid": "iy", "tanh": "iy", "softmax": "iy", "elu": "iy", "selu": "iy",
              "silu": "x", "swish": "x", "linear": "v", "leaky_relu": "x", "hard_silu": "xhh", "hard_swish": "xhh",
              "hard_sigmoid": "ih", "gelu": "xh", "softplus": "x", "mish": "xhh"}  # fmt: skip


def activation(layer: Any) -> str:
    return RECTIFIERS.get(getattr(layer.activation, "__name__", "linear"), "xh")


def activated(layer: Any) -> str:
    """Input, and what the layer's own activation keeps of what lies between."""
    own = activation(layer) if getattr(layer, "activation", None) else ""
    return "x" + own.replace("x", "h").replace("i", "").replace("v", "")


def always(letters: str) -> Callable[[Any], str]:
    return lambda layer: letters


def hidden(layer: Any) -> str:
    return activated(layer) + "h"  # between the depthwise convolution and the pointwise one


def rectified(layer: Any) -> str:
    return "iy" if not layer.negative_slope else "x"


@dataclass(frozen=True)
class Rule:
    cost: Cost = nothing
    see: See = merged
    keeps: Callable[[Any], str] = always("")


SAME, INPUT, VIEW, GLOBAL = Rule(), Rule(keeps=always("x")), Rule(keeps=always("v")), Rule(see=nowhere)
RESHAPED = Rule(see=nowhere, keeps=always("v"))
MASKED, GATED = Rule(keeps=always("m")), Rule(keeps=always("x"))
AVERAGED = Rule(see=windowed)
RULES: Mapping[type, Rule] = {
    kl.Conv2D: Rule(convolution, windowed, activated),
    kl.DepthwiseConv2D: Rule(depthwise, windowed, activated),
    kl.SeparableConv2D: Rule(separable, windowed, hidden),
    kl.Conv2DTranspose: Rule(transposed, unpooled, activated),
    kl.Dense: Rule(dense, keeps=activated),
    kl.BatchNormalization: INPUT,
    kl.LayerNormalization: INPUT,
    kl.GroupNormalization: INPUT,
    kl.UnitNormalization: INPUT,
    kl.Normalization: SAME,
    kl.Rescaling: SAME,
    kl.MaxPooling2D: Rule(see=windowed, keeps=always("xy")),
    kl.AveragePooling2D: AVERAGED,
    kl.GlobalAveragePooling2D: GLOBAL,
    kl.GlobalMaxPooling2D: Rule(see=nowhere, keeps=always("xy")),
    kl.UpSampling2D: Rule(see=enlarged),
    kl.ZeroPadding2D: Rule(see=padded),
    kl.Cropping2D: Rule(see=cropped),
    kl.Activation: Rule(keeps=activation),
    kl.ReLU: Rule(keeps=rectified),
    kl.LeakyReLU: INPUT,
    kl.PReLU: Rule(keeps=always("xh")),
    kl.ELU: Rule(keeps=always("iy")),
    kl.Softmax: Rule(keeps=always("iy")),
    kl.Add: Rule(keeps=always("i")),
    kl.Subtract: Rule(keeps=always("i")),
    kl.Average: Rule(keeps=always("i")),
    kl.Multiply: GATED,
    kl.Maximum: GATED,
    kl.Minimum: GATED,
    kl.Concatenate: SAME,
    kl.Flatten: RESHAPED,
    kl.Reshape: RESHAPED,
    kl.Identity: VIEW,
    kl.ActivityRegularization: VIEW,
    kl.Dropout: MASKED,
    kl.SpatialDropout2D: SAME,  # masks of one element a channel, or an example
    kl.GaussianNoise: SAME,
    kl.GaussianDropout: Rule(keeps=always("h")),
    DropPath: SAME,
    ResponseNormalization: Rule(keeps=always("xh")),  # and the sums of squares
}
# Keras's own operations have no public classes (x + 3 is one), nor have a few layers of keras.applications.
NAMED: Mapping[str, Rule] = {
    "Add": Rule(keeps=always("i")), "Subtract": Rule(keeps=always("i")), "Negative": Rule(keeps=always("i")),
    "Multiply": GATED, "Divide": GATED, "TrueDivide": GATED, "Maximum": GATED, "Minimum": GATED, "Square": INPUT,
    "Relu": Rule(keeps=always("iy")), "Relu6": Rule(keeps=always("iy")), "Sigmoid": Rule(keeps=always("iy")),
    "Tanh": Rule(keeps=always("iy")), "Softmax": Rule(keeps=always("iy")), "Silu": INPUT, "Gelu": Rule(
        keeps=always("xh")), "HardSilu": Rule(keeps=always("xhh")), "HardSigmoid": Rule(keeps=always("ih")),
    "Cast": SAME, "Concatenate": SAME, "Mean": GLOBAL, "Max": Rule(see=nowhere, keeps=always("xy")),
    "Reshape": RESHAPED, "Squeeze": RESHAPED, "ExpandDims": RESHAPED,
    "CustomScaleLayer": Rule(keeps=always("i")), "LayerScale": INPUT, "StochasticDepth": SAME,
}  # fmt: skip


def rule(layer: Any) -> Rule:
    """Of the layer's class, or the nearest class above it."""
    for cls in type(layer).__mro__:
        if cls in RULES:
            return RULES[cls]
        if cls.__module__.startswith("keras.src.") and cls.__name__ in NAMED:
            return NAMED[cls.__name__]
    raise InputError(f"layer {layer.name!r} is a {type(layer).__name__}: no facts are known of this kind of layer")


# The walk


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
        calls.append(
            LayerFacts(name, type(layer).__name__, y, trainable, other, macs, activations, field, known.keeps(layer),
                       tuple(i for i, _ in inputs), tuple(i for i, _ in outputs))  # fmt: skip
        )
        return outputs

    start = []
    for x in opened(model).inputs:
        shape = tuple(resolution if n is None else n for n in x.shape[1:])
        if None in shape:
            raise InputError(f"{model.name} leaves the size of its input open: give a resolution")
        start.append((new(shape, (Axis(), Axis()) if len(shape) == 3 else None), keras.KerasTensor((None, *shape))))
    end = enter(model, start, "")
    return Graph(tuple(calls), tuple(shapes), tuple(i for i, _ in start), tuple(i for i, _ in end))


def opened(model: Any) -> Any:
    """The functional graph of a model. Keras 3 keeps a Sequential one's under a private name."""
    model = getattr(model, "_functional", None) or model
    if not hasattr(model, "_nodes_by_depth"):
        raise InputError(f"{getattr(model, 'name', model)!r} has no graph: a functional or built Sequential model is "
                         "needed")  # fmt: skip
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
