"""Facts read off the graph: what a network costs, sees and needs, in total, per stage and per layer."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import keras

from kcnn.arch import Arch
from kcnn.builder import Stem, abstract, build
from kcnn.errors import InputError
from kcnn.graph import Graph, LayerFacts, walk
from kcnn.memory import memory_parts


@dataclass(frozen=True)
class StageFacts:
    """A part of a network: sums over its layers, and shape, field and stride of its last tensor with places.

    resolution, receptive_field, stride, centre: pixels of the longer side; centre is that of what the first output
    sees, from the middle of the input's first pixel. They are None (resolution 1) where nothing is spatial.
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
    remark: str = ""


@dataclass(frozen=True)
class Facts:
    """What a network costs, sees and needs.

    resolution: pixels. params: trainable weights. macs: multiply-adds of convolutions and dense layers for one
    image, biases not counted. activations: output elements of all convolutions for one image (Radosavovic et al.,
    2020, https://arxiv.org/abs/2003.13678).
    receptive_field: pixels along the larger side that one place of the last spatial tensor sees, theoretically and
    including padding. Where a tensor is multiplied by a gate made from its global mean (squeeze-and-excite) the gate
    does not count, or every such field would be the whole image. None where no tensor is spatial.
    """

    name: str
    resolution: int
    params: int
    params_nontrainable: int
    macs: int
    activations: int
    receptive_field: int | None
    stages: tuple[StageFacts, ...]
    remarks: tuple[str, ...]
    graph: Graph = field(repr=False)

    @property
    def layers(self) -> tuple[LayerFacts, ...]:
        return self.graph.calls

    def memory_parts(self, batch: int, dtype: str = "float32", training: bool = True, slots: int = 1) -> dict[str, int]:
        """Bytes of weights, optimizer, gradients, activations and their total: see kcnn.memory.memory_parts."""
        return memory_parts(self.graph, batch, dtype, training, slots)

    def memory(self, batch: int, dtype: str = "float32", training: bool = True, slots: int = 1) -> int:
        """The most bytes in use at once in a step of training, or in inference."""
        return self.memory_parts(batch, dtype, training, slots)["total"]

    def to_dict(self) -> dict[str, Any]:
        """All but the layers, ready for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "graph"}


def facts(model: Arch | str | keras.Model, classes: int = 1000, *, width: float = 1.0, depth: float = 1.0,
          resolution: int | None = None, channels: int = 3, stem: Stem = "auto") -> Facts:  # fmt: skip
    """The facts of a network, given by name, as an Arch (built by these arguments, without allocating weights), or as
    any functional Keras model (`resolution` then serves one whose input leaves its size open).

    Raises InputError for an unknown name, impossible arguments, and a layer that has no rule.
    """
    if isinstance(model, Arch | str):
        with abstract():
            model = build(model, classes, width=width, depth=depth, resolution=resolution, channels=channels, stem=stem)
    elif (width, depth) != (1, 1):
        raise InputError("width and depth scale an architecture, not a model that has been built")
    graph = walk(model, resolution)
    parts: dict[str, list[LayerFacts]] = {}
    for call, part in zip(graph.calls, stage_names(graph), strict=True):
        parts.setdefault(part, []).append(call)
    size = max(graph.shapes[graph.inputs[0]][:2])
    stages = tuple(stage_facts(name, calls, size) for name, calls in sorted(parts.items(), key=lambda p: order(p[0])))
    seen = last([c for c in graph.calls if c.outputs[0] in ancestors(graph)])
    whole = seen.receptive_field if seen else None
    remarks = [f"{s.name}: {s.remark}" for s in stages if s.remark]
    if whole is not None and whole < size:
        remarks.append(f"the receptive field of {whole} pixels is smaller than the image of {size}")
    return Facts(model.name, size, *(sum(getattr(c, what) for c in graph.calls) for what in
                 ("params", "params_nontrainable", "macs", "activations")), whole, stages, tuple(remarks), graph)  # fmt: skip


def stage_facts(name: str, calls: list[LayerFacts], size: int) -> StageFacts:
    end = last(calls)
    seen = end.receptive_field if end else None
    shape = end.shape if end else calls[-1].shape
    blocks = {m[1] for c in calls if (m := re.match(r"(?:stage\d+_)?([a-z]+\d*)", c.name))} if end else set()
    remark = f"sees {seen} of {size} pixels, less than half" if seen is not None and seen < size / 2 else ""
    return StageFacts(name, max(shape[:2]) if end else 1, shape[-1], len(blocks), sum(c.params for c in calls),
                      sum(c.macs for c in calls), sum(c.activations for c in calls), seen, end and end.stride,
                      end and end.centre, remark)  # fmt: skip


def stage_names(graph: Graph) -> Iterable[str]:
    """A stage for each call: by its layer's name in networks of ours, by its stride in others."""
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


def last(calls: list[LayerFacts]) -> LayerFacts | None:
    """The last call whose output has places."""
    return next((c for c in reversed(calls) if c.field is not None), None)


def ancestors(graph: Graph) -> set[int]:
    """The tensors that the first output depends on: those of auxiliary heads are left out."""
    wanted = {graph.outputs[0]}
    for call in reversed(graph.calls):
        if wanted.intersection(call.outputs):
            wanted.update(call.inputs)
    return wanted
