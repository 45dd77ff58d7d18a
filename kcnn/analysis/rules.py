"""The rules of each kind of layer: what it costs, what it sees, and what back-propagation keeps of it.

A table {name of a layer class -> Rule} holds it; a class that the table lacks is an error, never a silent zero.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kcnn.errors import InputError

Shape = tuple[int, ...]  # without the batch


@dataclass(frozen=True)
class Axis:
    """An axis tells what a row of outputs sees along one axis of the input, in pixels.

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
        """Returns what windows of `kernel` positions see, the first of which starts `before` positions early."""
        lo = self.lo - before * self.jump
        return Axis(lo, lo + self.hi - self.lo + (kernel - 1) * self.jump, self.jump * stride)

    def union(self, other: "Axis") -> "Axis":
        return Axis(min(self.lo, other.lo), max(self.hi, other.hi), max(self.jump, other.jump))


Field = tuple[Axis, Axis]  # height, width


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
    return math.prod(y) * x[-1], math.prod(y) if len(y) == 3 else 0  # on places it is a 1x1 convolution


# What layers see: (layer, fields of the inputs, shape of the first input, shape of the output) -> field

See = Callable[[Any, list[Field], Shape, Shape], Field | None]


def merged(layer: Any, fields: list[Field], x: Shape, y: Shape) -> Field | None:
    """Joins what the inputs see. Inputs without places, such as a gate of squeeze-and-excite, do not count."""
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
    """A transposed convolution's output o sees the inputs i with o = i * stride + t - pad, t below the kernel."""
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


# What back-propagation keeps, as letters. x: the inputs; y: the outputs; h: something hidden, as large as the output;
# m: a mask of one byte an element. Two letters keep nothing: i, where the output may take the place of an input, and v,
# where it is the input.

ACTIVATIONS = {"relu": "iy", "relu6": "iy", "sigmoid": "iy", "tanh": "iy", "softmax": "iy", "elu": "iy", "selu": "iy",
               "silu": "x", "swish": "x", "linear": "v", "leaky_relu": "x", "hard_silu": "xhh", "hard_swish": "xhh",
               "hard_sigmoid": "ih", "gelu": "xh", "softplus": "x", "mish": "xhh"}  # fmt: skip


def activation(layer: Any) -> str:
    known = layer.activation  # by its name in an outline, a function in a layer of Keras
    return ACTIVATIONS.get(known if isinstance(known, str) else getattr(known, "__name__", "linear"), "xh")


def activated(layer: Any) -> str:
    """A layer keeps its input, and what its own activation keeps of what lies between."""
    own = activation(layer) if getattr(layer, "activation", None) else ""
    return "x" + own.replace("x", "h").replace("i", "").replace("v", "")


def always(letters: str) -> Callable[[Any], str]:
    return lambda layer: letters


def hidden(layer: Any) -> str:
    return activated(layer) + "h"  # between the depthwise convolution and the pointwise one


def rectified(layer: Any) -> str:
    return "iy" if not layer.negative_slope else "x"


NO_LETTERS = always("")


@dataclass(frozen=True)
class Rule:
    """A rule has three functions of a layer: what it costs, what it sees, and what back-propagation keeps of it."""

    cost: Cost = nothing
    see: See = merged
    keeps: Callable[[Any], str] = NO_LETTERS


SAME, VIEW, INPLACE = Rule(), Rule(keeps=always("v")), Rule(keeps=always("i"))
INPUT, OUTPUT = Rule(keeps=always("x")), Rule(keeps=always("iy"))
GLOBAL, RESHAPED = Rule(see=nowhere), Rule(see=nowhere, keeps=always("v"))
RULES: Mapping[str, Rule] = {
    "Conv2D": Rule(convolution, windowed, activated),
    "DepthwiseConv2D": Rule(depthwise, windowed, activated),
    "SeparableConv2D": Rule(separable, windowed, hidden),
    "Conv2DTranspose": Rule(transposed, unpooled, activated),
    "Dense": Rule(dense, keeps=activated),
    "BatchNormalization": INPUT,
    "LayerNormalization": INPUT,
    "GroupNormalization": INPUT,
    "UnitNormalization": INPUT,
    "GlobalResponseNormalization": INPUT,
    "LayerScale": INPUT,
    "Normalization": SAME,
    "Rescaling": SAME,
    "MaxPooling2D": Rule(see=windowed, keeps=always("xy")),
    "AveragePooling2D": Rule(see=windowed),
    "GlobalAveragePooling2D": GLOBAL,
    "GlobalMaxPooling2D": Rule(see=nowhere, keeps=always("xy")),
    "UpSampling2D": Rule(see=enlarged),
    "ZeroPadding2D": Rule(see=padded),
    "Cropping2D": Rule(see=cropped),
    "Activation": Rule(keeps=activation),
    "ReLU": Rule(keeps=rectified),
    "LeakyReLU": INPUT,
    "PReLU": Rule(keeps=always("xh")),
    "ELU": OUTPUT,
    "Softmax": OUTPUT,
    "Add": INPLACE,
    "Subtract": INPLACE,
    "Average": INPLACE,
    "Multiply": INPUT,
    "Maximum": INPUT,
    "Minimum": INPUT,
    "Concatenate": SAME,
    "Slice": SAME,
    "Shuffle": SAME,
    "Flatten": RESHAPED,
    "Reshape": RESHAPED,
    "Permute": GLOBAL,
    "Identity": VIEW,
    "ActivityRegularization": VIEW,
    "Dropout": Rule(keeps=always("m")),
    "SpatialDropout2D": SAME,  # masks of one element a channel, or an example
    "GaussianNoise": SAME,
    "GaussianDropout": Rule(keeps=always("h")),
    "DropPath": SAME,
    "ResponseNormalization": Rule(keeps=always("xh")),  # and the sums of squares
}
LAYERS = ("keras.src.layers.", "kcnn.layers", "kcnn.blocks.outline")  # where the classes of these names come from
# Keras's own operations have no public classes (x + 3 is one), nor have a few layers of keras.applications.
NAMED: Mapping[str, Rule] = {
    "Add": INPLACE, "Subtract": INPLACE, "Negative": INPLACE, "CustomScaleLayer": INPLACE,
    "Multiply": INPUT, "Divide": INPUT, "TrueDivide": INPUT, "Maximum": INPUT, "Minimum": INPUT, "Square": INPUT,
    "LayerScale": INPUT, "StochasticDepth": SAME, "Cast": SAME, "Concatenate": SAME,
    "Relu": OUTPUT, "Relu6": OUTPUT, "Sigmoid": OUTPUT, "Tanh": OUTPUT, "Softmax": OUTPUT,
    "Silu": INPUT, "Gelu": Rule(keeps=always("xh")), "HardSilu": Rule(keeps=always("xhh")),
    "HardSigmoid": Rule(keeps=always("ih")), "Mean": GLOBAL, "Max": Rule(see=nowhere, keeps=always("xy")),
    "Reshape": RESHAPED, "Squeeze": RESHAPED, "ExpandDims": RESHAPED,
}  # fmt: skip


def rule(layer: Any) -> Rule:
    """Returns the rule of a layer's class, or of the nearest class above it. Raises InputError where there is none."""
    for cls in type(layer).__mro__:
        if cls.__name__ in RULES and cls.__module__.startswith(LAYERS):
            return RULES[cls.__name__]
        if cls.__module__.startswith("keras.src.") and cls.__name__ in NAMED:
            return NAMED[cls.__name__]
    raise InputError(f"layer {layer.name!r} is a {type(layer).__name__}: no facts are known of this kind of layer")
