"""Which multipliers bring a network to a budget: a search over facts, without weights."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from kcnn.analysis.graph import follow
from kcnn.analysis.memory import MOST_IMAGES, memory_parts
from kcnn.arch import LEAST, MOST, Arch, number, scale
from kcnn.builder import draw, smallest
from kcnn.errors import InputError, shown, whole
from kcnn.families import get
from kcnn.terminal.tables import short

Axis = Literal["width", "depth", "resolution", "compound"]
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
BOUNDED = ("params", "macs", "activations", "memory")
CLOSE = 0.005  # this share of a budget may be left over
LIMITS = {"width": (-4.0, 3.0), "depth": (-4.0, 3.0), "resolution": (-7.0, 4.0), "compound": (-30.0, 8.0)}


@dataclass(frozen=True)
class Candidate:
    """A candidate has multipliers, pixels, and what the network costs there, for whatever the budget bounds."""

    width: float
    depth: float
    resolution: int
    costs: Mapping[str, int]

    def excess(self, budget: Mapping[str, float]) -> tuple[float, str]:
        """Returns log(cost / budget) of what comes closest to its bound or exceeds it most, and its name."""
        return max((math.log(max(self.costs[what], 1) / bound), what) for what, bound in budget.items())


def fit(
    arch: Arch | str,
    budget: Mapping[str, float],
    along: Axis = "compound",
    *,
    classes: int = 1000,
    batch: int = 1,
    dtype: str = "float32",
) -> Candidate:
    """Finds the multipliers whose network comes closest under every bound, and never over one.

    budget: bounds by name: params, macs, activations (elements for one image), memory (bytes of a training step of
    `batch` images). along: one multiplier, or EfficientNet's three together; then width alone and resolution alone
    take what rounding has left, and what a bound on parameters leaves of the others.
    Raises InputError for a budget that no multiplier meets.
    """
    arch = arch if isinstance(arch, Arch) else get(arch)
    if along not in LIMITS:
        raise InputError(f"along {shown(along)}: one of {', '.join(LIMITS)} is needed")
    if not budget:
        raise InputError("no budget: at least one of params, macs, activations and memory is needed")
    whole("batch", batch, MOST_IMAGES)
    for what, bound in budget.items():
        if what not in BOUNDED:
            raise InputError(f"budget of {shown(what)}: one of {', '.join(BOUNDED)} is needed")
        if not (number(bound) and bound > 0):
            raise InputError(f"{what} {shown(bound)}: a positive number is needed")
    floor = (
        min(arch.resolution, max(arch.small + 1, smallest(arch))) if arch.resolution > arch.small else smallest(arch)
    )

    known: dict[str, dict[str, int]] = {}

    def at(width: float, depth: float, resolution: float) -> Candidate:
        width, depth = (round(min(max(by, LEAST), MOST), 4) for by in (width, depth))
        pixels = max(floor, round(arch.resolution * resolution))
        scaled = replace(scale(arch, width, depth), name=arch.name, resolution=pixels)
        key = repr(scaled)  # many multipliers round to one network
        if key not in known:
            known[key] = costs(scaled, "memory" in budget, classes, batch, dtype)
        return Candidate(width, depth, pixels, known[key])

    found = search(lambda t: at(*multipliers(along, t)), budget, along, arch)
    if along == "compound" and found.excess(budget)[0] < -CLOSE:
        w, d, r = found.width, found.depth, found.resolution / arch.resolution
        found = search(lambda t: at(w * 2**t, d, r), budget, "width", arch)
    rest = {what: bound for what, bound in budget.items() if what != "params"}
    if along == "compound" and rest and found.excess(rest)[0] < -CLOSE:
        w, d, r = found.width, found.depth, found.resolution / arch.resolution
        found = search(lambda t: at(w, d, r * 2**t), rest, "resolution", arch)
    return found


def multipliers(along: Axis, t: float) -> tuple[float, float, float]:
    """Returns those of width, depth and resolution: 2^t along one; 1.1^t, 1.2^t and 1.15^t along all; 1 at 0."""
    if along == "compound":
        return 1.1**t, 1.2**t, 1.15**t
    return tuple(2.0**t if along == axis else 1.0 for axis in ("width", "depth", "resolution"))  # type: ignore


def costs(arch: Arch, memory: bool, classes: int = 1000, batch: int = 1, dtype: str = "float32") -> dict[str, int]:
    """Returns what a network costs; memory, which takes longest to find, only on demand."""
    graph = follow(draw(arch, classes))
    found = {what: sum(getattr(c, what) for c in graph.calls) for what in ("params", "macs", "activations")}
    return found | ({"memory": memory_parts(graph, batch, dtype)["total"]} if memory else {})


def search(at: Callable[[float], Candidate], budget: Mapping[str, float], along: str, arch: Arch) -> Candidate:
    """Returns the candidate closest under the budget, of all that were looked at.

    Costs grow with t, in steps where widths and depths are rounded. A bracket around the bound starts at t = 0; false
    position narrows it, and every third time it is halved.
    """
    seen: list[Candidate] = []

    def look(t: float) -> tuple[float, float]:
        seen.append(at(t))
        return t, seen[-1].excess(budget)[0]

    lowest, highest = LIMITS[along]
    low = high = look(0.0)
    up = low[1] <= 0
    while (up and high[1] <= 0 and high[0] < highest) or (not up and low[1] > 0 and low[0] > lowest):
        t, excess = high if up else low
        step = max(0.5, abs(excess))
        point = look(min(highest, t + step) if up else max(lowest, t - step))
        low, high = (high, point) if up else (point, low)
    for turn in range(15):
        if not low[1] <= 0 < high[1] or low[1] > -CLOSE or high[0] - low[0] < 1e-3:
            break
        share = 0.5 if turn % 3 == 2 else -low[1] / (high[1] - low[1])
        point = look(low[0] + (high[0] - low[0]) * min(0.95, max(0.05, share)))
        low, high = (point, high) if point[1] <= 0 else (low, point)
    under = [candidate for candidate in seen if candidate.excess(budget)[0] <= 0]
    if under:
        return max(under, key=lambda candidate: candidate.excess(budget)[0])
    least = min(seen, key=lambda candidate: candidate.excess(budget)[0])
    over, what = least.excess(budget)
    raise InputError(
        f"{what} {short(budget[what])} cannot be met: the smallest {arch.name} along {along} "
        f"(width {least.width:g}, depth {least.depth:g}, {least.resolution} pixels) "
        f"needs {short(least.costs[what])}, {math.exp(over):.3g} times as much"
    )


def quantity(what: str, text: str) -> float:
    """Reads "600M" as 6e8. Units are powers of ten: K, M, G (or B), T."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\d*\.\d+)(e[+-]?\d+)?\s*([KMGBT]?)\s*", text, re.IGNORECASE)
    value = float(match[1] + (match[2] or "")) * UNITS[match[3].upper()] if match else 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"{what} {shown(text)}: a positive number is needed, as 600M (units are K, M, G and T)")
    return value


def memory_at(text: str) -> tuple[float, int]:
    """Reads "8GB@64" as 8e9 bytes and a batch of 64; GiB are 2^30 bytes."""
    match = re.fullmatch(r"(.+?)(?:(i)?B)?@(\d+)", text.replace(" ", ""), re.IGNORECASE)
    if not match or int(match[3]) < 1:
        raise InputError(f"memory {shown(text)}: bytes at a batch size are needed, as 8GB@64")
    value = quantity("memory", match[1])
    powers = {"K": 1, "M": 2, "G": 3, "T": 4}
    binary = 1.024 ** powers.get(match[1][-1].upper(), 0) if match[2] else 1.0
    return value * binary, int(match[3])
