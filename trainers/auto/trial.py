"""The decision of `--precision auto` and `--jit auto`, at the start of a run: by a trial where that pays, else by a
table.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from trainers.auto import kept
from trainers.auto.devices import HALVES, Devices, cpus, devices_of
from trainers.auto.table import OWN, WORTH, Choice, automatic, hopeless, usual, with_choice
from trainers.distribute import workers
from trainers.distribute.feed import distribute
from trainers.distribute.surroundings import xla_can_compile
from trainers.loop import phase_function
from trainers.phases import phases
from trainers.run import Run
from trainers.settings import RunConfig, resolve
from trainers.state import State

# Multiply-adds a second that a step does at best, of a CPU's core and of a GPU: what a run takes at least.
FASTEST = {"cpu": 1e11, "gpu": 1e14}
LEAST_SECONDS = 300.0  # a run that might be shorter is not kept waiting by a trial
SHARE = 0.05  # of the run's expected seconds that trials may take
COMPILING = {"cpu": 6.0, "gpu": 2.0}  # the seconds of a measurement with XLA, relative to one without
WARMUP = 2  # steps that are not timed: the first one compiles, and the second one is not yet as fast as others
CALLS, CALL_SECONDS = 5, 10.0  # steps that are timed: so many, or as many as end within so many seconds

Make = Callable[[Run], State]


@dataclass(frozen=True)
class Timing:
    """Seconds: of a step (the median), and of the whole measurement, whose first step traces and compiles."""

    step: float
    cost: float


Measure = Callable[[Run, Choice], Timing]


def decided(run: Run, measure: Measure) -> Run:
    """The run with a precision, and with or without XLA, where its flags say auto. The chief prints why."""
    flags = run.config.flags
    if not automatic(flags):
        return run
    choice, why = workers.from_chief(run.strategy, lambda: decision(run, measure))
    if run.chief:
        print(f"auto: {choice}: {why}", flush=True)
    return replace(run, config=resolve(with_choice(flags, choice), run.config.own_network))


def outlook(run: Run) -> str:
    """A line on what auto will choose; "" where no flag says auto."""
    if not automatic(run.config.flags):
        return ""

    def no_measure(run: Run, choice: Choice) -> Timing:
        raise Untried

    try:
        choice, why = decision(run, no_measure)
    except Untried:
        return "\na trial of some steps at the start decides what auto chooses"
    return f"\nauto: {choice}: {why}"


class Untried(Exception):
    """A trial would be made now."""


def decision(run: Run, measure: Measure) -> tuple[Choice, str]:
    """The choice for a run, and the reason in words."""
    devices = devices_of(run.config.strategy)
    table, base = Choice(run.config.precision, run.config.jit), usual(run.config.flags, run.config.strategy)
    choices = candidates(run, devices, base)
    if len(choices) == 1:
        return base, "there is nothing else to choose from"
    if reason := no_trial(run, devices):
        return table, f"by the table of measured times, as {reason}"
    name = kept.key(run, devices, choices)
    if found := kept.read(name, choices):
        return found[0], f"{found[1]}; an earlier run found so"
    choice, why = trial(run, devices, choices, measure)
    kept.write(name, choice, why)
    return choice, why


def candidates(run: Run, devices: Devices, base: Choice) -> list[Choice]:
    """The choices that auto leaves open, the usual one first, without those that the table has as far too slow."""
    config = run.config
    precisions, jits = [base.precision], [base.jit]
    if config.flags.precision == "auto" and config.arch.family != OWN:
        precisions += [p for p in ("float32", *HALVES[devices.kind]) if p != base.precision]
    if config.flags.jit == "auto" and xla_can_compile(config.strategy, config.sync_bn):
        jits.append(not base.jit)
    found = [Choice(precision, jit) for jit in jits for precision in precisions]
    return [c for c in found if c == base or not hopeless(devices.kind, config.arch.family, c, base)]


def no_trial(run: Run, devices: Devices) -> str:
    """Why no trial is to be made for this run; "" where one may pay."""
    config, kind = run.config, devices.kind.partition("-")[0]
    if config.deterministic:
        return "a run that can be repeated is not decided by a clock"
    if kind == "tpu":
        return "a TPU has one right choice"
    if workers.count(run.strategy) > 1:
        return "all workers are to choose the same"
    if config.features_only:
        return "a classifier on features is trained in seconds"
    fastest = FASTEST[kind] * (cpus() if kind == "cpu" else run.strategy.num_replicas_in_sync)
    least = 3 * run.facts.macs * config.global_batch * run.plan.steps / fastest  # backward is twice forward
    return "" if least >= LEAST_SECONDS else "the run is too short for a trial"


def trial(run: Run, devices: Devices, choices: list[Choice], measure: Measure) -> tuple[Choice, str]:
    """The fastest choice, if it saves what is worth it, and the figures it was found by.

    The first choice is the usual one. Precisions are compared first, then XLA with the fastest of them. What would take
    too large a share of the run is not tried.
    """
    base = best = choices[0]
    compiling = COMPILING[devices.kind.partition("-")[0]]
    timings = {base: measure(run, base)}
    allowed = SHARE * timings[base].step * run.plan.steps
    left = []
    for choice in choices[1:]:
        if choice.jit != best.jit and choice.precision != best.precision:
            continue
        spent = sum(timing.cost for timing in timings.values())
        if spent + timings[base].cost * (compiling if choice.jit and not base.jit else 1.0) > allowed:
            left.append(str(choice))
            continue
        timings[choice] = measure(run, choice)
        if timings[choice].step < timings[best].step:
            best = choice
    if timings[best].step > WORTH * timings[base].step:
        best = base
    figures = ", ".join(f"{timing.step:.3g} s {choice}" for choice, timing in timings.items())
    untried = f"; not tried, as the run is too short for it: {', '.join(left)}" if left else ""
    spent = sum(timing.cost for timing in timings.values())
    return best, f"a step takes {figures}, in a trial of {spent:.0f} s{untried}"


def timed(run: Run, choice: Choice, make: Make, clock: Callable[[], float] = time.perf_counter) -> Timing:
    """Does a few steps of the run as it would be with the choice, on one batch of noise, and forgets them."""
    started = clock()
    run = replace(run, config=replace(run.config, precision=choice.precision, jit=choice.jit), start=None)
    state, phase = make(run), phases(run.config)[-1][1]
    step, batches = phase_function(run, state, phase), iter(noise(run, phase))
    seconds: list[float] = []
    while len(seconds) < WARMUP + CALLS and sum(seconds[WARMUP:]) < CALL_SECONDS:
        before = clock()
        step(batches, tf.constant(1))["loss"].numpy()
        seconds.append(clock() - before)
    cost = clock() - started
    del state, step, batches
    gc.collect()
    return Timing(statistics.median(seconds[WARMUP:]), cost)


def noise(run: Run, phase: RunConfig) -> Any:
    """One batch of random images and labels, again and again, distributed as the run's are."""
    side, classes = phase.resolution, len(run.source.classes)

    def batches(size: int, shard: tuple[int, int]) -> tf.data.Dataset:
        draws = np.random.default_rng(0)
        images = draws.integers(0, 256, (size, side, side, 3), np.uint8)
        batch = {"image": images, "label": draws.integers(0, classes, size, np.int32)}
        return tf.data.Dataset.from_tensors(batch).repeat()

    return distribute(run.strategy, phase.global_batch, batches)
