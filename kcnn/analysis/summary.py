"""Facts are read off the graph: what a network costs, sees and needs, in total, per stage and per layer."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from kcnn.analysis.graph import Graph, LayerFacts, follow, walk
from kcnn.analysis.memory import memory_parts, rehearse
from kcnn.analysis.segments import segments
from kcnn.arch import Arch
from kcnn.builder import Stem, draw
from kcnn.errors import InputError
from kcnn.terminal.tables import as_html, short

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class StageFacts:
    """The facts of a stage are sums over its layers, and what its last tensor with height and width sees.

    resolution, receptive_field, stride, centre: pixels of the longer side. centre: the centre of what the first output
    sees, from the middle of the input's first pixel. Where no tensor has height and width, resolution is 1 and the
    other three are None. blocks: 0 in networks that are not ours. kept: bytes that back-propagation keeps of one image
    in float32.
    intensity: see Facts.
    """

    name: str
    resolution: int
    width: int
    blocks: int
    params: int
    macs: int
    activations: int
    receptive_field: int | None
    stride: float | None
    centre: float | None
    kept: int
    intensity: float
    remark: str = ""


@dataclass(frozen=True)
class Facts:
    """The facts of a network tell what it costs, sees and needs.

    resolution: pixels. params: trainable weights. macs: multiply-adds of convolutions and dense layers for one
    image, biases not counted. activations: output elements of all convolutions for one image (Radosavovic et al.,
    2020, https://arxiv.org/abs/2003.13678).
    receptive_field: pixels along the larger side that one place of the last spatial tensor sees, theoretically and
    including padding. Where a tensor is multiplied by a gate made from its global mean (squeeze-and-excite) the gate
    does not count, or every such field would be the whole image. None where no tensor is spatial.
    intensity: multiply-adds for each byte of weights, inputs and outputs of convolutions and dense layers, for one
    image in float32; other layers are taken to be fused into those.
    """

    name: str
    resolution: int
    params: int
    params_nontrainable: int
    macs: int
    activations: int
    receptive_field: int | None
    intensity: float
    stages: tuple[StageFacts, ...]
    remarks: tuple[str, ...]
    graph: Graph = field(repr=False)

    @property
    def layers(self) -> tuple[LayerFacts, ...]:
        return self.graph.calls

    def memory_parts(
        self, batch: int, dtype: str = "float32", training: bool = True, slots: int = 1, recompute: bool = False
    ) -> dict[str, int]:
        """Returns the bytes of weights, gradients, optimizer and so on: see kcnn.analysis.memory.memory_parts.

        recompute: whether training computes activations again, as `kcnn train --recompute` does.
        """
        return memory_parts(self.graph, batch, dtype, training, slots, segments(self.graph) if recompute else ())

    def memory(
        self, batch: int, dtype: str = "float32", training: bool = True, slots: int = 1, recompute: bool = False
    ) -> int:
        """Returns the most bytes in use at once in a step of training, or in inference."""
        return self.memory_parts(batch, dtype, training, slots, recompute)["total"]

    def to_dict(self) -> dict[str, Any]:
        """Returns all but the layers, ready for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "graph"}
        return plain | {"stages": [asdict(s) for s in self.stages], "remarks": list(self.remarks)}

    def _repr_html_(self) -> str:
        """The costs of each stage and of all as a table, for notebooks."""
        costs = ("params", "macs", "activations")
        rows = [
            [s.name, *(short(getattr(s, cost)) for cost in costs), str(s.receptive_field or "")] for s in self.stages
        ]
        rows.append(["all", *(short(getattr(self, cost)) for cost in costs), str(self.receptive_field or "")])
        heads = ("stage", "parameters", "multiply-adds", "activations", "receptive field")
        return as_html(f"{self.name} at {self.resolution} pixels", heads, rows)

    def layer_dicts(self) -> list[dict[str, Any]]:
        """Returns the layers, ready for JSON: counts, what they see, and the bytes kept of one image in float32."""
        plain = ("name", "kind", "params", "params_nontrainable", "macs", "activations", "receptive_field", "stride")
        kept = rehearse(self.graph, self.layers, item=4, training=True)[1]
        return [
            {what: getattr(call, what) for what in plain} | {"shape": list(call.shape), "kept": n}
            for call, n in zip(self.layers, kept, strict=True)
        ]


