"""Stand-ins for the layers of kcnn.layers: a network of them is an outline, which has shapes and no weights, no Keras.

They have the names, arguments and attributes of the layers, as far as blocks and the rules of kcnn.analysis use them,
and refuse with a ValueError what those refuse. tests/kcnn/blocks/test_outline.py compares the two.
"""

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]  # without the batch
Pair = int | tuple[int, int]

# The names that keras.activations.get takes.
ACTIVATIONS = (
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
    "swish", "tanh", "tanh_shrink", "threshold",
)  # fmt: skip


@dataclass(eq=False)
class Tensor:
    """A tensor in an outline, with the layer that it comes out of and what went into that.

    shape: with the batch, which is None, as in Keras.
    """

    shape: tuple[int | None, ...]
    layer: "Layer | None" = None
    inputs: "tuple[Tensor, ...]" = ()


@dataclass(eq=False)
class Weight:
    """A weight is its shape alone."""

    shape: Shape


@dataclass(eq=False, kw_only=True)
class Layer:
    """A layer that is called once."""

    name: str
    dtype: str | None = None

    def __post_init__(self) -> None:
        self.trainable_weights: list[Weight] = []
        self.non_trainable_weights: list[Weight] = []

    def __call__(self, inputs: Tensor | list[Tensor]) -> Tensor:
        tensors = tuple(inputs) if isinstance(inputs, list) else (inputs,)
        shapes = [tuple(n or 0 for n in x.shape[1:]) for x in tensors]
        return Tensor((None, *self.shape(*shapes)), self, tensors)

    def shape(self, x: Shape, *others: Shape) -> Shape:
        """Makes the weights, and returns the shape of the output."""
        return x

    def weigh(self, *shape: int) -> Weight:
        self.trainable_weights.append(Weight(shape))
        return self.trainable_weights[-1]


def Input(shape: Shape, name: str = "") -> Tensor:
    return Tensor((None, *shape))


class Model:
    """A network in outline.

    tensors: what its layers make, in the order in which Keras calls them.
    """

    def __init__(self, inputs: Tensor, outputs: Tensor | list[Tensor], name: str) -> None:
        self.name, self.input = name, inputs
        self.outputs = outputs if isinstance(outputs, list) else [outputs]
        self.tensors = called(self.outputs)

    @property
    def weights(self) -> Iterator[Weight]:
        for x in self.tensors:
            if x.layer:
                yield from x.layer.trainable_weights
                yield from x.layer.non_trainable_weights


def called(outputs: list[Tensor]) -> list[Tensor]:
    """Returns all tensors that layers make on the way to the outputs, those farthest from an output first.

    Among equally far ones the order is Keras's, that of keras.src.ops.function.map_graph.
    """
    finished: dict[Tensor, None] = {}
    pending = outputs[::-1]
    while pending:
        missing = next((x for x in pending[-1].inputs if x not in finished), None)
        if missing is None:
            finished[pending.pop()] = None
        else:
            pending.append(missing)
    depths: dict[Tensor, int] = {}
    for y in reversed(finished):
        depth = depths.setdefault(y, 0)
        for x in y.inputs:
            depths[x] = max(depth + 1, depths.get(x, 0))
    return sorted((x for x in depths if x.layer), key=lambda x: -depths[x])


# Layers with windows


def positive(what: str, value: Any) -> int:
    number = 0 if isinstance(value, float) else operator.index(value)
    if number <= 0:
        raise ValueError(f"{what} {value!r}: a positive whole number is needed")
    return number


def pair(what: str, value: Pair) -> tuple[int, int]:
    """Returns the value along the height and along the width."""
    height, width = value if isinstance(value, tuple) else (value, value)
    return positive(what, height), positive(what, width)


