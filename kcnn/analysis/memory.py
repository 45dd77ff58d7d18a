"""The memory that a network takes, found by a rehearsal of its step on the graph, tensor by tensor."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from kcnn.analysis.graph import Graph, LayerFacts
from kcnn.errors import InputError, shown, whole

# Bytes of an element of an activation, and of the copy of a weight that mixed precision computes with.
PRECISIONS = {"float32": (4, 0), "mixed_bfloat16": (2, 2), "mixed_float16": (2, 2), "bfloat16": (2, 2),
              "float16": (2, 2)}  # fmt: skip
MOST_IMAGES = 10**9  # in a batch
MASTER = 4  # bytes of a weight, its gradient and each of its optimizer's slots: float32 in every precision


@dataclass
class Heap:
    """A heap has live buffers, and the most bytes they ever came to. A buffer goes when nothing holds it any more."""

    live: int = 0
    peak: int = 0
    size: dict[int, int] = field(default_factory=dict)
    holders: Counter[int] = field(default_factory=Counter)

    def new(self, size: int, holders: int) -> int:
        buffer = len(self.size)
        self.size[buffer] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        self.holders[buffer] = holders
        if not holders:
            self.live -= size
        return buffer

    def hold(self, buffer: int, holders: int) -> int:
        self.holders[buffer] += holders
        return buffer

    def drop(self, buffer: int) -> None:
        self.holders[buffer] -= 1
        if not self.holders[buffer]:
            self.live -= self.size[buffer]


def memory_parts(
    graph: Graph,
    batch: int,
    dtype: str = "float32",
    training: bool = True,
    slots: int = 1,
    segments: Sequence[Graph] = (),
) -> dict[str, int]:
    """Returns bytes by name: weights, gradients, optimizer, ahead, activations, and total, the most in use at once.

    Against TensorFlow's allocator on CPU it was right within 15 % (tests/kcnn/analysis/test_memory.py says how). It
    leaves out the scratch of kernels, what operations that overlap hold longer, and what the process itself takes.
    weights: with their copies in a lower precision. optimizer: `slots` values for each trainable weight.
    gradients: those of all weights, which wait for one another, because clipping by the global norm and the mean over
    replicas need them all. ahead: one value for each weight where there are slots, because TensorFlow computes what
    needs no gradient, such as momentum * slot or decay * weight, as soon as a step begins. activations: in training,
    what back-propagation keeps; in inference, the largest set of live tensors, in the better of two orders: by depth,
    as Keras calls layers, and depth first. Gradients grow while activations shrink, and the total also counts tensors
    that are soon let go, so it is not the sum of the other values.
    dtype: float32, or mixed_bfloat16, mixed_float16: 2 bytes an activation, weights in float32 beside a copy.
    segments: of the graph, where training keeps what crosses between them and computes their insides again.
    """
    batch, slots = whole("batch", batch, MOST_IMAGES), whole("slots", slots, 100, least=0)
    if dtype not in PRECISIONS:
        raise InputError(f"precision {shown(dtype)}: one of {', '.join(PRECISIONS)} is needed")
    item, copy = PRECISIONS[dtype]
    trainable = sum(c.params for c in graph.calls)
    weights = (trainable + sum(c.params_nontrainable for c in graph.calls)) * (MASTER + copy)
    if not training:
        orders = (graph.calls, tuple(depth_first(graph)))
        live = min(rehearse(graph, order, batch * item, training=False)[0] for order in orders)
        return {
            "weights": weights,
            "gradients": 0,
            "optimizer": 0,
            "ahead": 0,
            "activations": live,
            "total": weights + live,
        }
    step, kept = most(segments or [graph], batch * item)
    gradients = trainable * MASTER
    optimizer, ahead = gradients * slots, gradients * min(slots, 1)
    return {
        "weights": weights,
        "gradients": gradients,
        "optimizer": optimizer,
        "ahead": ahead,
        "activations": kept,
        "total": weights + optimizer + ahead + max(step, gradients),
    }


def most(segments: Sequence[Graph], item: int) -> tuple[int, int]:
    """Returns the most bytes that tensors and gradients take at once in training, and those that are kept for the
    gradient, when the segments' gradients are computed one after the other, the last one's first."""
    gradients = sum(c.params for s in segments for c in s.calls) * MASTER
    crossed: set[int] = set()
    peaks: list[int] = []
    activations: list[int] = []
    for s in segments:
        gradients -= sum(c.params for c in s.calls) * MASTER
        crossed.update(s.inputs)
        peak, kept = rehearse(s, s.calls, item, training=True, active=s.inputs if peaks else ())
        sizes = {i: math.prod(s.shapes[i]) * item for i in crossed - set(segments[0].inputs)}
        peaks.append(peak + gradients + sum(size for i, size in sizes.items() if i not in s.inputs))
        activations.append(sum(kept) + sum(sizes.values()))
    return max(peaks), max(activations)


def rehearse(
    graph: Graph, calls: Iterable[LayerFacts], item: int, training: bool, active: Collection[int] = ()
) -> tuple[int, list[int]]:
    """Returns the most bytes that tensors and gradients take at once, in one forward and, in training, one backward
    pass; and for each call the bytes of what it made that are kept from one to the other.

    Forward, an output takes a new buffer, or its input's where the layer allows it and nothing else reads that.
    Backward, in reverse order, a layer makes gradients of its weights, which stay, and of its inputs, and lets go of
    what it had kept. item: bytes of an element times the batch. active: the inputs of which a gradient is wanted.
    """
    calls = list(calls)
    active = differentiable(calls, active) if training else set()
    wanted = Counter(i for c in calls for i in c.inputs)  # how many calls are still to read a tensor
    wanted.update(graph.outputs)
    for call in calls:
        if passes(call, active):
            wanted.update(kept(call))
    heap = Heap()
    # Whoever called the network holds its inputs all the while.
    place = {i: heap.new(math.prod(graph.shapes[i]) * item, wanted[i] + 1) for i in graph.inputs}
    hidden: list[list[int]] = []
    for call in calls:
        size = math.prod(call.shape) * item
        source = reusable(call, place, heap, size)
        for i in call.outputs:
            fresh = math.prod(graph.shapes[i]) * item
            place[i] = heap.new(fresh, wanted[i]) if source is None else heap.hold(source, wanted[i])
        sizes = [{"h": size, "m": math.prod(call.shape) * item // 4}.get(letter, 0) for letter in call.keeps]
        hidden.append([heap.new(s, 1) for s in sizes if s] if passes(call, active) else [])
        for i in call.inputs:
            heap.drop(place[i])
    for i in graph.outputs:
        heap.drop(place[i])
    owned, seen = [], {place[i] for i in graph.inputs}
    for call, extra in zip(calls, hidden, strict=True):
        mine = {place[i] for i in call.outputs} - seen | set(extra)
        seen |= mine
        owned.append(sum(heap.size[b] for b in mine if heap.holders[b]))
    if training:
        backward(graph, calls, item, active, heap, place, hidden)
    return heap.peak, owned


def backward(
    graph: Graph,
    calls: list[LayerFacts],
    item: int,
    active: set[int],
    heap: Heap,
    place: dict[int, int],
    hidden: list[list[int]],
) -> None:
    slope = {i: heap.new(math.prod(graph.shapes[i]) * item, 1) for i in graph.outputs if i in active}
    for call, extra in reversed(list(zip(calls, hidden, strict=True))):
        if not passes(call, active):
            continue
        incoming = [slope.pop(i) for i in call.outputs if i in slope]
        if call.params:
            heap.new(call.params * MASTER, 1)
        for i in call.inputs:
            if i not in active or not incoming:
                continue
            size = math.prod(graph.shapes[i]) * item
            shared = set(call.keeps) & set("iv") and heap.size[incoming[0]] == size
            fresh = heap.hold(incoming[0], 1) if shared else heap.new(size, 1)
            if i in slope:  # the sum takes the place of one of the two
                heap.drop(slope[i])
            slope[i] = fresh
        for buffer in incoming + extra + [place[i] for i in kept(call)]:
            heap.drop(buffer)


def passes(call: LayerFacts, active: set[int]) -> bool:
    """Tells whether back-propagation passes through a call."""
    return any(i in active for i in call.outputs)


def kept(call: LayerFacts) -> list[int]:
    """Returns the tensors that a call keeps until its gradient is computed."""
    return [*(call.inputs if "x" in call.keeps else ()), *(call.outputs if "y" in call.keeps else ())]


def differentiable(calls: list[LayerFacts], inputs: Collection[int] = ()) -> set[int]:
    """Returns the tensors that depend on trainable weights, as these inputs do: nothing is kept for the gradient of
    others."""
    active = set(inputs)
    for call in calls:
        if call.params or any(i in active for i in call.inputs):
            active.update(call.outputs)
    return active


def reusable(call: LayerFacts, place: dict[int, int], heap: Heap, size: int) -> int | None:
    """Returns the buffer of an input that the output may take: its only one, or one that nothing else holds."""
    if "v" in call.keeps:
        return place[call.inputs[0]]
    if "i" in call.keeps:
        for i in call.inputs:
            if heap.holders[place[i]] == call.inputs.count(i) and heap.size[place[i]] == size:
                return place[i]
    return None


def depth_first(graph: Graph) -> Iterable[LayerFacts]:
    """Yields the calls with each branch run to its end before the next one starts."""
    producer = {i: call for call in graph.calls for i in call.outputs}
    done: set[int] = set(graph.inputs)
    stack = list(reversed(graph.outputs))
    while stack:
        call = producer.get(stack[-1])
        missing = [i for i in call.inputs if i not in done] if call and stack[-1] not in done else []
        if missing:
            stack += reversed(missing)
            continue
        if call and stack[-1] not in done:
            done.update(call.outputs)
            yield call
        stack.pop()
