"""Where the time of a step goes: each layer is measured on this device, beside its multiply-adds and bytes.

A layer's time is that of its forward pass and of both its gradients, alone, on numbers at random of its own shapes.
Where several layers read a tensor, their gradients are added up, which is a row of its own. The whole step is measured
likewise, so that what is between the layers has a name, too. What a call costs without doing anything is taken off.
"""

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.analysis.graph import Graph, leaves, walk
from kcnn.analysis.summary import stage_names
from trainers.distribute.allocator import keep_freed_memory

ROUNDS, SECONDS = 5, 0.02  # a layer is called so often at least, and until it has taken so long
SIDE, COPIED = 2048, 2**25  # of the square matrices and the numbers in the copy that show what the machine can do
NEAR = 0.5  # of a ceiling: a layer that reaches so much is bound by it
CHAIN = 2000  # operations on a single number, which show what an operation costs before it has done anything
OVERHEAD = 10.0  # times that cost: a layer that takes no more is bound by being started


@dataclass(frozen=True)
class LayerTime:
    """seconds: of a forward and a backward pass. macs, bytes: of both, three times the forward pass's. bound:
    "arithmetic", "memory", "overhead", or "" where it stays below all of its roofs."""

    layer: str
    kind: str
    stage: str
    seconds: float
    macs: int
    bytes: int
    bound: str


@dataclass(frozen=True)
class Timing:
    """layers: in the order of the graph. step: seconds of the whole forward and backward pass. product: multiply-adds
    a second of a large matrix product. copy: bytes a second that are read and written by a copy. start: seconds that an
    operation costs before it has done anything."""

    batch: int
    layers: tuple[LayerTime, ...]
    step: float
    product: float
    copy: float
    start: float

    @property
    def rest(self) -> float:
        """The seconds of the step that no layer alone has; below 0 where they overlap or keep their numbers at hand."""
        return self.step - sum(row.seconds for row in self.layers)

    def shares(self) -> dict[str, float]:
        """The share of each bound in the time of all layers."""
        total = sum(row.seconds for row in self.layers) or 1.0
        bounds = dict.fromkeys(("arithmetic", "memory", "overhead", ""), 0.0)
        for row in self.layers:
            bounds[row.bound] += row.seconds / total
        return bounds

    def to_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("batch", "step", "rest", "product", "copy", "start")}
        return plain | {"bounds": self.shares(), "layers": [asdict(row) for row in self.layers]}


def timing(model: keras.Model, batch: int, say: Callable[[int], None] = lambda layers: None) -> Timing:
    """Measures a network at a batch size. `say` hears of each layer that is done. Raises InputError as `facts` does."""
    keep_freed_memory()  # as training does
    graph = walk(model)
    call = seconds_of(compiled(lambda x: x, []), [tf.zeros(1)])
    product, copy, start = ceilings(call)
    rows: list[LayerTime] = []
    made: dict[int, tuple[str, str]] = {}
    for n, (facts, node, stage) in enumerate(zip(graph.calls, leaves(model), stage_names(graph), strict=True)):
        seconds = max(0.0, layer_seconds(node, batch) - call)
        made |= dict.fromkeys(facts.outputs, (facts.name, stage))
        macs, size = 3 * batch * facts.macs, 3 * moved(graph, n, batch)
        rows.append(
            LayerTime(
                facts.name, facts.kind, stage, seconds, macs, size, bound(seconds, macs, size, product, copy, start)
            )
        )
        say(1)
    for tensor, readers in forks(graph):
        numbers = [tf.random.normal((batch, *graph.shapes[tensor])) for _ in range(readers)]
        seconds = max(0.0, seconds_of(tf.function(lambda *x: tf.add_n(x), autograph=False), numbers) - call)
        size = 4 * (readers + 1) * batch * math.prod(graph.shapes[tensor])
        name, stage = made[tensor]
        how = bound(seconds, 0, size, product, copy, start)
        rows.append(LayerTime(f"{name}, its gradients", "sum of gradients", stage, seconds, 0, size, how))
    image = tf.random.uniform((batch, *model.input_shape[1:]), maxval=255.0)
    weights = [v.value for v in model.trainable_variables]
    step = seconds_of(compiled(lambda x: model(x, training=True), weights), [image])
    return Timing(batch, tuple(rows), step - call, product, copy, start)


