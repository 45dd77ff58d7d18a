"""The design spaces of Radosavovic et al., 2020 (https://arxiv.org/abs/2003.13678), and draws from them.

AnyNetX: four stages of free depths, widths, bottleneck ratios and group widths (A); with one bottleneck ratio for all
(B), and one group width (C), widths that do not shrink (D), depths that do not shrink (E). RegNetX: E's widths on a
quantized line. Y has squeeze-and-excite.
"""

import contextlib
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import kcnn
from kcnn.arch import MOST_BLOCKS, MOST_CHANNELS
from kcnn.errors import InputError
from kcnn.families.points import point

Range = tuple[float, float]

# Section 3.2: d <= 16, w <= 1024 in multiples of 8, b of 1, 2, 4 and g of 1, 2, ..., 32.
ANYNET: dict[str, Range] = {"d": (1, 16), "w": (8, 1024), "g": (1, 32), "b": (1, 4)}
# Section 3.3: d < 64, w0 and wa < 256, 1.5 <= wm <= 3. It gives no lower ends; below 8 a width or slope means nothing.
REGNET: dict[str, Range] = {"d": (1, 63), "w": (8, 248), "a": (8, 255.9), "m": (1.5, 3), "g": (1, 32), "b": (1, 4)}
STEPS = "abcde"
NAMES = (*(f"anynet{kind}-{step}" for kind in "xy" for step in STEPS), "regnetx", "regnety")
SYMBOLS = {"d": "depth", "w": "width", "a": "slope wa", "m": "multiplier wm", "g": "group width", "b": "bottleneck"}


@dataclass(frozen=True)
class DesignSpace:
    """name: as it was written; kind: anynetx, regnety ...; step: "a" to "e" of an AnyNet; ranges by symbol."""

    name: str
    kind: str
    step: str
    ranges: Mapping[str, Range]

    @property
    def slug(self) -> str:
        """The name as a part of names of files."""
        return re.sub(r"[^\w.-]+", "-", self.name)


def parse_space(text: str) -> DesignSpace:
    """anynetx-a, or with narrower ranges regnetx:b=1,d=12..28,m=2..3. Raises InputError."""
    name, _, limits = text.strip().lower().partition(":")
    if name not in NAMES:
        raise InputError(f"space {text!r}: one of {', '.join(NAMES)} is needed")
    ranges = dict(ANYNET if name.startswith("anynet") else REGNET)
    for limit in filter(None, limits.split(",")):
        match = re.fullmatch(r"\s*([a-z])=(\d+\.?\d*)(?:\.\.(\d+\.?\d*))?\s*", limit)
        if not match or match[1] not in ranges:
            known = ", ".join(f"{s} ({SYMBOLS[s]})" for s in ranges)
            raise InputError(f"space {text!r}: {limit!r} is no range; d=12..28 or b=1 is needed, of {known}")
        low, high = float(match[2]), float(match[3] or match[2])
        if not 0 < low <= high:
            raise InputError(f"space {text!r}: the range {limit!r} is empty, its ends have to be above 0 and in order")
        if high > (most := MOST_BLOCKS if match[1] == "d" else MOST_CHANNELS):
            raise InputError(f"space {text!r}: {match[1]} ({SYMBOLS[match[1]]}) goes up to {most:,} at most")
        ranges[match[1]] = (low, high)
    for symbol in "gb":
        if not powers(ranges[symbol]):
            low, high = ranges[symbol]
            raise InputError(f"space {text!r}: no power of two lies in {symbol}={low:g}..{high:g}, and {symbol} is one")
    if not multiples(ranges["w"], 8):
        low, high = ranges["w"]
        raise InputError(f"space {text!r}: no multiple of 8 lies in w={low:g}..{high:g}, and widths are such")
    if ranges.get("m", (2, 2))[0] < 1.001:  # it is drawn to the third decimal
        raise InputError(f"space {text!r}: wm above 1 is needed, 1.001 or more")
    kind, _, step = name.partition("-")
    return DesignSpace(text.strip().lower(), kind, step, ranges)


def powers(within: Range) -> list[int]:
    return [2**n for n in range(20) if within[0] <= 2**n <= within[1]]


def multiples(within: Range, of: int) -> range:
    return range(math.ceil(within[0] / of) * of, math.floor(within[1]) + 1, of)


def log_uniform(rng: random.Random, within: Range, step: float) -> float:
    """The multiple of `step` next to a draw that is uniform in its logarithm."""
    low, high = within
    value = round(math.exp(rng.uniform(math.log(low), math.log(high))) / step)
    return min(max(value, math.ceil(low / step - 1e-9)), math.floor(high / step + 1e-9)) * step


def draw(space: DesignSpace, rng: random.Random, stages: int = 4) -> dict[str, Any] | None:
    """The symbols of a network, drawn uniformly in their logarithm; None for a draw that makes no network.

    Each symbol has one value for each stage, or one for all. An AnyNet's widths are drawn from those that its groups
    divide, of which the paper does not speak.
    """
    return draw_regnet(space, rng, stages) if space.kind.startswith("regnet") else draw_anynet(space, rng, stages)


def draw_regnet(space: DesignSpace, rng: random.Random, stages: int) -> dict[str, Any] | None:
    r = space.ranges
    drawn = {
        "d": int(log_uniform(rng, r["d"], 1)),
        "w": int(log_uniform(rng, r["w"], 8)),
        "a": round(log_uniform(rng, r["a"], 0.1), 1),
        "m": round(log_uniform(rng, r["m"], 0.001), 3),
        "g": rng.choice(powers(r["g"])),
        "b": rng.choice(powers(r["b"])),
    }
    # "When only considering four stage networks, we ignore the combinations that give another number of stages."
    with contextlib.suppress(InputError):  # of widths beyond all bounds
        return drawn if len(kcnn.get(name(space, drawn)).stages) == stages else None
    return None


def draw_anynet(space: DesignSpace, rng: random.Random, stages: int) -> dict[str, Any] | None:
    r = space.ranges
    d = [int(log_uniform(rng, r["d"], 1)) for _ in range(stages)]
    g = [rng.choice(powers(r["g"])) for _ in range(1 if space.step >= "c" else stages)]
    b = [rng.choice(powers(r["b"])) for _ in range(1 if space.step >= "b" else stages)]
    w = []
    for i in range(stages):
        fitting = multiples(r["w"], math.lcm(8, g[i % len(g)] * b[i % len(b)]))
        if not fitting:
            return None
        w.append(int(log_uniform(rng, (fitting[0], fitting[-1]), fitting.step)))
    # The draws of stages are exchangeable: in order they are distributed as those that happen to be in order.
    return {"d": sorted(d) if space.step >= "e" else d, "w": sorted(w) if space.step >= "d" else w, "g": g, "b": b}


def name(space: DesignSpace, symbols: Mapping[str, Any]) -> str:
    return point(space.kind, **symbols)