def slid(x: Shape, kernel: tuple[int, int], strides: tuple[int, int], padding: str) -> Shape:
    """Returns how many places a window has that slides over an image, along height and width."""
    if padding not in ("same", "valid"):
        raise ValueError(f"padding {padding!r}: same or valid is needed")
    around = (n if padding == "same" else n - k + 1 for n, k in zip(image(x), kernel, strict=True))
    places = tuple(-(-n // stride) for n, stride in zip(around, strides, strict=True))
    if min(places) <= 0:
        raise ValueError(f"a window of {kernel} does not fit into an image of {x}")
    return places


def image(x: Shape) -> Shape:
    """Returns the height and width of an image's shape."""
    if len(x) != 3:
        raise ValueError(f"a shape of {x}: (height, width, channels) is needed")
    return x[:2]


@dataclass(eq=False)
class Conv2D(Layer):
    filters: int
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: str = "valid"
    groups: int = field(default=1, kw_only=True)
    use_bias: bool = field(default=True, kw_only=True)
    kernel_initializer: Any = field(default=None, kw_only=True)

    def shape(self, x: Shape, *others: Shape) -> Shape:
        self.kernel_size, self.strides = pair("kernel", self.kernel_size), pair("stride", self.strides)
        places = slid(x, self.kernel_size, self.strides, self.padding)
        if positive("filters", self.filters) % positive("groups", self.groups) or x[-1] % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {x[-1]} channels and {self.filters} filters")
        self.kernel = self.weigh(*self.kernel_size, x[-1] // self.groups, self.filters)
        if self.use_bias:
            self.weigh(self.filters)
        return (*places, self.filters)


@dataclass(eq=False)
class DepthwiseConv2D(Layer):
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: str = "valid"
    use_bias: bool = field(default=True, kw_only=True)
    depthwise_initializer: Any = field(default=None, kw_only=True)

    def shape(self, x: Shape, *others: Shape) -> Shape:
        self.kernel_size, self.strides = pair("kernel", self.kernel_size), pair("stride", self.strides)
        places = slid(x, self.kernel_size, self.strides, self.padding)
        self.kernel = self.weigh(*self.kernel_size, x[-1], 1)
        if self.use_bias:
            self.weigh(x[-1])
        return (*places, x[-1])


@dataclass(eq=False)
class MaxPooling2D(Layer):
    pool_size: Pair
    strides: Pair
    padding: str

    def shape(self, x: Shape, *others: Shape) -> Shape:
        self.pool_size, self.strides = pair("window", self.pool_size), pair("stride", self.strides)
        return (*slid(x, self.pool_size, self.strides, self.padding), x[-1])


class AveragePooling2D(MaxPooling2D):
    pass


@dataclass(eq=False)
class ZeroPadding2D(Layer):
    padding: Any

    def shape(self, x: Shape, *others: Shape) -> Shape:
        sides = (self.padding,) * 2 if isinstance(self.padding, int) else self.padding
        self.padding = tuple((by, by) if isinstance(by, int) else by for by in sides)
        rows, columns = image(x)
        return (rows + sum(self.padding[0]), columns + sum(self.padding[1]), x[-1])


@dataclass(eq=False)
class Cropping2D(Layer):
    cropping: Any

    def shape(self, x: Shape, *others: Shape) -> Shape:
        rows, columns = (n - sum(by) for n, by in zip(image(x), self.cropping, strict=True))
        if min(rows, columns) <= 0:
            raise ValueError(f"a cropping of {self.cropping} leaves nothing of an image of {x}")
        return (rows, columns, x[-1])


# Layers without


@dataclass(eq=False)
class Dense(Layer):
    units: int
    kernel_initializer: Any = field(default=None, kw_only=True)

    def shape(self, x: Shape, *others: Shape) -> Shape:
        self.weigh(x[-1], positive("units", self.units))
        self.weigh(self.units)
        return (*x[:-1], self.units)


@dataclass(eq=False)
class BatchNormalization(Layer):
    momentum: float = field(kw_only=True)
    epsilon: float = field(kw_only=True)

    def shape(self, x: Shape, *others: Shape) -> Shape:
        self.momentum, self.epsilon = float(self.momentum), float(self.epsilon)
        self.weigh(x[-1])
        self.weigh(x[-1])
        self.non_trainable_weights = [Weight(x[-1:]), Weight(x[-1:])]
        return x


@dataclass(eq=False)
class LayerNormalization(Layer):
    epsilon: float = field(kw_only=True)

    def shape(self, x: Shape, *others: Shape) -> Shape:
        self.weigh(x[-1])
        self.weigh(x[-1])
        return x


class GlobalResponseNormalization(Layer):
    def shape(self, x: Shape, *others: Shape) -> Shape:
        self.weigh(x[-1])
        self.weigh(x[-1])
        return x


@dataclass(eq=False)
class LayerScale(Layer):
    start: float

    def shape(self, x: Shape, *others: Shape) -> Shape:
        self.weigh(x[-1])
        return x


@dataclass(eq=False)
class Slice(Layer):
    start: int
    size: int

    def shape(self, x: Shape, *others: Shape) -> Shape:
        return (*x[:-1], self.size)


@dataclass(eq=False)
class Shuffle(Layer):
    groups: int


@dataclass(eq=False)
class Activation(Layer):
    activation: str

    def shape(self, x: Shape, *others: Shape) -> Shape:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r}: Keras has none of this name")
        return x


@dataclass(eq=False)
class GlobalAveragePooling2D(Layer):
    keepdims: bool = field(default=False, kw_only=True)

    def shape(self, x: Shape, *others: Shape) -> Shape:
        return tuple(1 for _ in image(x)) * self.keepdims + x[-1:]


class Flatten(Layer):
    def shape(self, x: Shape, *others: Shape) -> Shape:
        return (math.prod(x),)


class Add(Layer):
    def shape(self, x: Shape, *others: Shape) -> Shape:
        for other in others:
            if len(x) != len(other) or any(m != n and 1 not in (m, n) for m, n in zip(x, other, strict=True)):
                raise ValueError(f"shapes {x} and {other} do not agree")
            x = tuple(max(m, n) for m, n in zip(x, other, strict=True))
        return x


class Multiply(Add):
    pass


class Concatenate(Layer):
    def shape(self, x: Shape, *others: Shape) -> Shape:
        if any(other[:-1] != x[:-1] for other in others):
            raise ValueError(f"shapes {(x, *others)} do not agree but for the channels")
        return (*x[:-1], x[-1] + sum(other[-1] for other in others))


@dataclass(eq=False)
class Dropout(Layer):
    rate: float

    def shape(self, x: Shape, *others: Shape) -> Shape:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate {self.rate!r}: a number from 0 to 1 is needed")
        return x


@dataclass(eq=False)
class DropPath(Layer):
    rate: float


@dataclass(eq=False)
class Rescaling(Layer):
    scale: Any
    offset: Any = 0.0


class ResponseNormalization(Layer):
    pass
