"""By which share of themselves the first steps of a training change the weights: the mark of its learning rate."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import tensorflow as tf

from trainers.loop import phase_function, stages
from trainers.optim.watched import scalars
from trainers.phases import phases, training_data
from trainers.run import Run
from trainers.state import State

STEPS = 4
# The share of its weights from which on a step is said to be too large. Usual rates give 0.03 and less in the median
# over stages, with each optimizer; 100 times these give 0.23 and more, and with SGD more than 5. SGD bears more, as the
# large gradients of the start soon shrink, and a warmup is for them.
HIGH, HIGH_SGD = 0.2, 1.0


@dataclass(frozen=True)
class Updates:
    """stages: the norm of a step's change over that of the weights, of each stage's kernels, in the step where the
    median over stages is the highest: later ones meet weights that have grown. lr: the rate, a run's peak."""

    optimizer: str
    lr: float
    stages: dict[str, float]

    @property
    def typical(self) -> float:
        """The median over stages."""
        return statistics.median(self.stages.values())

    @property
    def high(self) -> bool:
        """Whether steps are so large that training can hardly learn."""
        return not self.typical <= (HIGH_SGD if self.optimizer == "sgd" else HIGH)  # nor is NaN

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"typical": self.typical, "high": self.high}


def updates(run: Run, make: Callable[[Run], State]) -> Updates:
    """Measures the first steps of a run on one device at its peak rate, from where it started, and forgets them."""
    config = replace(run.config, watch="gradients", schedule="constant", warmup_epochs=0.0)
    run = replace(run, config=config)
    state, phase = make(run), phases(config)[0][1]
    step, names = phase_function(run, state, phase), stages(state, phase)
    feed = iter(training_data(run, phase, 0))
    seen = [scalars(names, step(feed, tf.constant(1))["watched"].numpy()[0]) for _ in range(STEPS)]
    steps = ({name: figures[f"update/{name}"] for name in names} for figures in seen)
    return Updates(config.optimizer, config.lr, max(steps, key=lambda shares: statistics.median(shares.values())))
