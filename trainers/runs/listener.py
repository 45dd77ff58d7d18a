"""What a listener to a run hears of."""

from typing import TYPE_CHECKING, Any

from trainers.evaluation import Evaluation
from trainers.run import Scalars, means

if TYPE_CHECKING:
    from trainers.loop import Training


class Listener:
    """The events of a run, in the order in which they happen; a listener overrides the methods that it needs.

    start: before the first step. epoch_start: before the first step of an epoch. steps: after a call of some steps,
    with the epoch, its figures so far, and the number of the signal to stop at, or 0. epoch_end: with the epoch's
    figures, its evaluation, and whether it is the best. recovered: the run went back to a checkpoint, for a reason.
    end: after the last step.
    """

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def start(self, training: "Training") -> None:
        pass

    def epoch_start(self, training: "Training") -> None:
        pass

    def steps(self, training: "Training", epoch: int, running: Scalars, stop: int) -> None:
        pass

    def epoch_end(self, training: "Training", epoch: int, figures: Scalars, evaluation: Evaluation, best: bool) -> None:
        pass

    def recovered(self, training: "Training", reason: str) -> None:
        pass

    def end(self, training: "Training") -> None:
        pass


def lately(training: "Training") -> Scalars | None:
    """The figures of the steps since the last line of metrics, or None where the next line is not due."""
    series, plan = training.position.epoch, training.plan
    within = len(series["loss"])
    if within % plan.log_every and within != plan.steps_per_epoch:
        return None
    start = (within - 1) // plan.log_every * plan.log_every
    return means({name: values[start:] for name, values in series.items()}, training.config.global_batch)
