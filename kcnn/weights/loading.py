"""Puts the tensors of a source into a network: all of them are checked against it first, then read one by one."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kcnn.errors import InputError, shown
from kcnn.weights.maps import Names, translate
from kcnn.weights.tensors import PART, WHOLE, Tensors

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int, ...]
TORCH = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "scale": "",
}
# Tensors that no network of ours needs: counters, heads for training alone, the input's statistics.
SPARE = ("AuxLogits.", "aux1.", "aux2.", "aux1", "aux2", "normalization:")
HEADS = ("fc", "classifier", "head.fc", "predictions")


@dataclass
class Report:
    """What became of the tensors: how many were loaded as they are, were folded into another, were dropped, are new."""

    loaded: int = 0
    folded: int = 0
    dropped: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = [f"{self.loaded} tensors loaded"]
        if self.folded:
            counts.append(f"{self.folded} folded into normalizations")
        if self.dropped:
            counts.append(f"{len(self.dropped)} dropped ({some(self.dropped)})")
        if self.new:
            counts.append(f"{len(self.new)} new ({some(self.new)})")
        return "; ".join([", ".join(counts), *self.notes])


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")


@dataclass(frozen=True)
class Move:
    """How a tensor of the source becomes a weight: it is reshaped, its axes are ordered anew, and reshaped again.

    theirs: its name, or None for a weight that is `filled` by a constant. less: the bias that a mean takes in.
    """

    weight: Any
    theirs: str | None
    before: Shape = ()
    axes: tuple[int, ...] = ()
    after: Shape = ()
    filled: float = 0.0
    less: str | None = None

    @property
    def first(self) -> int:
        """Where their first axis is in the end."""
        return self.axes.index(0) if len(self.axes) == len(self.after) else len(self.after) - 1


@dataclass(frozen=True)
class Match:
    """The names of a source's tensors for our layers.

    names: the rules of the library, None for our own names. layers: their names by ours.
    """

    tensors: Tensors
    layers: Mapping[str, str]

    def tensor(self, layer: str, leaf: str) -> str:
        """Returns the name of a tensor, whether or not the source has it."""
        theirs = self.layers[layer]
        if self.tensors.layout != "torch":
            return f"{theirs}/{leaf}"
        return f"{theirs}.{TORCH[leaf]}" if TORCH[leaf] else theirs


def match(layers: Sequence[str], tensors: Tensors, names: Names | None) -> Match:
    return Match(tensors, {name: name for name in layers} if names is None else translate(layers, names))


def values(
    model: Any, found: Match, label: str, report: Report, blue_first: bool = False
) -> Iterator[tuple[Any, "Value"]]:
    """Yields a network's weights with their values from a source, one after the other.

    Raises InputError, before the first of them, where one does not fit. A head of other classes is passed over, and so
    are auxiliary heads that the source lacks: the report names them.
    """
    moves = list(plan(model, found, label, report))
    used = {m.theirs for m in moves} | {m.less for m in moves}
    for name in sorted(found.tensors.shapes.keys() - used):
        spare = name.startswith(SPARE) or name in report.dropped
        if not spare:
            raise InputError(
                f"{label}: it has {name} {found.tensors.shapes[name]}, which {model.name} has no place for"
            )
        if name not in report.dropped and not name.startswith("normalization:"):
            report.dropped.append(name)
    first = next(layer for layer in model.layers if type(layer).__name__ == "Conv2D")
    for move in moves:
        yield move.weight, value_of(move, found.tensors, first.kernel is move.weight and blue_first)
        report.loaded += move.theirs is not None
        report.folded += move.less is not None


def plan(model: Any, found: Match, label: str, report: Report) -> Iterator[Move]:
    """Yields how each weight is found, and puts those that are not into the report. Raises InputError."""
    flat: Shape = ()
    first = True
    biased = {layer.name for layer in model.layers if getattr(layer, "use_bias", False)}
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "Flatten":
            flat = tuple(layer.input.shape[1:])
        weights = [v for v in layer.weights if v.name != "seed_generator_state"]
        if not weights:
            continue
        if layer.name not in found.layers or (layer.name.startswith("aux") and missing(layer.name, found)):
            if not layer.name.startswith("aux"):
                raise InputError(f"{label}: the layer {layer.name} of {model.name} has no counterpart there")
            report.new += [v.path for v in weights]
            continue
        if layer.name == "logits" and other_head(layer, found, report, label):
            report.new += [v.path for v in weights]
            continue
        for v in weights:
            move = of_weight(layer, v, found, label, model.name, flat if kind == "Dense" else ())
            if layer.name.removesuffix("_bn") in biased:
                move = replace(move, less=None)
            shape = move.after
            if first and kind == "Conv2D" and v.name == "kernel" and shape[2] != v.shape[2]:
                report.notes.append(recolour_note(shape[2], v.shape[2]))
            elif shape != tuple(v.shape):
                theirs = found.tensors.shapes[move.theirs] if move.theirs else shape
                raise InputError(
                    f"{label}: {move.theirs} is {theirs}, {move.after} in our order, and {v.path} of "
                    f"{model.name} needs {tuple(v.shape)}"
                )
            yield move
        if kind == "Conv2D":
            first = False
        if kind == "Dense":
            flat = ()


def missing(layer: str, found: Match) -> bool:
    return found.tensor(layer, "kernel") not in found.tensors.shapes


def other_head(layer: Any, found: Match, report: Report, label: str) -> bool:
    """Tells whether the source's classifier is for other classes or not there, and reports what is dropped of it."""
    kernel = found.tensor("logits", "kernel")
    shape = found.tensors.shapes.get(kernel)
    theirs = None if shape is None else shape[0] if found.tensors.layout == "torch" else shape[-1]
    if theirs == layer.kernel.shape[-1]:
        return False
    if theirs is not None:
        dropped = [kernel, found.tensor("logits", "bias")]
        report.dropped += [name for name in dropped if name in found.tensors.shapes]
        report.notes.append(f"the head of {theirs:,} classes makes room for a new one of {layer.kernel.shape[-1]:,}")
    return True


