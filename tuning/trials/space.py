"""What is searched: hyperparameters -> a changed TrainConfig, what its network costs, and whether that is allowed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

import keras_tuner
from cyclopts import Group, Parameter

from kcnn.errors import InputError
from kcnn.scaling import costs, quantity, short
from trainers.config import TrainConfig
from trainers.recipes import RECIPES
from trainers.settings import resolve
from tuning.trials.latency import latency_ms
from tuning.trials.records import brief, number

SPACE, LIMITS = Group.create_ordered("Space"), Group.create_ordered("Limits")
MULTIPLIERS = ("width", "depth", "resolution")
MOST_PIXELS, MOST_TIMES = 8192, 64
Pair = tuple[float, float]
Values = dict[str, Any]


def flag(group: Group, help: str, **more: Any) -> Any:
    return Parameter(group=group, help=help, **more)


@Parameter(name="*")
@dataclass(frozen=True)
class Ranges:
    """Between which values a search draws, each as LOW HIGH. None: see the field's help."""

    width_range: Annotated[
        Pair | None, flag(SPACE, "Multiplier of widths, LOW HIGH (default: 0.25 1.5, unless --width is given).")
    ] = None
    depth_range: Annotated[
        Pair | None, flag(SPACE, "Multiplier of depths, LOW HIGH (default: 0.5 1.5, unless --depth is given).")
    ] = None
    resolution_range: Annotated[
        tuple[int, int] | None,
        flag(SPACE, "Pixels, LOW HIGH (default: 0.5 to 1.5 times the recipe's, unless --resolution is given)."),
    ] = None
    lr_range: Annotated[Pair | None, flag(SPACE, "Peak learning rate, LOW HIGH (default: not searched).")] = None
    weight_decay_range: Annotated[Pair | None, flag(SPACE, "LOW HIGH (default: not searched).")] = None
    drop_path_range: Annotated[Pair | None, flag(SPACE, "LOW HIGH (default: not searched).")] = None
    recipes: Annotated[
        tuple[str, ...], flag(SPACE, "Recipes to choose from (default: not searched).", consume_multiple=True)
    ] = ()


@Parameter(name="*")
@dataclass(frozen=True)
class Limits:
    """What no network of a search may exceed. Settled before a network is built, but for the latency."""

    max_macs: Annotated[str | None, flag(LIMITS, "Multiply-adds for one image at most, as 600M or 1.5G.")] = None
    max_params: Annotated[str | None, flag(LIMITS, "Parameters at most, as 5M.")] = None
    max_memory: Annotated[str | None, flag(LIMITS, "Bytes of a training step at --batch-size at most, as 8G.")] = None
    max_latency_ms: Annotated[
        float | None, flag(LIMITS, "Milliseconds for one image at most, measured on this machine as it is compiled.")
    ] = None

    def bounds(self) -> dict[str, float]:
        """By the names of costs. Raises InputError for what is no positive number."""
        texts = {"macs": self.max_macs, "params": self.max_params, "memory": self.max_memory}
        found = {
            what: quantity(f"max-{what}", str(text).removesuffix("B") if what == "memory" else str(text))
            for what, text in texts.items()
            if text is not None
        }
        if self.max_latency_ms is not None:
            if not (number(self.max_latency_ms) and self.max_latency_ms > 0):
                raise InputError(f"max-latency-ms {self.max_latency_ms!r}: a positive number is needed")
            found["latency_ms"] = self.max_latency_ms
        return found


@dataclass(frozen=True)
class Dimension:
    """A hyperparameter by the name of its flag: between two values, or one of several."""

    name: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[str, ...] = ()

    @property
    def sampling(self) -> str:
        return "linear" if self.name == "drop_path" or self.low <= 0 else "log"

    def between(self, share: float) -> Any:
        """The value at a share of the way from low to high."""
        if self.sampling == "log":
            return self.rounded(self.low * (self.high / self.low) ** share)
        return self.rounded(self.low + (self.high - self.low) * share)

    def rounded(self, value: Any) -> Any:
        """To what a command line shows; also what it was before it crossed a network in single precision."""
        if self.values:
            return value
        return int(value) if self.name == "resolution" else float(f"{value:.4g}")

    def points(self, n: int) -> list[Any]:
        """n values at equal distances, without repetitions."""
        return list(self.values) or sorted({self.between(i / max(1, n - 1)) for i in range(n)})

    def __str__(self) -> str:
        return f"{self.name} " + (", ".join(self.values) if self.values else f"{self.low:g} to {self.high:g}")


