"""The learning rate range test: a short training whose rate rises at every step until the loss blows up.

Smith, 2015, Cyclical Learning Rates for Training Neural Networks (https://arxiv.org/abs/1506.01186), section 3.3.
"""

import functools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.distribute.feed import naming_broken
from trainers.loop import phase_function
from trainers.optim.optimizers import rule_of
from trainers.phases import phase_of, training_data, under_way
from trainers.reports.curves import range_png
from trainers.run import Run
from trainers.runs.files import write_bytes, write_json
from trainers.runs.folders import RANGE_TEST
from trainers.runs.progress import Reporter, Speed
from trainers.settings import RunConfig
from trainers.state import State

STEPS = 98
RATES = tuple(float(rate) for rate in np.geomspace(1e-6, 10.0, STEPS))
KEPT = 0.8  # the share of its old value that the smoothed loss keeps in a step
RISE = 0.15  # how far above its lowest value, as a share of it, the smoothed loss is said to rise
NOISE = 6.0  # a change of the smoothed loss counts from so many standard deviations on
# The suggested rate is so many times lower than the one from which the loss rises: with and without normalization.
BELOW, BELOW_PLAIN = 3.0, 10.0
EARLY = 30  # steps at rates too low for anything but chance


@dataclass(frozen=True)
class RangeTest:
    """What a range test saw and suggests.

    rates, losses, smoothed: of each step; losses in nats. steepest: the rate at which the smoothed loss falls fastest,
    if it falls by more than chance. rises: the rate from which on it rises, if it does. suggested: a peak for the
    learning rate, or None where the loss does neither, or blows up at once.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float | None
    rises: float | None
    suggested: float | None

    @property
    def rate(self) -> float:
        """The suggested rate. Raises InputError where there is none."""
        if self.suggested is None:
            raise InputError(f"no learning rate can be suggested: {self.evidence}; look at the data, or give --lr")
        return self.suggested

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON can hold them: None for a loss that is NaN or infinite."""
        losses = [loss if np.isfinite(loss) else None for loss in self.losses]
        return asdict(self) | {"losses": losses, "evidence": self.evidence}

    @property
    def evidence(self) -> str:
        """What the loss did, in a sentence without its end."""
        if self.suggested is None:
            first = self.losses[0]
            return f"the loss, {first:.4g} at first, never falls at rates from {RATES[0]:g} to {self.rates[-1]:.2g}"
        if self.steepest is None:
            return f"the loss hardly falls in so few steps, and rises from {self.rises:.2g} on"
        end = f"rises from {self.rises:.2g} on" if self.rises else f"does not rise up to {self.rates[-1]:.2g}"
        return f"the loss falls fastest near {self.steepest:.2g} and {end}"


def range_test(losses: Sequence[float], normalized: bool = True) -> RangeTest:
    """What the losses at the first rates of RATES suggest, one or more; the last one may be NaN or infinite.

    The suggestion is a third of the rate from which the smoothed loss rises; a tenth, where the network is not
    `normalized`. Of what is usual, two other rules were worse where they were tried (see `benchmarks.find_lr`): with
    batch normalization SGD's loss hardly falls in so few steps, so that the steepest fall is a matter of chance; and
    Adam's loss falls on, in leaps, at rates far too high for a training, so that a tenth of the rate of the lowest loss
    is too high. A loss that leaps for the first time is the one sign that all networks gave. Batch normalization makes
    up for rates somewhat too high, as weights that grow are then moved less (Arora et al., 2018,
    https://arxiv.org/abs/1812.03981); without it the loss becomes sharper as training goes on (Cohen et al., 2021,
    https://arxiv.org/abs/2103.00065), and what the first steps bear, VGG does not bear later. The suggestion is a peak:
    schedules fall from it, and a warmup leads to it.
    """
    values = np.asarray(losses, np.float64)
    rates = RATES[: len(values)]
    smooth = smoothed(values[np.isfinite(values)])
    made = functools.partial(RangeTest, rates, tuple(map(float, values)), tuple(map(float, smooth)))
    if len(smooth) < 2:
        return made(None, None, None)
    noise = NOISE * spread(values[: min(EARLY, len(smooth))], len(smooth))
    lowest = np.minimum.accumulate(smooth)
    high = np.flatnonzero(smooth - lowest > np.maximum(RISE * lowest, noise))
    end = int(high[0]) if len(high) else len(smooth)
    first = float(np.mean(values[: min(10, end)]))
    fell = bool(np.any(first - smooth[:end] > np.maximum(noise[:end], 1e-3 * first)))
    rises = rates[end] if end < len(rates) else None
    leapt = rises and (len(smooth) < len(values) or np.max(smooth[end:]) - first > 2 * noise[end])
    if not fell and not (leapt and end >= EARLY):
        return made(None, None, None)
    ahead = np.pad(smooth[:end], (3, 3), mode="edge")
    steepest = rates[int(np.argmin(ahead[6:] - ahead[:-6]))] if fell else None
    rate = rises / (BELOW if normalized else BELOW_PLAIN) if rises else steepest
    # Two figures are all that the test can tell, and a number that a person can type.
    return made(steepest, rises, float(f"{rate:.1e}"))


