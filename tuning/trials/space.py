"""What is searched: values of some flags of a run, what the network costs that they make, and whether it is allowed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras_tuner

from kcnn.arch import number
from kcnn.errors import InputError, shown
from kcnn.scaling import costs
from kcnn.terminal.tables import short
from trainers.config import TrainConfig
from trainers.recipes import RECIPES
from trainers.settings import RunConfig, resolve
from tuning.trials.latency import latency_ms
from tuning.trials.options import Ranges

MULTIPLIERS = ("width", "depth", "resolution")
OTHERS = ("lr", "weight_decay", "drop_path")
MOST_PIXELS = 8192
HALVINGS = 8  # of the way from a sample to the smallest network
Values = dict[str, Any]


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
                raise InputError(f"{place}: {d.name} {shown(value)} is there, the search draws {d}")

    def run(self, values: Mapping[str, Any]) -> TrainConfig:
        """The run of a sample."""
        return replace(self.config, **self.rounded(values))

    def costs(self, values: Mapping[str, Any], everything: bool = True) -> dict[str, float] | None:
        """What a sample's network costs, or None where it cannot be built. `everything`: also what is measured."""
        run = resolve(self.run(values))
        key = repr(replace(run.arch, name=""))  # many samples round to one network
        if key not in self.known:
            self.known[key] = self.computed(run)
        found = self.known[key]
        if found is not None and everything and "latency_ms" in self.measured and "latency_ms" not in found:
            found["latency_ms"] = latency_ms(run.arch, self.classes)
        return found

    def computed(self, run: RunConfig) -> dict[str, float] | None:
        """The costs that are known without running a network, or None where it cannot be built."""
        try:
            return {**costs(run.arch, "memory" in self.measured, self.classes, run.batch_size, run.precision)}
        except InputError:  # it is too small for its pixels, or beyond all memory
            return None

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
        """A text that is the same for all samples that come to the same run."""
        run = resolve(self.run(values))
        rest = {d.name: getattr(run, d.name) for d in self.dimensions if d.name not in MULTIPLIERS}
        return f"{replace(run.arch, name='')!r} {rest}"

    def smallest(self, values: Mapping[str, Any] | None = None) -> Values:
        """The sample with the least multipliers; all else is as in `values`, by default the first that there is."""
        first = {d.name: d.values[0] if d.values else d.between(0) for d in self.dimensions}
        kept = {name: value for name, value in (values or {}).items() if name in first and name not in MULTIPLIERS}
        return first | kept

    def pulled(self, values: Mapping[str, Any]) -> Values:
        """A sample over a bound, moved along the straight line towards the smallest network until the bounds hold."""
        low, high, best = 0.0, 1.0, self.smallest(values)
        for _ in range(HALVINGS):
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
        raise InputError(
            f"max-{what.replace('_', '-')} {short(self.bounds[what])}: no network of the space is within, "
            f"the smallest ({multipliers}) has {short(cost)}"
        )


def make_space(
    config: TrainConfig,
    ranges: Ranges,
    bounds: Mapping[str, float],
    classes: int,
    measured: frozenset[str] = frozenset(),
) -> Space:
    """Raises InputError for ranges that are empty or contradict what is fixed."""
    dimensions = []
    for name, ends in given_ends(config, ranges).items():
        low, high = check_range(name, *ends)
        for end in (low, high):  # what no run can have is told before anything is drawn
            resolve(replace(config, **{name: Dimension(name).rounded(end)}))
        if low < high:
            dimensions.append(Dimension(name, low, high))
        else:
            config = replace(config, **{name: Dimension(name).rounded(low)})
    recipes = tuple(dict.fromkeys(ranges.recipes))
    check_recipes(config, recipes)
    if len(recipes) > 1:
        dimensions.append(Dimension("recipe", values=recipes))
    elif recipes:
        config = replace(config, recipe=recipes[0])
    return Space(config, tuple(dimensions), dict(bounds), classes, measured)


def given_ends(config: TrainConfig, ranges: Ranges) -> dict[str, tuple[float, float]]:
    """The ends of each range that is searched, as they were asked for or by default. Raises InputError."""
    pixels = resolve(config).resolution
    fixed = {"width": config.width != 1, "depth": config.depth != 1, "resolution": config.resolution is not None}
    fixed |= {name: getattr(config, name) is not None for name in OTHERS}
    default = {"width": (0.25, 1.5), "depth": (0.5, 1.5), "resolution": (round(pixels * 0.5), round(pixels * 1.5))}
    if config.weights:
        default = {"resolution": default["resolution"]}
    found = {}
    for name in (*MULTIPLIERS, *OTHERS):
        asked = getattr(ranges, f"{name}_range")
        if asked is not None and fixed[name]:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} and {flag}-range contradict each other: give one of them")
        if asked is not None and config.weights and name in ("width", "depth"):
            raise InputError(
                f"{name}-range: weights fit networks of one width and depth; leave out --{name}-range or --weights"
            )
        if ends := asked or (None if fixed[name] else default.get(name)):
            found[name] = ends
    return found


def check_range(name: str, low: float, high: float) -> tuple[float, float]:
    given = f"{name.replace('_', '-')}-range {shown(low)} {shown(high)}"
    zero = name in ("weight_decay", "drop_path")
    if not (number(low) and number(high) and (low >= 0 if zero else low > 0)):
        raise InputError(f"{given}: numbers {'of 0 or more' if zero else 'above 0'} are needed")
    if low > high:
        raise InputError(f"{given}: it is empty, the lower end comes first")
    if name == "resolution" and high > MOST_PIXELS:
        raise InputError(f"{given}: at most {MOST_PIXELS:,} pixels are needed")
    if name == "drop_path" and high >= 1:
        raise InputError(f"{given}: rates below 1 are needed")
    return low, high


def check_recipes(config: TrainConfig, recipes: tuple[str, ...]) -> None:
    for recipe in recipes:
        if recipe not in RECIPES:
            raise InputError(f"recipes {recipe!r}: one of {', '.join(RECIPES)} is needed")
    if recipes and config.recipe:
        raise InputError("--recipe and --recipes contradict each other: give one of them")
