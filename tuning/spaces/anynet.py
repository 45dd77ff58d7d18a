"""The design spaces of Radosavovic et al., 2020 (https://arxiv.org/abs/2003.13678), and draws from them.

AnyNetX: four stages of free depths, widths, bottleneck ratios and group widths (A); with one bottleneck ratio for all
(B), and one group width (C), widths that do not shrink (D), depths that do not shrink (E). RegNetX: E's widths on a
quantized line. Y has squeeze-and-excite.
"""

import contextlib
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import kcnn
from kcnn.arch import MOST_BLOCKS, Arch, stage
from kcnn.errors import InputError
from kcnn.families.regnet import MOST_CHANNELS, point
from kcnn.scaling import short

Range = tuple[float, float]

# Section 3.2: d <= 16, w <= 1024 in multiples of 8, b of 1, 2, 4 and g of 1, 2, ..., 32.
ANYNET: dict[str, Range] = {"d": (1, 16), "w": (8, 1024), "g": (1, 32), "b": (1, 4)}
# Section 3.3: d < 64, w0 and wa < 256, 1.5 <= wm <= 3. It gives no lower ends; below 8 a width or slope means nothing.
REGNET: dict[str, Range] = {"d": (1, 63), "w": (8, 248), "a": (8, 255.9), "m": (1.5, 3), "g": (1, 32), "b": (1, 4)}
STEPS = "abcde"
NAMES = (*(f"anynet{kind}-{step}" for kind in "xy" for step in STEPS), "regnetx", "regnety")
SYMBOLS = {"d": "depth", "w": "width", "a": "slope wa", "m": "multiplier wm", "g": "group width", "b": "bottleneck"}

PATIENCE = 30_000  # draws without a network, until a space is taken to have no more
MOST_STAGES = 17  # those of an image of 65,536 pixels
MARGIN = 1.05  # of the estimate, by which a band is widened before facts have the word


@dataclass(frozen=True)
class Space:
    """name: as it was written; kind: anynetx, regnety ...; step: "a" to "e" of an AnyNet; ranges by symbol."""

    name: str
    kind: str
    step: str
    ranges: Mapping[str, Range]

    @property
    def slug(self) -> str:
        """For names of files."""
        return re.sub(r"[^\w.-]+", "-", self.name)


def space(text: str) -> Space:
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
    return Space(text.strip().lower(), kind, step, ranges)


def powers(within: Range) -> list[int]:
    return [2**n for n in range(20) if within[0] <= 2**n <= within[1]]


def multiples(within: Range, of: int) -> range:
    return range(math.ceil(within[0] / of) * of, math.floor(within[1]) + 1, of)


def log_uniform(rng: random.Random, within: Range, step: float) -> float:
    """The multiple of `step` next to a draw that is uniform in its logarithm."""
    low, high = within
    value = round(math.exp(rng.uniform(math.log(low), math.log(high))) / step)
    return min(max(value, math.ceil(low / step - 1e-9)), math.floor(high / step + 1e-9)) * step


def draw(space: Space, rng: random.Random, stages: int = 4) -> dict[str, Any] | None:
    """The symbols of a network, log-uniform, one value for each stage or one for all; None for a draw that makes none.

    An AnyNet's widths are drawn from those that its groups divide, of which the paper does not speak.
    """
    r = space.ranges
    if space.kind.startswith("regnet"):
        drawn = {"d": int(log_uniform(rng, r["d"], 1)), "w": int(log_uniform(rng, r["w"], 8)),
                 "a": round(log_uniform(rng, r["a"], 0.1), 1), "m": round(log_uniform(rng, r["m"], 0.001), 3),
                 "g": rng.choice(powers(r["g"])), "b": rng.choice(powers(r["b"]))}  # fmt: skip
        # "When only considering four stage networks, we ignore the combinations that give another number of stages."
        with contextlib.suppress(InputError):  # of widths beyond all bounds
            return drawn if len(kcnn.get(name(space, drawn)).stages) == stages else None
        return None
    d = [int(log_uniform(rng, r["d"], 1)) for _ in range(stages)]
    g, b = (
        [rng.choice(powers(r[s])) for _ in range(1 if space.step >= shared else stages)] for s, shared in ("gc", "bb")
    )
    w = []
    for i in range(stages):
        fitting = multiples(r["w"], math.lcm(8, g[i % len(g)] * b[i % len(b)]))
        if not fitting:
            return None
        w.append(int(log_uniform(rng, (fitting[0], fitting[-1]), fitting.step)))
    # The draws of stages are exchangeable: in order they are distributed as those that happen to be in order.
    return {"d": sorted(d) if space.step >= "e" else d, "w": sorted(w) if space.step >= "d" else w, "g": g, "b": b}


def name(space: Space, symbols: Mapping[str, Any]) -> str:
    return point(space.kind, **symbols)


