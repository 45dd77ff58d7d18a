"""The networks of studies: a few stages of one block, as in papers on small images, at equal costs where it matters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import kcnn
from kcnn.arch import Arch, Style, block, stage
from trainers.config import TrainConfig
from trainers.settings import resolve

HEAD = (block("average"), block("dropout"))
STRIDES = (1, 2, 2)
SHAPE = (1, 2, 4)  # the widths of the stages, in those of the first


@dataclass(frozen=True)
class Arm:
    """One of what a study compares: a network, the user's where it is None, and the flags of `kcnn train` that are its
    own."""

    arch: Arch | None
    flags: Mapping[str, Any] = field(default_factory=dict)


def stack(kind: str, depth: int, width: float, /, *, multiple: int = 8, norm: bool = True, first: int = 0,
          **options: Any) -> Arch:  # fmt: skip
    """Three stages of so many blocks of a kind: of the width, twice and four times it, in multiples of `multiple`.

    first: the width of the stem, which is a 3x3 without stride (default: the first stage's).
    """
    widths = [max(multiple, round(width * by / multiple) * multiple) for by in SHAPE]
    rows = tuple(stage(kind, depth, w, s, **options) for w, s in zip(widths, STRIDES, strict=True))
    name = "-".join([kind.replace("_", "-"), f"d{depth}", f"w{widths[0]}"])
    return Arch(
        name,
        "study",
        32,
        (block("conv", first or widths[0], kernel=3),),
        rows,
        HEAD,
        Style(norm="batch" if norm else None),
    )


def at_cost(make: Callable[[float], Arch], macs: float, resolution: int, most: float = 256.0) -> Arch:
    """The network of `make(width)` whose multiply-adds come nearest."""
    seen: dict[str, tuple[float, Arch]] = {}
    low, high = 1.0, most
    for _ in range(16):
        middle = (low + high) / 2
        arch = make(middle)
        cost = multiply_adds(arch, resolution)
        seen[repr(arch)] = (abs(cost / macs - 1), arch)
        low, high = (middle, high) if cost < macs else (low, middle)
    return min(seen.values(), key=lambda found: found[0])[1]


def multiply_adds(arch: Arch, resolution: int) -> int:
    return kcnn.facts(replace(arch, resolution=resolution), 10, stem="standard").macs


def facts_of(config: TrainConfig, classes: int) -> kcnn.Facts:
    """What a run's network costs, at its resolution."""
    return kcnn.facts(resolve(config).arch, classes, stem="standard")
