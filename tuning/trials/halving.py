"""Successive halving by rank: short trials on small images first, longer and larger ones for the best of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, ClassVar

import keras_tuner

from kcnn.errors import InputError, shown
from tuning.trials.oracles import COMPLETED, IDLE, RUNNING, STATE, STOPPED, Bounded, Start, Trial, empty_trial
from tuning.trials.space import Space

KEPT = 3  # one of so many is promoted
LEAST_EPOCHS = 3  # of a rung, where the epochs are not asked for: one or two say little
SMALLER = 0.7  # times the pixels, a rung below: half the multiply-adds
LOST = 0.3  # share of the time that building and compiling may take; a third is the promise


@dataclass(frozen=True)
class Rung:
    """How many networks train for how many epochs at which share of their resolution.

    warmup: epochs at most; it stays where a rung becomes longer, so that a run can go on.
    """

    networks: int
    epochs: int
    share: float
    warmup: float


def plan(trials: int, epochs: int, asked: bool) -> tuple[Rung, ...]:
    """The rungs, lowest first. `epochs`: of the last one, where they were asked for; else of a whole run, of which
    the last rung takes half. Each rung below takes half the epochs of the one above.

    Jamieson and Talwalkar, 2016 (https://arxiv.org/abs/1502.07943); that networks of small images rank like those of
    large ones is what the RegNet and EfficientNet papers build their own searches on.
    """
    top = epochs if asked else max(min(epochs, LEAST_EPOCHS), round(epochs / 2))
    least = 1 if asked else LEAST_EPOCHS
    rungs = [Rung(trials, top, 1.0, top / 4)]
    while rungs[0].networks >= KEPT and rungs[0].epochs // 2 >= least:
        below = Rung(trials, rungs[0].epochs // 2, rungs[0].share * SMALLER, rungs[0].epochs // 2 / 4)
        sizes = [max(1, trials // KEPT ** (i + 1)) for i in range(len(rungs))]
        rungs = [below] + [replace(r, networks=n) for n, r in zip(sizes, rungs, strict=True)]
        if sizes[-1] < KEPT:
            break
    return tuple(rungs)


class HalvingOracle(Bounded, keras_tuner.Oracle):
    """A trial is a network. Once all trials of a rung have ended, the best of them go on to the next rung.

    timing(trial) gives the seconds that a finished trial spent building, compiling and saving, and those of an epoch.
    Where more than LOST of all time would be lost to the former, and `stretch` allows it, all rungs become longer: by
    the measure of the first trial, which then trains on, and those to come once more as a rung begins.
    """

    state: ClassVar[dict[str, Any]] = STATE | {"rungs": list[list[float]], "exhausted": bool, "measured": bool}
    marks: ClassVar[dict[str, Any]] = {
        "tuner/rung": int, "tuner/epochs": int, "tuner/share": float, "tuner/warmup": float
    }  # fmt: skip

    def __init__(
        self,
        start: Start,
        space: Space,
        rungs: Sequence[Rung],
        timing: Callable[[Trial], tuple[float, float]],
        stretch: bool,
    ):
        self.rungs, self.timing, self.stretch = list(rungs), timing, stretch
        self.exhausted = self.measured = False
        super().__init__(start, space)

    def stage(self, rung: int) -> dict[str, Any]:
        """What a rung adds to the values of a trial."""
        r = self.rungs[rung]
        return {"tuner/rung": rung, "tuner/epochs": r.epochs, "tuner/share": r.share, "tuner/warmup": r.warmup}

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        values = self._random_values()
        if values is None:
            self.exhausted = True
            return {"status": STOPPED, "values": None}
        return {"status": RUNNING, "values": values | self.stage(0)}

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        drawn = self.exhausted or self.remaining_trials() <= 0
        if tuner_id in self.ongoing_trials or self._retry_queue or not drawn:
            trial = super().create_trial(tuner_id)
            if trial.status != STOPPED:
                return trial
        self.tuner_ids.add(tuner_id)
        if self.ongoing_trials:
            return empty_trial(self, IDLE)  # a promotion may follow
        self.promote()
        return super().create_trial(tuner_id)

    def promote(self) -> None:
        """Sends the best of a rung that has ended to the next one."""
        if not self.trials:
            return
        rung = max(rung_of(trial) for trial in self.trials.values())
        done = [t for t in self.trials.values() if rung_of(t) == rung and t.status == COMPLETED]
        behind = [t for t in done if t.hyperparameters.values["tuner/epochs"] < self.rungs[rung].epochs]
        for trial in behind:  # a kill came before they were queued again
            self.again(trial, rung)
        if rung + 1 >= len(self.rungs) or not done or behind:
            return
        best = sorted(done, key=lambda t: t.score, reverse=self.objective.direction == "max")
        best = best[: self.rungs[rung + 1].networks]
        if self.stretch:
            self.lengthen(rung + 1, best)
        for trial in best:
            self.again(trial, rung + 1)

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        super().end_trial(trial)
        trial = self.trials[trial.trial_id]
        if trial.status != COMPLETED or rung_of(trial) or not self.stretch:
            return
        self.measured = self.measured or self.lengthen(0, [trial])
        if trial.hyperparameters.values["tuner/epochs"] < self.rungs[0].epochs:
            self.again(trial, 0)
        self.save()

    def again(self, trial: Trial, rung: int) -> None:
        """Queues a trial for a rung."""
        trial.hyperparameters.values |= self.stage(rung)
        trial.status, trial.score = RUNNING, None
        self._retry_queue = sorted({*self._retry_queue, trial.trial_id}, reverse=True)

    def lengthen(self, rung: int, sample: Sequence[Trial]) -> bool:
        """Makes the rungs from this one on so long that at most LOST of all time is lost by the end of the last.

        False where the sample cannot tell, as a run that was killed after its last epoch.
        """
        sample = [trial for trial in sample if self.timing(trial)[1] > 0]
        if not sample:
            return False
        ended = [t for t in self.trials.values() if t.status == COMPLETED and rung_of(t) < rung]
        lost = sum(self.timing(t)[0] for t in ended)
        trained = sum(self.timing(t)[1] * self.rungs[rung_of(t)].epochs for t in ended)
        setup, epoch = (sum(times) / len(sample) for times in zip(*map(self.timing, sample), strict=True))
        share = self.rungs[rung_of(sample[0])].share
        lost += sum(r.networks * setup for r in self.rungs[rung:])
        ahead = sum(r.networks * r.epochs * epoch * (r.share / share) ** 2 for r in self.rungs[rung:])
        times = max(1.0, (lost * (1 - LOST) / LOST - trained) / ahead)
        self.rungs[rung:] = [replace(r, epochs=math.ceil(r.epochs * times)) for r in self.rungs[rung:]]
        return True

    def score_trial(self, trial: Trial) -> None:
        """Scores a trial by the rung that it reached last, as the scores of other rungs are not comparable."""
        last = trial.metrics.get_history("score")[-1]
        trial.score, trial.best_step = last.mean(), last.step

    def get_state(self) -> dict[str, Any]:
        rungs = [list(astuple(r)) for r in self.rungs]
        return super().get_state() | {"rungs": rungs, "exhausted": self.exhausted, "measured": self.measured}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.exhausted, self.measured = state["exhausted"], state["measured"]
        self.rungs = [Rung(int(n), int(epochs), share, warmup) for n, epochs, share, warmup in state["rungs"]]
        if any(r.networks < 1 or r.epochs < 1 or not 0 < r.share <= 1 or r.warmup < 0 for r in self.rungs):
            raise InputError(f"{self.path}: rungs {shown(state['rungs'])}: these are none")
        for trial in self.trials.values():
            if not 0 <= rung_of(trial) < len(self.rungs):
                rungs = len(self.rungs)
                raise InputError(f"{self.path}: trial {trial.trial_id} is on rung {rung_of(trial)} of {rungs}")


def rung_of(trial: Trial) -> int:
    return int(trial.hyperparameters.values.get("tuner/rung", 0))