def sample(space: Space, count: int, band: Range, finished: Callable[[str], Arch], measure: Callable[[Arch], Any],
           seed: int = 0, stages: int = 4) -> Iterator[tuple[str, dict[str, Any], Any]]:  # fmt: skip
    """The first `count` different networks of a seed whose multiply-adds are in a band: names, symbols and facts.

    finished: the architecture of a name just as it will be built; measure: its facts. Raises InputError where the
    space has not that many.
    """
    refuse(space, band, finished, stages)
    rng, draws = random.Random(f"{seed} {space.name} {stages}"), 0
    known: set[str] = set()
    met: list[float] = []
    while len(known) < count:
        draws += 1
        if draws > PATIENCE:
            seen = f", those of its networks go from {short(min(met))} to {short(max(met))}" if met else ""
            raise InputError(
                f"space {space.name}: {PATIENCE:,} draws gave only {len(known)} of {count} networks of {stages} stages "
                f"with {short(band[0])} to {short(band[1])} multiply-adds{seen}"
            )
        symbols = draw(space, rng, stages)
        if symbols is None or (drawn := name(space, symbols)) in known:
            continue
        arch = finished(drawn)
        about = estimate(arch)
        met.append(about)
        if not band[0] / MARGIN <= about <= band[1] * MARGIN:
            continue
        facts = measure(arch)
        if band[0] <= facts.macs <= band[1]:
            known.add(drawn)
            draws = 0
            yield drawn, symbols, facts


def refuse(space: Space, band: Range, finished: Callable[[str], Arch], stages: int) -> None:
    """Raises InputError where arithmetic alone tells that no network of the space can be in the band."""
    smallest = finished(point(f"anynet{space.kind[-1]}", d=(1,) * stages, w=(8,) * stages, g=1, b=1))
    pixels = smallest.resolution
    if stages > (most := math.ceil(math.log2(pixels)) + 1):
        raise InputError(f"stages {stages}: {most - 1} stages halve an image of {pixels} pixels to a single one, "
                         f"so at most {most} are needed")  # fmt: skip
    if stages > (most := most_stages(space)):
        raise InputError(f"stages {stages}: networks of the space {space.name} have at most {most}")
    low, high = reach(space, smallest, stages)
    if low > band[1] * MARGIN or high < band[0] / MARGIN:
        side = f"at least {short(low)}" if low > band[1] else f"at most {short(high)}"
        raise InputError(f"space {space.name}: networks of {stages} stages have {side} multiply-adds at {pixels} "
                         f"pixels, {short(band[0])} to {short(band[1])} are asked for")  # fmt: skip


def most_stages(space: Space) -> int:
    """A RegNet has no more than its widths have steps, from w0 to w0 + wa * (d - 1) with the factor wm."""
    if space.kind.startswith("anynet"):
        return MOST_STAGES
    r = space.ranges
    depth = int(r["d"][1])
    return min(depth, 1 + math.ceil(math.log(1 + r["a"][1] * (depth - 1) / r["w"][0], r["m"][0])))


def reach(space: Space, smallest: Arch, stages: int) -> Range:
    """Between which multiply-adds the networks of a space certainly are.

    It takes the ends of all ranges, whether they go together or not. Quantizing makes a RegNet's widths larger by up
    to half a step, and whole groups by up to half a group; its blocks are shared out among the stages.
    """
    r, options = space.ranges, smallest.stages[0].options
    (fewest, most), (low, high) = (int(d) for d in r["d"]), r["w"]
    least_depths, most_depths = [fewest] * stages, [most] * stages
    if space.kind.startswith("regnet"):
        least_depths = [1] * (stages - 1) + [max(1, fewest - stages + 1)]
        low, high = low / 2, (high + r["a"][1] * (most - 1)) * math.sqrt(r["m"][1]) + r["g"][1] + 8

    def macs(depths: list[int], width: float, ratio: float, group: float) -> float:
        chosen = {**options, "ratio": ratio, "group_width": group}
        rows = tuple(stage("bottleneck", depth, width, 2, **chosen) for depth in depths)
        return estimate(replace(smallest, stages=rows))

    return macs(least_depths, low, 1 / r["b"][1], 1), macs(most_depths, high, 1 / r["b"][0], r["g"][1])


def estimate(arch: Arch) -> float:
    """Multiply-adds of a network of bottlenecks, without its classifier: tells quickly what is not worth measuring."""
    side, last, macs = arch.resolution, 3, 0.0
    for s in arch.stem:
        side = -(-side // s.stride)
        macs += side**2 * s.options["kernel"] ** 2 * last * s.width
        last = s.width
    for s in arch.stages:
        inner, group, se = round(s.width * s.options["ratio"]), s.options["group_width"], s.options["se"]
        large, side = side, -(-side // s.stride)
        macs += large**2 * last * inner + side**2 * last * s.width  # the first block's 1x1 and shortcut
        macs += side**2 * (s.depth - 1) * s.width * inner
        macs += side**2 * s.depth * (9 * inner * group + inner * s.width)
        macs += 2 * se * inner * (last + (s.depth - 1) * s.width)
        last = s.width
    return macs