def by_kind(rows: Iterable[LayerTime]) -> list[tuple[str, float]]:
    """The seconds of each kind of layer, the most first."""
    kinds: Counter[str] = Counter()
    for row in rows:
        kinds[row.kind] += row.seconds  # type: ignore[assignment]
    return [(kind, float(seconds)) for kind, seconds in kinds.most_common()]


def forks(graph: Graph) -> list[tuple[int, int]]:
    """The tensors that several calls read, whose gradients are added up, and how many read each."""
    readers = Counter(i for call in graph.calls for i in call.inputs)
    return [(tensor, count) for tensor, count in sorted(readers.items()) if count > 1 and tensor not in graph.inputs]


def moved(graph: Graph, n: int, batch: int) -> int:
    """The bytes of what a call reads and writes, in float32."""
    call = graph.calls[n]
    numbers = sum(math.prod(graph.shapes[i]) for i in call.inputs + call.outputs)
    return 4 * (batch * numbers + call.params + call.params_nontrainable)


def bound(seconds: float, macs: int, size: int, product: float, copy: float, start: float) -> str:
    if seconds <= OVERHEAD * start:
        return "overhead"
    if macs / seconds >= NEAR * product:
        return "arithmetic"
    return "memory" if size / seconds >= NEAR * copy else ""


def layer_seconds(node: Any, batch: int) -> float:
    """The seconds of a call of a layer and of its gradients, with what it costs to call at all."""
    inputs = [tf.random.normal((batch, *x.shape[1:])) for x in node.input_tensors]
    places = [id(x) for x in node.input_tensors]

    def run(*tensors: tf.Tensor) -> Any:
        args, kwargs = node.arguments.fill_in(dict(zip(places, tensors, strict=True)))
        return node.operation(*args, **kwargs)

    weights = [v.value for v in getattr(node.operation, "trainable_variables", [])]
    return seconds_of(compiled(run, weights), inputs)


def compiled(function: Callable[..., Any], weights: list[Any]) -> Callable[..., Any]:
    """The function with its gradients by its inputs and weights, as one graph."""

    @tf.function(autograph=False)
    def step(*inputs: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = tf.nest.flatten(function(*inputs))
        return tape.gradient(y, [*inputs, *weights], unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return step


def seconds_of(function: Callable[..., Any], inputs: list[tf.Tensor]) -> float:
    """The median time of a call, after two that prepare it."""
    times: list[float] = []
    for _ in range(2):
        settle(function(*inputs))
    while len(times) < ROUNDS or sum(times) < SECONDS:
        start = time.perf_counter()
        settle(function(*inputs))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def settle(found: Any) -> None:
    """Waits for a result: a device works on after a call has returned."""
    last = tf.nest.flatten(found)[-1]
    np.asarray(tf.reshape(last, [-1])[:1])


def ceilings(call: float) -> tuple[float, float, float]:
    """Multiply-adds a second of a product of two large matrices, bytes a second of a copy, seconds of an operation."""
    matrix = tf.random.normal((SIDE, SIDE))
    product = seconds_of(tf.function(lambda x: x @ x, autograph=False), [matrix]) - call
    numbers = tf.random.normal((COPIED,))
    copy = seconds_of(tf.function(lambda x: x + 1.0, autograph=False), [numbers]) - call

    @tf.function(autograph=False)
    def chain(x: tf.Tensor) -> tf.Tensor:
        for _ in range(CHAIN):
            x = tf.math.sin(x)  # which no optimizer puts together
        return x

    start = (seconds_of(chain, [tf.ones(())]) - call) / CHAIN
    return SIDE**3 / product, 2 * 4 * COPIED / copy, max(start, 1e-7)
