"""What a network makes of images: how many directions its features span, and what is lost on the way.

Looked at are the end of each stage and the narrowest layer in it. Memory does not grow with the number of images, but
for the means of maps that the linear probe keeps, of up to PROBED images.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kcnn.analysis.graph import nodes, opened, walk
from kcnn.analysis.summary import stage_names
from kcnn.diagnosis.architecture import BETWEEN, CONVOLUTIONS, activation_of
from kcnn.diagnosis.probe import probe_accuracy
from kcnn.diagnosis.spectrum import Alignment, Moments, entropy_rank, participation, share_of_first
from kcnn.errors import InputError

if TYPE_CHECKING:
    import keras

PLACES = 49  # of a map, at which its channels are looked at
AREAS = 4  # along each side, over whose means maps are compared
PROBED = 2000  # images
TENTH = 0.1  # of the directions
LIMITS = {"relu6": 6.0, "sigmoid": 0.99, "tanh": 0.99, "hard_sigmoid": 1.0}  # from where on a unit is saturated


@dataclass(frozen=True)
class Span:
    """What the features at a place span.

    where: "end" or "narrow". effective: as many directions as the spectrum's entropy says (Roy and Vetterli, 2007);
    participation: as its participation ratio says. first_tenth: the share of the variance in a tenth of the directions.
    relu_loses: the share of the variance that no affine map gives back after a ReLU here; activated: the activation
    that there is, "" for none. probe: the accuracy of a linear classifier on the means of the map.
    """

    stage: str
    where: str
    layer: str
    channels: int
    effective: float
    participation: float
    first_tenth: float
    relu_loses: float
    activated: str
    probe: float | None


@dataclass(frozen=True)
class Units:
    """The units of an activation: channels that never move (dead), and the share of values at the upper limit."""

    layer: str
    units: int
    dead: int
    saturated: float


@dataclass(frozen=True)
class Likeness:
    """How alike two ends of blocks in a row are: linear CKA, 1 where the block between changes nothing."""

    before: str
    after: str
    cka: float


@dataclass(frozen=True)
class Representation:
    images: int
    spans: tuple[Span, ...]
    units: tuple[Units, ...]
    likeness: tuple[Likeness, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Place:
    """A place in a network that is looked at: a tensor of Keras, and what is gathered there."""

    stage: str
    where: str
    layer: str
    tensor: Any
    activated: str
    moments: Moments = field(default_factory=Moments)
    means: list[np.ndarray] = field(default_factory=list)


def representation(
    model: "keras.Model", batches: Iterable[tuple[np.ndarray, np.ndarray | None]], compared: Iterable[str] = ()
) -> Representation:
    """Looks at what a network makes of images.

    batches: pixels (n, height, width, channels) as the network takes them, and their labels int (n,) or None. compared:
    names of layers in a row, such as the ends of blocks, whose outputs are compared. Raises InputError for a model
    without a graph and where there are no images.
    """
    import keras

    function = opened(model)
    places = [*looked_at(model)]
    acts = [(n.operation.name, n.outputs[0]) for n in nodes(function) if activation_of(n.operation)]
    ends = [named(function, name) for name in compared]
    limits = [LIMITS.get(activation_of(function.get_layer(name)), 0.0) for name, _ in acts]
    outputs = (
        [place.tensor for place in places]
        + [y for (_, x), limit in zip(acts, limits, strict=True) for y in extremes(x, limit)]
        + [areas(x) for x in ends]
    )
    if not outputs:
        raise InputError(f"model {model.name}: it has no layer that could be looked at")
    looking = keras.Model(function.inputs, outputs)
    draws, images, labels = np.random.default_rng(0), 0, []
    most = [np.full(x.shape[-1], -np.inf) for _, x in acts]
    least, over = [-m for m in most], np.zeros(len(acts))
    likeness = [Alignment() for _ in ends[1:]]
    for pixels, targets in batches:
        found = [np.asarray(y) for y in looking.predict_on_batch(pixels)] if len(outputs) > 1 else [
            np.asarray(looking.predict_on_batch(pixels))
        ]  # fmt: skip
        first, then = found[: len(places)], found[len(places) : len(places) + 3 * len(acts)]
        for place, y in zip(places, first, strict=True):
            x = some_places(y, draws)
            place.moments.add(x, np.maximum(x, 0))
            if targets is not None and images < PROBED:
                place.means.append(y.reshape(len(y), -1, y.shape[-1]).mean(1, dtype=np.float32))
        if targets is not None and images < PROBED:
            labels.append(targets)
        for k in range(len(acts)):
            most[k] = np.maximum(most[k], then[3 * k].max(0))
            least[k] = np.minimum(least[k], then[3 * k + 1].min(0))
            over[k] += float(then[3 * k + 2].sum())
        maps = found[len(places) + 3 * len(acts) :]
        for alignment, x, y in zip(likeness, maps, maps[1:], strict=False):
            alignment.add(x, y)
        images += len(pixels)
    if not images:
        raise InputError("no images: some are needed to see what a network makes of them")
    refuse_infinite(model, places)
    known = np.concatenate(labels) if labels else None
    return Representation(
        images,
        tuple(span(place, known) for place in places),
        tuple(
            units(name, high, low, n / images) for (name, _), high, low, n in zip(acts, most, least, over, strict=True)
        ),
        tuple(
            Likeness(before, after, alignment.value())
            for before, after, alignment in zip(compared, [*compared][1:], likeness, strict=False)
        ),
    )


def refuse_infinite(model: "keras.Model", places: Iterable[Place]) -> None:
    """Raises InputError where a layer makes numbers that are not finite."""
    for place in places:
        if not np.isfinite(place.moments.xx).all():
            raise InputError(
                f"model {model.name}: what its layer {place.layer} makes of the images is no finite number"
            )


def units(name: str, most: np.ndarray, least: np.ndarray, over: float) -> Units:
    """The units of an activation by the highest and lowest value of each; those that never change are dead."""
    still = most - least <= 1e-6 * max(1e-6, float(np.abs(most).max()))
    return Units(name, len(most), int(np.sum(still)), over)


def span(place: Place, labels: np.ndarray | None) -> Span:
    spectrum = place.moments.spectrum()
    return Span(
        stage=place.stage,
        where=place.where,
        layer=place.layer,
        channels=len(spectrum),
        effective=entropy_rank(spectrum),
        participation=participation(spectrum),
        first_tenth=share_of_first(spectrum, max(1, round(TENTH * len(spectrum)))),
        relu_loses=place.moments.lost(),
        activated=place.activated,
        probe=None if labels is None else probe_accuracy(np.concatenate(place.means), labels),
    )


def looked_at(model: "keras.Model") -> Iterator[Place]:
    """Yields the end of each stage, and the narrowest layer in it before its activation, in the order of the graph."""
    function = opened(model)
    graph = walk(model, None if None not in function.inputs[0].shape[1:3] else 64)
    stages = dict(zip((call.name for call in graph.calls), stage_names(graph), strict=True))
    spatial = [n for n in nodes(function) if n.operation.name in stages and len(n.outputs[0].shape) == 4]
    parts: dict[str, list[Any]] = {}
    for node in spatial:
        if not stages[node.operation.name].startswith("aux"):
            parts.setdefault(stages[node.operation.name], []).append(node)
    for stage, members in parts.items():
        convs = [n for n in members if type(n.operation).__name__ in CONVOLUTIONS and not is_gate(n)]
        if convs and re.match(r"stage|stride", stage):
            narrow = min(reversed(convs), key=lambda n: n.outputs[0].shape[-1])
            node, activated = before_activation(function, narrow)
            yield Place(stage, "narrow", narrow.operation.name, node.outputs[0], activated)
        if stage != "head":
            yield Place(
                stage, "end", members[-1].operation.name, members[-1].outputs[0], activation_of(members[-1].operation)
            )


def is_gate(node: Any) -> bool:
    """Whether a layer works on a single place, as in squeeze-and-excite."""
    return tuple(node.outputs[0].shape[1:3]) == (1, 1)


def before_activation(function: Any, node: Any) -> tuple[Any, str]:
    """The node whose outputs are a layer's with its normalization, and the activation that follows or is in it."""
    while not activation_of(node.operation):
        after = [n for n in nodes(function) if any(x is node.outputs[0] for x in n.input_tensors)]
        if len(after) != 1:
            return node, ""
        if activation_of(after[0].operation):
            return node, activation_of(after[0].operation)
        if type(after[0].operation).__name__ not in BETWEEN:
            return node, ""
        node = after[0]
    return node, activation_of(node.operation)


