"""Networks of a design space whose multiply-adds are in a band."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from kcnn.arch import Arch, stage
from kcnn.errors import InputError
from kcnn.families.anynet import MOST_STAGES
from kcnn.families.points import point
from kcnn.terminal.tables import short
from tuning.spaces.anynet import DesignSpace, Range, draw, name

PATIENCE = 30_000  # draws without a network, until a space is taken to have no more
MARGIN = 1.05  # of the estimate, by which a band is widened before facts have the word


def sample(
    space: DesignSpace,
    count: int,
    band: Range,
    finished: Callable[[str], Arch],
    measure: Callable[[Arch], Any],
    seed: int = 0,
    stages: int = 4,
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """The first `count` different networks of a seed whose multiply-adds are in a band: names, symbols and facts.

    finished: the architecture of a name just as it will be built; measure: its facts. Raises InputError where the
    space has not that many.
    """
    check_band(space, band, finished, stages)
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


def check_band(space: DesignSpace, band: Range, finished: Callable[[str], Arch], stages: int) -> None:
    """Raises InputError where arithmetic alone tells that no network of the space can be in the band."""
    smallest = finished(point(f"anynet{space.kind[-1]}", d=(1,) * stages, w=(8,) * stages, g=1, b=1))
    pixels = smallest.resolution
    if stages > (most := math.ceil(math.log2(pixels)) + 1):
        raise InputError(
            f"stages {stages}: {most - 1} stages halve an image of {pixels} pixels to a single one, "
            f"so at most {most} are needed"
        )
    if stages > (most := most_stages(space)):
        raise InputError(f"stages {stages}: networks of the space {space.name} have at most {most}")
    low, high = reach(space, smallest, stages)
    if low > band[1] * MARGIN or high < band[0] / MARGIN:
        side = f"at least {short(low)}" if low > band[1] else f"at most {short(high)}"
        raise InputError(
            f"space {space.name}: networks of {stages} stages have {side} multiply-adds at {pixels} "
            f"pixels, {short(band[0])} to {short(band[1])} are asked for"
        )


def most_stages(space: DesignSpace) -> int:
    """A RegNet has no more than its widths have steps, from w0 to w0 + wa * (d - 1) with the factor wm."""
    if space.kind.startswith("anynet"):
        return MOST_STAGES
    r = space.ranges
    depth = int(r["d"][1])
    return min(depth, 1 + math.ceil(math.log(1 + r["a"][1] * (depth - 1) / r["w"][0], r["m"][0])))


def reach(space: DesignSpace, smallest: Arch, stages: int) -> Range:
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
