"""Learning rates as functions of the number of updates: a linear warmup, and a shape that follows."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from trainers.settings import RunConfig

registered = keras.saving.register_keras_serializable("kcnn")


@dataclass(eq=False)
class Schedule(LearningRateSchedule):
    """peak * min(1, (step + 1) / warmup) * shape(step), where step (a number or an array) counts updates from 0.

    A gradual warmup spares the first, large gradients: Goyal et al., 2017 (https://arxiv.org/abs/1706.02677), 2.2.
    """

    peak: float
    warmup: int = 0
    floor: float = 0.0  # a learning rate, which the shape does not go below

    def __call__(self, step):
        step = ops.cast(step, "float32")
        return ops.minimum(1.0, (step + 1) / max(1, self.warmup)) * ops.maximum(
            self.floor, self.peak * self.shape(step)
        )

    def shape(self, step):
        """Share of the peak."""
        return ops.ones_like(step)

    def get_config(self):
        return asdict(self)


@registered
@dataclass(eq=False)
class Constant(Schedule):
    """The peak, at every step."""


@registered
@dataclass(eq=False)
class Cosine(Schedule):
    """Half a cosine, from the peak at the end of the warmup to the floor at update `total`.

    Loshchilov and Hutter, 2017 (https://arxiv.org/abs/1608.03983), without restarts.
    """

    total: int = 1

    def shape(self, step):
        low = self.floor / self.peak
        progress = ops.clip((step - self.warmup) / max(1, self.total - self.warmup), 0.0, 1.0)
        return low + (1 - low) * 0.5 * (1 + ops.cos(math.pi * progress))


@registered
@dataclass(eq=False)
class Steps(Schedule):
    """Times `factor` at each of some updates: ResNet's tenths, EfficientNet's 0.97 every 2.4 epochs."""

    at: tuple[int, ...] = ()
    factor: float = 0.1

    def shape(self, step):
        passed = ops.expand_dims(step, -1) >= ops.cast(self.at, "float32")
        return self.factor ** ops.sum(ops.cast(passed, "float32"), -1)


@registered
@dataclass(eq=False)
class Exponential(Schedule):
    """factor^(step / every): what `Steps` does at once is spread evenly."""

    every: float = 1.0
    factor: float = 0.97

    def shape(self, step):
        return self.factor ** (step / self.every)


@registered
@dataclass(eq=False)
class OneCycle(Schedule):
    """Up to the peak and down again, linearly and equally long, then towards nothing in the last tenth of `total`.

    Smith and Topin, 2017 (https://arxiv.org/abs/1708.07120), section 3. The paper gives neither the share of the last
    part nor the ends: they are a 25th of the peak, as is usual since, and then a 10,000th of that. Momentum stays.
    """

    total: int = 1

    def shape(self, step):
        low, half = 1 / 25, 0.45 * self.total
        cycle = low + (1 - low) * (1 - ops.abs(step - half) / half)
        last = low * (1 - (1 - 1e-4) * (step - 2 * half) / (self.total - 2 * half))
        return ops.maximum(low * 1e-4, ops.where(step <= 2 * half, cycle, last))


def make_schedule(config: RunConfig, steps_per_epoch: int) -> Schedule:
    """The learning rate of a configuration, for one update a step."""
    total = config.epochs * steps_per_epoch
    common: dict[str, Any] = {
        "peak": config.lr,
        "warmup": round(config.warmup_epochs * steps_per_epoch),
        "floor": config.min_lr,
    }
    match config.schedule:
        case "cosine":
            return Cosine(**common, total=total)
        case "one-cycle":
            return OneCycle(**common, total=total)
        case "exponential":
            return Exponential(**common, every=config.step_epochs[0] * steps_per_epoch, factor=config.step_gamma)
        case "step":
            at = [round(epoch * steps_per_epoch) for epoch in milestones(config.step_epochs, config.epochs)]
            return Steps(**common, at=tuple(at), factor=config.step_gamma)
        case _:
            return Constant(**common)


def milestones(step_epochs: list[float], epochs: float) -> list[float]:
    """The epochs at which the rate changes: one number stands for all its multiples within the run."""
    if len(step_epochs) > 1:
        return step_epochs
    [every] = step_epochs
    return [every * k for k in range(1, math.ceil(epochs / every))]
