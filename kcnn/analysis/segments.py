"""A network cut where it is narrow, for training that keeps what crosses the cuts and computes all else again."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from kcnn.analysis.graph import Graph, LayerFacts
from kcnn.analysis.memory import depth_first, rehearse

TRIALS = 24  # budgets that are tried, each 1.3 times the one before


def segments(graph: Graph) -> list[Graph]:
    """Cuts a graph into graphs that run one after the other; numbers of tensors stay.

    Between two calls it may be cut where one tensor crosses, such as a block's output, or where the next call joins all
    that cross. What crosses all the cuts so far, and the inside of the segment whose gradient is computed, take memory
    at once: the cuts are those with the least of both together (Chen et al., 2016, https://arxiv.org/abs/1604.06174).
    A tensor that is joined of others is not kept but joined again, which makes a dense block's memory linear in its
    depth (Pleiss et al., 2017, https://arxiv.org/abs/1707.06990).
    """
    graph = joined_at_once(graph)
    graph = replace(graph, calls=tuple(depth_first(replace(graph, outputs=(*graph.outputs[1:], graph.outputs[0])))))
    crossing = dict(narrow(graph))
    kept = rehearse(graph, graph.calls, item=4, training=True)[1]
    starts = [0, *crossing]
    sizes = [sum(kept[a:b]) for a, b in itertools.pairwise([*starts, len(kept)])]
    edges = [crossing.get(start, ()) for start in starts]
    budgets = [max(sizes) * 1.3**k for k in range(TRIALS)]
    chosen = min((grouped(sizes, budget) for budget in budgets), key=lambda first: held(graph, sizes, edges, first))
    bounds = [starts[i] for i in chosen]
    return [part(graph, a, b, crossing.get(a, graph.inputs)) for a, b in itertools.pairwise([*bounds, len(kept)])]


def joined_at_once(graph: Graph) -> Graph:
    """Lets each joining of channels read what the joinings before it read, instead of their outputs."""
    pieces: dict[int, tuple[int, ...]] = {}
    calls = []
    for call in graph.calls:
        if joins(graph, call):
            inputs = tuple(itertools.chain.from_iterable(pieces.get(i, (i,)) for i in call.inputs))
            call = replace(call, inputs=inputs)
            pieces[call.outputs[0]] = inputs
        calls.append(call)
    return replace(graph, calls=tuple(calls))


def joins(graph: Graph, call: LayerFacts) -> bool:
    """Tells whether a call puts tensors side by side along their channels."""
    return call.kind == "Concatenate" and sum(graph.shapes[i][-1] for i in call.inputs) == call.shape[-1]


def narrow(graph: Graph) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yields the places where the graph may be cut: the number of the next call, and the tensors that cross."""
    unread = Counter(i for call in graph.calls for i in call.inputs)
    live = set(graph.inputs)
    for n, call in enumerate(graph.calls):
        joined = joins(graph, call) and live == set(call.inputs)
        if n and (len(live) == 1 or joined):
            yield n, call.inputs if joined else tuple(live)
        live.update(i for i in call.outputs if unread[i])
        unread.subtract(call.inputs)
        live.difference_update(i for i in call.inputs if not unread[i])


def grouped(sizes: Sequence[int], budget: float) -> list[int]:
    """Returns the first member of each group of neighbours whose sizes come to at most the budget; the last group is
    filled first, because nothing in it is computed twice."""
    first, total = [len(sizes) - 1], sizes[-1]
    for i in reversed(range(len(sizes) - 1)):
        total += sizes[i]
        if total > budget:
            first.append(i)
            total = sizes[i]
        else:
            first[-1] = i
    return first[::-1]


def held(graph: Graph, sizes: Sequence[int], edges: Sequence[tuple[int, ...]], first: list[int]) -> tuple[int, int]:
    """Returns the most that a grouping holds at once, in bytes of one image in float32, and its number of groups."""
    crossed: set[int] = set()
    peaks = []
    for a, b in itertools.pairwise([*first, len(sizes)]):
        crossed.update(edges[a])
        peaks.append(sum(4 * math.prod(graph.shapes[i]) for i in crossed) + sum(sizes[a:b]))
    return max(peaks), len(first)


def part(graph: Graph, a: int, b: int, inputs: tuple[int, ...]) -> Graph:
    """Returns the graph of the calls from a up to b: its outputs are read by later calls or are the graph's."""
    later = {i for call in graph.calls[b:] for i in call.inputs} | set(graph.outputs)
    outputs = tuple(i for call in graph.calls[a:b] for i in call.outputs if i in later)
    return Graph(graph.calls[a:b], graph.shapes, inputs, outputs)