@dataclass(frozen=True)
class Space:
    """A run whose fields vary along dimensions, within bounds on what its network costs.

    classes: of the data. measured: costs to find besides macs, params and activations: memory, latency_ms.
    """

    config: TrainConfig
    dimensions: tuple[Dimension, ...]
    bounds: Mapping[str, float] = field(default_factory=dict)
    classes: int = 1000
    measured: frozenset[str] = frozenset()
    known: dict[str, dict[str, float] | None] = field(default_factory=dict, compare=False, repr=False)

    def hyperparameters(self) -> keras_tuner.HyperParameters:
        hp = keras_tuner.HyperParameters()
        for d in self.dimensions:
            if d.values:
                hp.Choice(d.name, list(d.values))
            elif d.name == "resolution":
                hp.Int(d.name, int(d.low), int(d.high), sampling="log")
            else:
                hp.Float(d.name, d.low, d.high, sampling=d.sampling)
        return hp

    def rounded(self, values: Mapping[str, Any]) -> Values:
        """The values of the space's own hyperparameters, as they are used."""
        return {d.name: d.rounded(values[d.name]) for d in self.dimensions}

    def contain(self, values: Mapping[str, Any], place: str) -> None:
        """Raises InputError where a sample that was read from a file is none of this space."""
        for d in self.dimensions:
            value: Any = values.get(d.name)
            if not (value in d.values if d.values else number(value) and d.low * 0.999 <= value <= d.high * 1.001):
                raise InputError(f"{place}: {d.name} {brief(value)} is there, the search draws {d}")

    def run(self, values: Mapping[str, Any]) -> TrainConfig:
        """The run of a sample."""
        return replace(self.config, **self.rounded(values))

    def costs(self, values: Mapping[str, Any], everything: bool = True) -> dict[str, float] | None:
        """What a sample's network costs, or None where it cannot be built. `everything`: also what is measured."""
        config = resolve(self.run(values))
        arch = config.arch
        key = repr(replace(arch, name=""))  # many samples round to one network
        if key not in self.known:
            try:
                memory, batch = "memory" in self.measured, config.batch_size
                precision = "float32" if config.precision == "auto" else config.precision
                self.known[key] = {**costs(arch, memory, self.classes, batch, precision)}
            except InputError:  # too small for its pixels, or beyond all memory
                self.known[key] = None
        found = self.known[key]
        if found is not None and everything and "latency_ms" in self.measured and "latency_ms" not in found:
            found["latency_ms"] = latency_ms(arch, self.classes)
        return found

    def excess(self, values: Mapping[str, Any]) -> str | None:
        """Which bound a sample exceeds, if any; the latency is measured only where all else is met."""
        cheap = {what: bound for what, bound in self.bounds.items() if what != "latency_ms"}
        for bounds, everything in ((cheap, False), (self.bounds, True)):
            found = self.costs(values, everything)
            if found is None:
                return "resolution"
            for what, bound in bounds.items():
                if found[what] > bound:
                    return what
        return None

    def network(self, values: Mapping[str, Any]) -> str:
        """The same for all samples that come to the same run."""
        config = resolve(self.run(values))
        rest = {d.name: getattr(config, d.name) for d in self.dimensions if d.name not in MULTIPLIERS}
        return f"{replace(config.arch, name='')!r} {rest}"

    def smallest(self, values: Mapping[str, Any] | None = None) -> Values:
        """The sample (by default with the first of all else) with the least multipliers."""
        return {
            d.name: d.between(0) if values is None or d.name in MULTIPLIERS else values[d.name]
            for d in self.dimensions
            if not d.values
        } | {d.name: d.values[0] if values is None else values[d.name] for d in self.dimensions if d.values}

    def pulled(self, values: Mapping[str, Any]) -> Values:
        """A sample over a bound, brought along the straight line to the smallest network to where the bounds hold."""
        low, high, best = 0.0, 1.0, self.smallest(values)
        for _ in range(8):
            share = (low + high) / 2
            here = dict(values) | {
                d.name: d.rounded(math.exp((1 - share) * math.log(d.low) + share * math.log(values[d.name])))
                for d in self.dimensions
                if d.name in MULTIPLIERS
            }
            if self.excess(here) is None:
                low, best = share, here
            else:
                high = share
        return best

    def check(self) -> None:
        """Raises InputError where nothing can be drawn."""
        if not self.dimensions:
            raise InputError("nothing to search: give at least one range with two different ends")
        least = self.smallest()
        what = self.excess(least)
        if what is None:
            return
        multipliers = ", ".join(f"{name} {least.get(name, getattr(self.config, name))}" for name in MULTIPLIERS)
        if what == "resolution":
            raise InputError(f"the smallest network ({multipliers}) cannot be built: a higher resolution is needed")
        cost = (self.costs(least) or {})[what]
        raise InputError(f"max-{what.replace('_', '-')} {short(self.bounds[what])}: no network of the space is within, "
                         f"the smallest ({multipliers}) has {short(cost)}")  # fmt: skip


