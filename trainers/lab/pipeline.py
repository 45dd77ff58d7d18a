"""Whether a training waits for its images or for its network: each is timed alone, and both together."""

import functools
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import tensorflow as tf

from trainers.distribute.feed import naming_broken
from trainers.loop import phase_function
from trainers.phases import phases, training_data, under_way
from trainers.run import Run
from trainers.state import State

WARMUP, STEPS = 3, 12  # of each: not timed, as compiling and filling buffers are in them, and timed


@dataclass(frozen=True)
class Pace:
    """Seconds a step: medians, but for the images, whose buffers hide what each of them costs.

    images: to make a batch. network: to train on one that is there. both: as in training.
    """

    images: float
    network: float
    both: float

    @property
    def waiting(self) -> float:
        """The share of training's time in which the network waits for images, or shares the processor with them."""
        return max(0.0, 1 - self.network / self.both)

    @property
    def bound(self) -> str:
        """What a faster one of would make training faster: "the input pipeline" or "the network"."""
        return "the input pipeline" if self.images > self.network else "the network"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"waiting": self.waiting, "bound": self.bound}


def pace(run: Run, make: Callable[[Run], State], clock: Callable[[], float] = time.perf_counter) -> Pace:
    """Measures some steps of a run on one device, at its last resolution, and forgets them."""
    state, phase = make(replace(run, start=None)), phases(run.config)[-1][1]
    step = phase_function(run, state, phase)

    def one(feed: Any, number: int) -> None:
        with naming_broken(run.source.train, functools.partial(under_way, run, number, 1)):
            step(feed, tf.constant(1))["loss"].numpy()

    images = training_data(run, phase, 0)
    feed = iter(images)
    both = timed(lambda number: one(feed, number), clock)
    batch = next(feed)
    again = iter(tf.data.Dataset.from_tensors(batch).repeat())
    network = timed(lambda number: one(again, number), clock)
    alone = iter(images)
    for _ in range(WARMUP):
        next(alone)
    start = clock()
    for _ in range(STEPS):
        next(alone)
    made = (clock() - start) / STEPS
    gc.collect()
    return Pace(made, statistics.median(network), statistics.median(both))


def timed(work: Callable[[int], None], clock: Callable[[], float]) -> list[float]:
    """The seconds of each of STEPS calls, after WARMUP that are not timed."""
    seconds = []
    for number in range(WARMUP + STEPS):
        start = clock()
        work(number)
        seconds.append(clock() - start)
    return seconds[WARMUP:]