def of_weight(layer: Any, v: Any, found: Match, label: str, network: str, flat: Shape) -> Move:
    """Returns how a weight is found. Raises InputError where the source has no tensor for it."""
    theirs, shape, kind = found.tensor(layer.name, v.name), tuple(v.shape), type(layer).__name__
    shapes = found.tensors.shapes
    if theirs not in shapes:
        if v.name == "gamma" and found.tensor(layer.name, "beta") in shapes:
            return Move(v, None, after=shape, filled=1.0)  # Keras leaves it out where it is 1
        if v.name == "bias" and f"{layer.name}_bn" in found.layers:
            return Move(v, None, after=shape)
        raise InputError(f"{label}: it has no {theirs}, which {network} needs ({shown(shape)})")
    there = shapes[theirs]
    less = None
    if v.name == "moving_mean":
        conv = layer.name.removesuffix("_bn")
        bias = found.tensor(conv, "bias") if conv in found.layers else None
        less = bias if bias in shapes and found.layers[conv] != found.layers[layer.name] else None
        if less and shapes[less] != there:
            raise InputError(f"{label}: {less} is {shapes[less]}, and {theirs} is {there}")
    if v.name == "scale":  # torchvision's has two axes more
        return Move(v, theirs, there, tuple(range(len(there))), (math.prod(there),))
    if v.name != "kernel" or len(there) < 2:
        return Move(v, theirs, there, tuple(range(len(there))), there, less=less)
    return Move(v, theirs, *arranged(kind, found.tensors.layout, there, flat))