def make_space(config: TrainConfig, ranges: Ranges, bounds: Mapping[str, float], classes: int,
               measured: frozenset[str] = frozenset()) -> Space:  # fmt: skip
    """Raises InputError for ranges that are empty or contradict what is fixed."""
    plain = resolve(config)
    pixels = plain.arch.resolution
    asked: dict[str, Any] = {f.name.removesuffix("_range"): getattr(ranges, f.name) for f in fields(Ranges)}
    fixed = {"width": config.width != 1, "depth": config.depth != 1, "resolution": config.resolution is not None}
    default = {"width": (0.25, 1.5), "depth": (0.5, 1.5), "resolution": (round(pixels * 0.5), round(pixels * 1.5))}
    fixed |= {name: getattr(config, name) is not None for name in ("lr", "weight_decay", "drop_path")}
    dimensions = []
    for name in (*MULTIPLIERS, "lr", "weight_decay", "drop_path"):
        if asked[name] is not None and fixed[name]:
            flags = name.replace("_", "-")
            raise InputError(f"--{flags} and --{flags}-range contradict each other: give one of them")
        ends = asked[name] or (default.get(name) if not fixed[name] else None)
        if ends is None:
            continue
        low, high = check_range(name, *ends)
        for end in (low, high):  # what no run can have is said of the flag, before anything is drawn
            resolve(replace(config, **{name: Dimension(name).rounded(end)}))
        if low < high:
            dimensions.append(Dimension(name, low, high))
        else:
            config = replace(config, **{name: Dimension(name).rounded(low)})
    for recipe in ranges.recipes:
        if recipe not in RECIPES:
            raise InputError(f"recipes {recipe!r}: one of {', '.join(RECIPES)} is needed")
    if ranges.recipes and config.recipe:
        raise InputError("--recipe and --recipes contradict each other: give one of them")
    if len(set(ranges.recipes)) > 1:
        dimensions.append(Dimension("recipe", values=tuple(dict.fromkeys(ranges.recipes))))
    elif ranges.recipes:
        config = replace(config, recipe=ranges.recipes[0])
    return Space(config, tuple(dimensions), dict(bounds), classes, measured)


def check_range(name: str, low: float, high: float) -> tuple[float, float]:
    flags, zero = name.replace("_", "-"), name in ("weight_decay", "drop_path")
    if not (number(low) and number(high) and (low >= 0 if zero else low > 0)):
        least = "of 0 or more" if zero else "above 0"
        raise InputError(f"{flags}-range {brief(low)} {brief(high)}: numbers {least} are needed")
    if low > high:
        raise InputError(f"{flags}-range {low:g} {high:g}: it is empty, the lower end comes first")
    if name == "resolution" and high > MOST_PIXELS:
        raise InputError(f"resolution-range {brief(low)} {brief(high)}: at most {MOST_PIXELS:,} pixels are needed")
    if name in ("width", "depth") and high > MOST_TIMES:
        raise InputError(f"{flags}-range {low:g} {high:g}: multipliers of at most {MOST_TIMES} are needed")
    if name == "drop_path" and high >= 1:
        raise InputError(f"drop-path-range {low:g} {high:g}: rates below 1 are needed")
    return low, high