def facts(
    model: "Arch | str | keras.Model",
    classes: int = 1000,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int | None = None,
    channels: int = 3,
    stem: Stem = "auto",
) -> Facts:
    """Returns the facts of a network: of a name or an Arch with these arguments of `build`, for which Keras is not
    even imported; or of any functional Keras model, where `resolution` serves one whose input leaves its size open.

    Raises InputError for an unknown name, impossible arguments, and a layer that has no rule.
    """
    if isinstance(model, Arch | str):
        network = draw(model, classes, width=width, depth=depth, resolution=resolution, channels=channels, stem=stem)
        return summarize(network.name, follow(network))
    if (width, depth) != (1, 1):
        raise InputError("width and depth scale an architecture, not a model that has been built")
    graph = walk(model, resolution)
    return summarize(model.name, graph)


def summarize(name: str, graph: Graph) -> Facts:
    """Returns the facts of the network of this name and graph."""
    size = max(graph.shapes[graph.inputs[0]][:2])
    kept = rehearse(graph, graph.calls, item=4, training=True)[1]
    parts: dict[str, list[int]] = {}
    for n, part in enumerate(stage_names(graph)):
        parts.setdefault(part, []).append(n)
    stages = [
        stage_facts(graph, part, [graph.calls[n] for n in parts[part]], sum(kept[n] for n in parts[part]), size)
        for part in sorted(parts, key=order)
    ]
    needed = ancestors(graph)
    seen = last([c for c in graph.calls if needed.intersection(c.outputs)])
    whole = seen.receptive_field if seen else None
    remarks = [f"{s.name} {s.remark}" for s in stages if s.remark]
    if whole is not None and whole < size:
        remarks.append(f"the receptive field, {whole} pixels, is smaller than the image of {size}")
    return Facts(
        name=name,
        resolution=size,
        **totals(graph.calls),
        params_nontrainable=sum(c.params_nontrainable for c in graph.calls),
        receptive_field=whole,
        intensity=intensity(graph, graph.calls),
        stages=tuple(stages),
        remarks=tuple(remarks),
        graph=graph,
    )


def stage_facts(graph: Graph, name: str, calls: Sequence[LayerFacts], kept: int, size: int) -> StageFacts:
    end = last(calls)
    shape = (end or calls[-1]).shape
    seen = end.receptive_field if end else None
    blocks = {m[0] for c in calls if (m := re.match(r"stage\d+_block\d+|stem\d+|head\d+|aux\d+_?[a-z]*", c.name))}
    return StageFacts(
        name=name,
        resolution=max(shape[:2]) if end else 1,
        width=shape[-1],
        blocks=len(blocks),
        **totals(calls),
        receptive_field=seen,
        stride=end.stride if end else None,
        centre=end.centre if end else None,
        kept=kept,
        intensity=intensity(graph, calls),
        remark=f"sees {seen} of {size} pixels, less than half" if seen is not None and seen < size / 2 else "",
    )


def totals(calls: Sequence[LayerFacts]) -> dict[str, int]:
    return {what: sum(getattr(c, what) for c in calls) for what in ("params", "macs", "activations")}


def intensity(graph: Graph, calls: Sequence[LayerFacts]) -> float:
    heavy = [c for c in calls if c.macs]
    moved = sum(c.params + sum(math.prod(graph.shapes[i]) for i in c.inputs + c.outputs) for c in heavy)
    return sum(c.macs for c in heavy) / (4 * moved) if moved else 0.0


def stage_names(graph: Graph) -> list[str]:
    """Returns the stage of each call: by its layer's name in networks of ours, by its stride in others."""
    ours = [re.match(r"stem|stage\d+|head|aux\d*|normalize|logits", c.name) for c in graph.calls]
    if all(ours):
        return [{"normalize": "stem", "logits": "head"}.get(m[0], m[0]) for m in ours if m]
    names, name = [], "head"
    for call in reversed(graph.calls):  # what comes after the last tensor with places is the head
        if call.stride is not None:
            name = f"stride{call.stride:g}"
        names.append(name)
    return names[::-1]


def order(stage: str) -> tuple[int, float]:
    kinds = ("stem", "stride", "stage", "head", "aux")
    kind, number = re.fullmatch(r"([a-z]+)([\d.e+-]*)", stage).groups()  # type: ignore[union-attr]
    return kinds.index(kind), float(number or 0)


def last(calls: Sequence[LayerFacts]) -> LayerFacts | None:
    """Returns the last call whose output has height and width."""
    return next((c for c in reversed(calls) if c.field is not None), None)


def ancestors(graph: Graph) -> set[int]:
    """Returns the tensors that the first output depends on, which leaves out those of auxiliary heads."""
    wanted = {graph.outputs[0]}
    for call in reversed(graph.calls):
        if wanted.intersection(call.outputs):
            wanted.update(call.inputs)
    return wanted