def arranged(kind: str, layout: str, there: Shape, flat: Shape) -> tuple[Shape, tuple[int, ...], Shape]:
    """Returns the reshaping, the order of axes and the second reshaping that make a kernel of theirs one of ours.

    flat: the (height, width, channels) that a dense layer reads as one vector: PyTorch puts channels first.
    """
    if layout == "torch" and len(there) == 2:
        h, w, c = flat if math.prod(flat) == there[1] else (1, 1, there[1])
        there = (there[0], c, h, w)
    if len(there) == 2:
        return there, (0, 1), (1, 1, *there) if kind == "Conv2D" else there
    if len(there) != 4:
        return there, tuple(range(len(there))), there
    if layout == "keras" and kind == "DepthwiseConv2D" and there[2] == 1:  # a convolution with a group for each channel
        return there, (0, 1, 3, 2), (*there[:2], there[3], 1)
    axes = (0, 1, 2, 3) if layout == "keras" else (2, 3, 0, 1) if kind == "DepthwiseConv2D" else (2, 3, 1, 0)
    turned = tuple(there[i] for i in axes)
    return there, axes, (math.prod(turned[:3]), turned[3]) if kind == "Dense" else turned


@dataclass(frozen=True)
class Value:
    """A value is made of arrays that stand side by side along an axis; each is read when its turn comes."""

    axis: int
    arrays: Iterable["np.ndarray"]

    def array(self) -> "np.ndarray":
        """Returns the whole of it."""
        import numpy as np

        found = list(self.arrays)
        return found[0] if len(found) == 1 else np.concatenate(found, self.axis)

    def begin(self, weight: Any) -> None:
        """Gives a weight this value. One without a value yet, see `kcnn.builder.abstract`, begins with it.

        Its own initializer would take three times its memory; Keras has no public name for another one.
        """
        import keras

        found = [keras.ops.convert_to_tensor(array) for array in self.arrays]
        whole = found[0] if len(found) == 1 else keras.ops.concatenate(found, self.axis)
        if weight._value is None:
            weight._initializer = lambda shape, dtype=None: keras.ops.cast(whole, dtype)
            weight._deferred_initialize()
        else:
            weight.assign(whole)


def value_of(move: Move, tensors: Tensors, blue_first: bool) -> Value:
    """Reads and arranges a tensor, a large one in parts. Raises InputError where it holds what is no finite number."""
    import numpy as np

    if move.theirs is None:
        return Value(0, [np.full(move.weight.shape, move.filled, np.float32)])
    size = 4 * math.prod(move.before)
    if size <= PART:
        return Value(0, (piece(move, tensors, WHOLE, blue_first) for _ in range(1)))
    rows = max(1, move.before[0] * PART // size)
    slices = [slice(i, min(i + rows, move.before[0])) for i in range(0, move.before[0], rows)]
    return Value(move.first, (piece(move, tensors, rows, blue_first) for rows in slices))


def piece(move: Move, tensors: Tensors, rows: slice, blue_first: bool) -> "np.ndarray":
    """Reads and arranges some rows of a tensor, or all."""
    import numpy as np

    array = tensors.read(move.theirs, rows)
    before, after = list(move.before), list(move.after)
    if rows != WHOLE:
        before[0] = after[move.first] = -1
    array = array.reshape(before).transpose(move.axes).reshape(after)
    if move.less:
        array = array - tensors.read(move.less, rows)
    if not np.isfinite(array).all():
        raise InputError(f"weights {tensors.where!r}: {move.theirs} holds what is no finite number")
    if blue_first:
        array = array[:, :, ::-1]
    first = array.ndim == 4 and array.shape[2] != move.weight.shape[2]
    return recoloured(array, move.weight.shape[2]) if first else array


def recoloured(kernel: "np.ndarray", channels: int) -> "np.ndarray":
    """Returns a first kernel for other channels: their sum for one; repeated and scaled down for more."""
    import numpy as np

    had = kernel.shape[2]
    if channels == 1:
        return kernel.sum(2, keepdims=True)
    return kernel[:, :, np.arange(channels) % had] * (had / channels)


def recolour_note(had: int, channels: int) -> str:
    if channels == 1:
        return f"the first kernel's {had} channels are summed into 1"
    return f"the first kernel's {had} channels are repeated for {channels}, each times {had}/{channels}"
