"""What a network is made of, read off its graph: its blocks, and the ways that lead from its input to its output.

Any functional Keras model is understood. A block is what lies between a tensor that branches off and the sum or the
joining at which all its branches meet again; what has no branches is cut into convolutions.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kcnn.analysis.graph import Graph, LayerFacts, leaves, opened, walk

if TYPE_CHECKING:
    import keras

OPEN = 64  # pixels, where a model leaves the size of its input open: blocks are the same at any
SUMS = {"Add", "Average", "StochasticDepth"}
JOINS = {"Concatenate"}
CONVOLUTIONS = {"Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"}
BETWEEN = {"BatchNormalization", "Dropout", "DropPath", "Identity"}  # after which an activation is still a layer's own
BOUNDED = {"relu": 0.0, "relu6": 0.0}  # activations that lose what is below


@dataclass(frozen=True)
class Block:
    """A block of a network. Widths are channels.

    kind: plain, separable, residual, bottleneck, inverted, dense or branches. inner: the channels of its widest layer
    between the first and the last one, or, for a bottleneck, of the narrow ones; those of the layer itself where it is
    but one. ratio: inner / outputs. expansion: inner / inputs. groups: the most that a convolution has, of a depthwise
    one its channels. shortcut: "identity", "projection" or "". activated: the activation right after its last layer,
    before the sum, "" where there is none. end: the name of the layer whose output is the block's.
    """

    name: str
    kind: str
    inputs: int
    inner: int
    outputs: int
    ratio: float
    expansion: float
    groups: int
    kernels: tuple[int, ...]
    layers: int
    shortcut: str
    activated: str
    end: str


@dataclass(frozen=True)
class Architecture:
    """blocks: from input to output. shortest, longest: layers with weights on a way through the network. paths: how
    many ways there are (Veit et al., 2016, https://arxiv.org/abs/1605.06431); gates of squeeze-and-excite are none."""

    blocks: tuple[Block, ...]
    shortest: int
    longest: int
    paths: int

    def to_dict(self) -> dict[str, Any]:
        """Returns it ready for JSON; `paths` becomes its logarithm to the base 2, as it may have hundreds of digits."""
        return {"blocks": [asdict(b) for b in self.blocks], "shortest": self.shortest, "longest": self.longest,
                "paths_log2": math.log2(self.paths)}  # fmt: skip


@dataclass(frozen=True)
class Wiring:
    """The calls of a graph that its first output depends on. before: by call, those that made what it reads, without
    gates; -1 stands for the input. layers: Keras's, by call."""

    graph: Graph
    layers: tuple[Any, ...]
    order: tuple[int, ...]
    before: dict[int, tuple[int, ...]]

    def call(self, n: int) -> LayerFacts:
        return self.graph.calls[n]

    def channels(self, n: int) -> int:
        """The channels of what a call makes, or of the input."""
        return (self.call(n).shape if n >= 0 else self.graph.shapes[self.graph.inputs[0]])[-1]


def architecture(model: "keras.Model") -> Architecture:
    """Returns what a functional Keras model is made of. Raises InputError as `kcnn.facts` does."""
    sides = opened(model).inputs[0].shape[1:3]
    wiring = wired(walk(model, OPEN if None in sides else None), model)
    return Architecture(tuple(blocks(wiring)), *ways(wiring))


def wired(graph: Graph, model: "keras.Model") -> Wiring:
    maker = {t: n for n, call in enumerate(graph.calls) for t in call.outputs}
    needed, pending = set(), [maker[graph.outputs[0]]] if graph.outputs[0] in maker else []
    before: dict[int, tuple[int, ...]] = {}
    while pending:
        n = pending.pop()
        if n in needed:
            continue
        needed.add(n)
        call = graph.calls[n]
        makers = [maker.get(t, -1) for t in call.inputs]
        placed = [m for m in makers if m < 0 or graph.calls[m].field is not None]
        if call.field is not None and placed:
            makers = placed  # what is left out is a gate, which scales what passes and lets nothing else through
        before[n] = tuple(dict.fromkeys(makers))
        pending += [m for m in makers if m >= 0]
    layers = tuple(node.operation for node in leaves(model))
    return Wiring(graph, layers, tuple(sorted(needed)), before)


def weighs(call: LayerFacts) -> bool:
    """Whether a call is a layer in the sense in which a network has so many: a convolution or a dense one."""
    return bool(call.macs)


def ways(wiring: Wiring) -> tuple[int, int, int]:
    """The layers on the shortest and on the longest way through the network, and the number of ways."""
    found: dict[int, tuple[int, int, int]] = {-1: (0, 0, 1)}
    for n in wiring.order:
        shortest, longest, paths = zip(*(found[m] for m in wiring.before[n]), strict=True)
        here = weighs(wiring.call(n))
        found[n] = (min(shortest) + here, max(longest) + here, sum(paths))
    return found[wiring.order[-1]] if wiring.order else (0, 0, 1)


def dominators(wiring: Wiring) -> dict[int, int]:
    """For each call the last one through which all ways to it lead. Cooper, Harvey and Kennedy, 2001."""
    above: dict[int, int] = {-1: -1}
    for n in wiring.order:
        first, *rest = wiring.before[n]
        for other in rest:
            while first != other:
                if first > other:
                    first = above[first]
                else:
                    other = above[other]
        above[n] = first
    return above


def blocks(wiring: Wiring) -> Iterator[Block]:
    """Yields the blocks in their order; the outermost ones, where blocks are in blocks."""
    above, regions, covered = dominators(wiring), {}, set[int]()
    for n in reversed(wiring.order):
        if len(wiring.before[n]) < 2 or n in covered or wiring.call(n).kind not in SUMS | JOINS:
            continue
        regions[n] = region(wiring, n, above[n])
        covered |= regions[n]
    run: list[int] = []
    for n in wiring.order:
        if n in regions:
            yield from chain(wiring, run)
            run = []
            yield branched(wiring, n, above[n], regions[n])
        elif n not in covered:
            run.append(n)
    yield from chain(wiring, run)


def region(wiring: Wiring, end: int, start: int) -> set[int]:
    """The calls on the ways from a call to another, with the latter and without the former."""
    found, pending = set[int](), [end]
    while pending:
        n = pending.pop()
        if n != start and n not in found:
            found.add(n)
            pending += wiring.before[n]
    return found


def branched(wiring: Wiring, end: int, start: int, calls: set[int]) -> Block:
    """The block whose branches go apart at `start` and meet at `end`."""
    branches = [sorted(region(wiring, m, start)) if m != start else [] for m in wiring.before[end]]
    heavy = [[n for n in branch if wiring.call(n).kind in CONVOLUTIONS] for branch in branches]
    main = max(range(len(branches)), key=lambda i: len(heavy[i]))
    others = [h for i, h in enumerate(heavy) if i != main]
    identity = any(not branch for branch in branches)
    shortcut = "identity" if identity else "projection" if others and all(len(h) == 1 for h in others) else ""
    joined = wiring.call(end).kind in JOINS
    if joined:
        kind = "dense" if identity else "branches"
    elif not shortcut:
        kind = "branches"
    else:
        kind = shaped(wiring, heavy[main], wiring.channels(start), wiring.channels(end))
    convs = [n for h in heavy for n in h] if kind == "branches" else heavy[main]
    return made(wiring, kind, convs, start, end, calls, shortcut)


def shaped(wiring: Wiring, convs: Sequence[int], inputs: int, outputs: int) -> str:
    """What the main branch of a residual block makes it: a bottleneck between two 1x1, an inverted one, or neither."""
    if len(convs) < 3 or kernel(wiring, convs[0]) != 1 or kernel(wiring, convs[-1]) != 1:
        return "residual"
    inner = [wiring.channels(n) for n in convs[:-1]]
    if min(inner) > inputs and any(is_depthwise(wiring, n) for n in convs):
        return "inverted"
    return "bottleneck" if max(inner) < outputs else "residual"


def chain(wiring: Wiring, run: Sequence[int]) -> Iterator[Block]:
    """Yields the convolutions of a part without branches; one by one, but for depthwise ones with what belongs to them:
    the 1x1 that expands before, and the 1x1 after."""
    convs = [n for n in run if wiring.call(n).kind in CONVOLUTIONS]
    k = 0
    while k < len(convs):
        unit = [convs[k]]
        expands = kernel(wiring, convs[k]) == 1 and k + 1 < len(convs) and is_depthwise(wiring, convs[k + 1])
        if expands and wiring.channels(convs[k]) > wiring.channels(wiring.before[convs[k]][0]):
            unit.append(convs[k + 1])
        if is_depthwise(wiring, unit[-1]) and k + len(unit) < len(convs) and kernel(wiring, convs[k + len(unit)]) == 1:
            unit.append(convs[k + len(unit)])
        kind = "inverted" if len(unit) == 3 else "separable" if is_depthwise(wiring, unit[0]) else "plain"
        k += len(unit)
        last = convs[k] if k < len(convs) else (run[-1] + 1)
        calls = {n for n in run if unit[0] <= n < last}
        yield made(wiring, kind, unit, wiring.before[unit[0]][0], unit[-1], calls, "")


def made(
    wiring: Wiring, kind: str, convs: Sequence[int], start: int, end: int, calls: set[int], shortcut: str
) -> Block:
    widths = [wiring.channels(n) for n in convs]
    inputs, outputs = wiring.channels(start), wiring.channels(end)
    between = widths[:-1] or widths or [outputs]
    inner = min(between) if kind == "bottleneck" else max(between)
    return Block(
        name=named(wiring, sorted(calls), end),
        kind=kind,
        inputs=inputs,
        inner=inner,
        outputs=outputs,
        ratio=inner / outputs,
        expansion=inner / inputs,
        groups=max((groups(wiring, n) for n in convs), default=1),
        kernels=tuple(kernel(wiring, n) for n in convs),
        layers=sum(weighs(wiring.call(n)) for n in calls),
        shortcut=shortcut,
        activated=activation_after(wiring, convs[-1], calls) if convs else "",
        end=wiring.call(end).name,
    )


def named(wiring: Wiring, calls: Sequence[int], end: int) -> str:
    """What the names of a block's layers begin with, or the name of its last one."""
    names = [wiring.call(n).name for n in calls]
    common = "".join(c[0] for c in itertools.takewhile(lambda c: len(set(c)) == 1, zip(*names, strict=False)))
    common = common[: common.rfind("_")] if "_" in common and len(names) > 1 else ""
    return common or wiring.call(end).name


def is_depthwise(wiring: Wiring, n: int) -> bool:
    return groups(wiring, n) > 1 and groups(wiring, n) == wiring.channels(wiring.before[n][0])


def groups(wiring: Wiring, n: int) -> int:
    if wiring.call(n).kind in ("DepthwiseConv2D", "SeparableConv2D"):
        return wiring.channels(wiring.before[n][0])
    return int(getattr(wiring.layers[n], "groups", 1))


def kernel(wiring: Wiring, n: int) -> int:
    return max(getattr(wiring.layers[n], "kernel_size", (1,)))


def activation_after(wiring: Wiring, n: int, calls: set[int]) -> str:
    """The activation that a layer's outputs go through before anything else reads them, inside the block."""
    while True:
        name = activation_of(wiring.layers[n])
        if name:
            return name
        after = [m for m in calls if n in wiring.before[m]]
        if len(after) != 1 or not (activation_of(wiring.layers[after[0]]) or wiring.call(after[0]).kind in BETWEEN):
            return ""
        n = after[0]


def activation_of(layer: Any) -> str:
    """The name of the activation that a layer is or has, "" for none."""
    found = getattr(layer, "activation", None)
    if found is not None:
        name = getattr(found, "__name__", str(found))
        return "" if name == "linear" else name
    kind = type(layer).__name__
    if kind == "ReLU":
        return "relu6" if layer.max_value == 6 else "relu"
    return kind.lower() if kind in ("Relu", "Relu6", "Silu", "Gelu", "LeakyReLU", "PReLU", "ELU") else ""
