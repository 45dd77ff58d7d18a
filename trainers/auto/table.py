"""What `auto` chooses without a trial: the best of a table of measured times."""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainers.auto.devices import HALVES, devices_of
from trainers.config import AUTO, Precision, TrainConfig
from trainers.distribute.surroundings import usual_precision, usually_compiled, xla_can_compile

# `python -m benchmarks.choices` writes it: for a kind of device and a family of networks, the time of a step with one
# thing changed, relative to float32 without XLA.
MEASURED = Path(__file__).with_name("measured.json")
WORTH = 0.95  # the time, relative to the usual choice's, from which on a choice counts as faster
HOPELESS = 1.3  # where the table has a choice as slow as this, no trial is made of it
XLA = "xla"
OWN = "own"  # the family of a network that no architecture describes: it is trained in float32


@dataclass(frozen=True)
class Choice:
    """precision: Keras's dtype policy. jit: whether XLA compiles the step."""

    precision: Precision
    jit: bool

    def __str__(self) -> str:
        return f"{self.precision} with{'' if self.jit else 'out'} XLA"


# Where nothing was measured. Of GPUs none has been: tensor cores multiply in half precision several times as fast as in
# float32 (Micikevicius et al., 2018, https://arxiv.org/abs/1710.03740), and XLA saves them the trips to memory between
# a step's many small operations.
UNMEASURED = {
    kind: Choice(halves[0] if halves and not kind.startswith("cpu") else "float32", kind.startswith("gpu"))
    for kind, halves in HALVES.items()
}


@functools.cache
def measured() -> dict[str, Any]:
    return json.loads(MEASURED.read_text("utf-8"))


def ratios(kind: str, family: str) -> Mapping[str, float]:
    """The measured times by precision and XLA; none for what was not measured."""
    return measured()["times"].get(kind, {}).get(family, {})


def by_table(kind: str, family: str) -> Choice:
    """The choice for a kind of device and a family of networks."""
    times = ratios(kind, family)
    if not times:
        return UNMEASURED[kind]
    halves = [p for p in HALVES[kind] if times.get(p, 1.0) <= WORTH]
    return Choice(min(halves, key=times.__getitem__, default="float32"), times.get(XLA, 1.0) <= WORTH)


def automatic(flags: TrainConfig) -> bool:
    """Whether the flags leave something to auto."""
    return any(getattr(flags, name) == "auto" for name in AUTO)


def with_choice(flags: TrainConfig, choice: Choice) -> TrainConfig:
    """The flags with the choice where they say auto."""
    values: dict[str, Any] = {"precision": choice.precision, "jit": "on" if choice.jit else "off"}
    return replace(flags, **{name: values[name] for name in AUTO if getattr(flags, name) == "auto"})


def usual(flags: TrainConfig, strategy: str) -> Choice:
    """What the flags come to where auto counts as not given."""
    jit = usually_compiled(strategy, flags.sync_bn) if flags.jit in (None, "auto") else flags.jit == "on"
    precision = usual_precision(strategy) if flags.precision in (None, "auto") else flags.precision
    return Choice(precision, jit and strategy != "tpu")  # type: ignore[arg-type]


def expected(flags: TrainConfig, strategy: str, family: str) -> Choice:
    """What the flags come to where auto goes by the table."""
    choice = usual(flags, strategy)
    if not automatic(flags):
        return choice
    table = by_table(devices_of(strategy).kind, family)
    if flags.precision == "auto" and family != OWN:
        choice = replace(choice, precision=table.precision)
    if flags.jit == "auto":
        choice = replace(choice, jit=table.jit and xla_can_compile(strategy, flags.sync_bn))
    return choice


def hopeless(kind: str, family: str, choice: Choice, base: Choice) -> bool:
    """Whether what the choice changes in the base is not worth a trial: the table has it as far slower, or it is XLA on
    a CPU that nobody has measured, which may compile for a minute, and not be interrupted."""
    times = ratios(kind, family)
    half = times.get(choice.precision, 1.0) if choice.precision != base.precision else 1.0
    xla = times.get(XLA, math.inf if kind.startswith("cpu") else 1.0) if choice.jit and not base.jit else 1.0
    return max(half, xla) >= HOPELESS
