"""`--time`: as many epochs as fit into it, found by some steps of the run before it begins."""

import functools
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import tensorflow as tf

from kcnn.errors import InputError
from trainers.checks import seconds_of
from trainers.distribute import workers
from trainers.distribute.feed import naming_broken
from trainers.loop import phase_function
from trainers.phases import phases, training_data, under_way
from trainers.run import Run
from trainers.state import State

WARMUP, CALLS, CALL_SECONDS = 2, 20, 5.0  # steps: not timed, timed at most, and the seconds that these may take
FORWARD = 1 / 3  # of a step's time, without the gradients: what an evaluated image costs
AROUND = 2.0  # times the first step's seconds: to compile step and evaluation, to begin and to conclude the run
EACH = 0.3  # seconds that the end of an epoch takes: figures and a checkpoint
MARGIN = 0.9  # of the time that is given: later steps may be slower than the first
MOST = 100_000  # epochs


@dataclass(frozen=True)
class Pace:
    """Seconds of the run's first step, which compiles, and of a later one (the median)."""

    first: float
    step: float


def epochs_within(run: Run, asked: str, pace: Pace, spent: float) -> tuple[int, str]:
    """The number of epochs that fit into the time asked for, of which so many seconds are spent; and why, in words.

    Raises InputError where not even one fits.
    """
    seconds, batch = seconds_of(asked), run.config.global_batch
    images = run.plan.steps_per_epoch * batch + FORWARD * run.source.val.size
    epoch = pace.step / batch * images + EACH
    around = spent + AROUND * pace.first
    epochs = min(MOST, int((MARGIN * seconds - around) / epoch))
    if epochs < 1:
        needed = (around + epoch) / MARGIN
        raise InputError(
            f"time {asked!r}: an epoch of {run.plan.steps_per_epoch} steps takes about {epoch:.0f} s here, and all "
            f"around it {around:.0f} s: give {needed + 1:.0f}s or more, or a smaller --width or --resolution"
        )
    return epochs, (
        f"{epochs} epochs of about {epoch:.3g} s fit into {asked}: a step takes {pace.step:.3g} s, and {around:.0f} s "
        "go into compiling and all else"
    )


def measured(run: Run, make: Callable[[Run], State], clock: Callable[[], float] = time.perf_counter) -> Pace:
    """Does a few steps of the run on its own images, at its last resolution, and forgets them.

    Workers do equally many, by the mean of their clocks.
    """
    state, phase = make(replace(run, start=None)), phases(run.config)[-1][1]
    step, feed = phase_function(run, state, phase), iter(training_data(run, phase, 0))
    seconds: list[float] = []
    while len(seconds) < WARMUP + CALLS and sum(seconds[WARMUP:]) < CALL_SECONDS:
        before = clock()
        with naming_broken(run.source.train, functools.partial(under_way, run, len(seconds), 1)):
            step(feed, tf.constant(1))["loss"].numpy()
        seconds += workers.mean(run.strategy, [clock() - before])
    del state, step, feed
    gc.collect()
    return Pace(seconds[0], statistics.median(seconds[WARMUP:] or seconds))