def smoothed(losses: Sequence[float] | np.ndarray) -> np.ndarray:
    """The exponential moving average of the losses so far, without its bias towards 0 (Kingma and Ba, 2015,
    https://arxiv.org/abs/1412.6980, section 3)."""
    sums = np.array(list(accumulate(losses, lambda old, new: KEPT * old + (1 - KEPT) * new, initial=0.0))[1:])
    return sums / (1 - KEPT ** np.arange(1, len(sums) + 1))


def spread(losses: np.ndarray, steps: int) -> np.ndarray:
    """The standard deviation of the smoothed loss at each of so many steps, if the losses differ as these ones do, by
    chance alone. It comes from the median of their changes: leaps do not count."""
    one, kept = 1.4826 * float(np.median(np.abs(np.diff(losses)))) / np.sqrt(2), KEPT ** np.arange(1, steps + 1)
    return one * np.sqrt((1 - KEPT) * (1 + kept) / ((1 + KEPT) * (1 - kept)))


def blown_up(losses: Sequence[float]) -> bool:
    """Whether a range test has seen enough: the loss is no number, or far above its lowest and its first value."""
    if not np.isfinite(losses[-1]):
        return True
    smooth = smoothed(losses)
    return bool(smooth[-1] > max(4 * smooth.min(), smooth[0]))


def as_tested(config: RunConfig) -> RunConfig:
    """The run as the range test trains it: at a rate of 1, which `range_test` scales at each step; without averages."""
    return replace(config, lr=1.0, schedule="constant", warmup_epochs=0.0, min_lr=0.0, ema=0.0)


def range_losses(run: Run, state: State) -> list[float]:
    """The losses of a run's own training steps, in nats, one for each of the first rates of RATES. The state changes.

    run: as `as_tested` has it. The images are the run's first batches, in its order and with its augmentation; where
    there are fewer than the test needs, they come again. It ends early where the loss is no number or blows up.
    """
    phase = phase_of(run.config, 0)
    feed = iter(training_data(run, phase, 0))
    step, losses = phase_function(run, state, phase), []
    speed = Speed(run.config.global_batch)
    with Reporter(STEPS, 0, show=run.chief) as reporter:
        for i, rate in enumerate(RATES):
            rule_of(state.optimizer).lr_scale.assign(rate)
            started = time.perf_counter()
            with naming_broken(run.source.train, functools.partial(under_way, run, i, 1)):
                series = {name: values.numpy() for name, values in step(feed, tf.constant(1)).items()}
            speed.add(1, time.perf_counter() - started)
            losses.append(float(series["loss"][0]))
            accuracy = float(series["correct"][0]) / run.config.global_batch
            reporter.step(f"rate {rate:.1e}", i + 1, losses[-1], accuracy, speed.recent)
            if blown_up(losses):
                break
    return losses


def write_range_test(folder: Path, test: RangeTest) -> None:
    """Leaves the figures of a range test and their picture in a folder."""
    write_json(folder / RANGE_TEST, test.to_dict())
    write_bytes((folder / RANGE_TEST).with_suffix(".png"), range_png(test))