def named(function: Any, name: str) -> Any:
    """The output of the layer of this name. Raises InputError where there is none."""
    for node in nodes(function):
        if node.operation.name == name:
            return node.outputs[0]
    raise InputError(f"model {function.name}: it has no layer {name!r}")


def extremes(x: Any, limit: float) -> list[Any]:
    """The highest and the lowest value of each channel of an image, and the share of its values at the limit."""
    from keras import ops

    axes = tuple(range(1, len(x.shape) - 1))
    high, low = (ops.max(x, axes), ops.min(x, axes)) if axes else (x, x)
    above = ops.cast(x >= limit, "float32") if limit else ops.zeros_like(x)
    return [high, low, ops.mean(above, tuple(range(1, len(x.shape))))]


def areas(x: Any) -> Any:
    """A map (n, height, width, channels) as the means of at most AREAS x AREAS areas."""
    import keras

    if len(x.shape) != 4:
        return x
    size = tuple(-(-side // AREAS) for side in x.shape[1:3])
    return keras.layers.AveragePooling2D(size, padding="same")(x)


def some_places(y: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """The channels at PLACES places of each map at most: (n', channels)."""
    flat = y.reshape(len(y), -1, y.shape[-1])
    if flat.shape[1] > PLACES:
        flat = flat[:, np.sort(draws.choice(flat.shape[1], PLACES, replace=False))]
    return flat.reshape(-1, y.shape[-1])
