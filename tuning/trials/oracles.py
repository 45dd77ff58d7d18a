"""KerasTuner's oracles, held to a space's bounds, with a state that is one file."""

import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import keras_tuner
import numpy as np
from keras_tuner import oracles
from keras_tuner.engine import trial as kt_trial
from sklearn.exceptions import ConvergenceWarning

from kcnn.errors import InputError, shown
from trainers.runs.files import read_json, write_json
from tuning.trials.records import inside, made, named
from tuning.trials.space import Space, Values

DRAWS = 50  # of which one must be within the bounds, or the last one is moved to them
POOL = 32  # draws within the bounds, of which one takes the place of a proposal beyond them
RUNNING, COMPLETED, STOPPED, IDLE = "RUNNING", "COMPLETED", "STOPPED", "IDLE"

Trial = Any  # keras_tuner.engine.trial.Trial


@dataclass(frozen=True)
class Start:
    """What every oracle begins with. on_end is called with each trial that has ended."""

    path: Path
    direction: str = "max"
    max_trials: int | None = None
    seed: int = 0
    on_end: Callable[[Trial], None] = lambda trial: None


@dataclass(frozen=True)
class Observation:
    """What a trial reported at a step, as KerasTuner saves it."""

    value: list[float]
    step: int


@dataclass(frozen=True)
class History:
    direction: Literal["min", "max"]
    observations: list[Any]


# What of its state an oracle reads back; the rest of KerasTuner's is what the oracle was made with.
TRIAL: dict[str, Any] = {
    "trial_id": str, "hyperparameters": dict[str, Any], "metrics": dict[str, dict[str, Any]], "score": float | None,
    "status": Literal["RUNNING", "COMPLETED", "FAILED", "INVALID"], "message": str | None,
}  # fmt: skip
STATE: dict[str, Any] = {
    "trials": dict[str, Any], "ongoing_trials": dict[str, str], "start_order": list[str], "end_order": list[str],
    "run_times": dict[str, int], "retry_queue": list[str], "seed_state": int, "tried_so_far": list[str],
    "id_to_hash": dict[str, str | None],
}  # fmt: skip
BANDS: dict[str, Any] = {"tuner/epochs": int, "tuner/initial_epoch": int, "tuner/bracket": int, "tuner/round": int}
BRACKET: dict[str, Any] = {"bracket_num": int, "rounds": list[list[dict[str, str | None]]]}


class Saved:
    """Mixed into an oracle: its state and its trials are one file, whole or not there.

    KerasTuner writes them in place and apart, and a kill in between loses a trial, or all.
    """

    state: ClassVar[dict[str, Any]] = STATE
    marks: ClassVar[dict[str, Any]] = {}  # what it adds to the values of each trial
    hyperparameters: Any
    trials: dict[str, Trial]
    ongoing_trials: dict[str, Trial]
    failure: InputError | None = None
    _retry_queue: list[str]

    def __init__(self, start: Start, hyperparameters: keras_tuner.HyperParameters, **options: Any):
        self.path, self.on_end = start.path, start.on_end
        super().__init__(  # type: ignore[call-arg]
            objective=keras_tuner.Objective("score", start.direction),
            hyperparameters=hyperparameters,
            tune_new_entries=False,
            allow_new_entries=False,
            seed=start.seed + 1,  # KerasTuner takes 0 for none
            max_consecutive_failed_trials=10**9,  # a failure is recorded, the others go on
            **options,
        )
        self.max_trials = start.max_trials
        self.verbose = 0

    def save(self) -> None:
        """Raises InputError where that cannot be, and keeps it: a worker that asked would only see a lost connection.

        KerasTuner holds the oracle's lock for ever after an exception, so nothing more can be asked of it then.
        """
        try:
            write_json(self.path, self.get_state())
        except InputError as error:
            self.failure = error
            raise

    def _save_trial(self, trial: Trial) -> None:
        """`save`, which always follows, has them all."""

    def get_state(self) -> dict[str, Any]:
        state = super().get_state()  # type: ignore[misc]
        return state | {"trials": {name: trial.get_state() for name, trial in self.trials.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Raises InputError for a state that no search has come to."""
        place = str(self.path)
        saved = {name: value for name, value in named(state, self.state, place).items() if name in self.state}
        self.trials = {name: self.restored(name, each, f"{place}: {name}") for name, each in saved["trials"].items()}
        for name in ("start_order", "end_order", "retry_queue"):
            self.check_known(saved[name], f"{place}: {name}")
        self.check_known(saved["ongoing_trials"].values(), f"{place}: ongoing_trials")
        promoted = (trial.hyperparameters.values.get("tuner/trial_id") for trial in self.trials.values())
        self.check_known(filter(None, promoted), f"{place}: tuner/trial_id")
        super().set_state(self.get_state() | saved)  # type: ignore[misc]

    def restored(self, name: str, state: Any, place: str) -> Trial:
        """A trial from its state."""
        state = named(state, TRIAL, place)
        inside(self.path.parent, name)
        if state["trial_id"] != name or (state["status"] == COMPLETED and state["score"] is None):
            raise InputError(f"{place}: its own trial_id, and a score where it is completed, are needed")
        values = named(state["hyperparameters"], {"values": dict[str, str | float | bool]}, place)["values"]
        named(values, self.marks, f"{place}: values", {"tuner/trial_id": str})
        self.check_values(values, f"{place}: values")
        histories = {what: history(each, f"{place}: {what}") for what, each in metrics_of(state, place).items()}
        ours = {"hyperparameters": self.hyperparameters.get_config() | {"values": {}}, "best_step": 0}
        trial = kt_trial.Trial.from_state(state | ours | {"metrics": {"metrics": histories}})
        trial.hyperparameters.values = values
        return trial

    def check_values(self, values: Mapping[str, Any], place: str) -> None:
        """Raises InputError for values that this oracle gives to no trial."""
        raise NotImplementedError

    def check_known(self, names: Iterable[str], place: str) -> None:
        for name in names:
            if name not in self.trials:
                raise InputError(f"{place}: no trial is called {shown(name)}")

    def reload(self, live: bool = False, is_kept: Callable[[Trial], bool] = lambda trial: True) -> None:
        """Goes on from the file. live: workers still have the trials they had; else those are handed out again.

        So are those that were completed but whose record is_kept(trial) does not find any more.
        """
        try:
            self.set_state(read_json(self.path, dict))
        except InputError as error:
            raise InputError(f"{error}; a search that begins anew needs another --run-dir") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # of KerasTuner's own parts
            raise InputError(f"{self.path} is damaged ({type(error).__name__}: {error})") from None
        if not live:
            self.ongoing_trials = {}
        held = {trial.trial_id for trial in self.ongoing_trials.values()}
        for trial in self.trials.values():
            if trial.status == COMPLETED and not is_kept(trial):
                trial.status = RUNNING
        waiting = [name for name, trial in self.trials.items() if trial.status == RUNNING and name not in held]
        self._retry_queue = sorted(waiting, reverse=True)  # its last goes first

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        super().end_trial(trial)  # type: ignore[misc]
        self.on_end(self.trials[trial.trial_id])


class Bounded(Saved):
    """Mixed into an oracle: it draws only what a space allows, and no network twice."""

    def __init__(self, start: Start, space: Space, **options: Any):
        self.space = space
        super().__init__(start, space.hyperparameters(), **options)

    def check_values(self, values: Mapping[str, Any], place: str) -> None:
        self.space.contain(values, place)

    def _compute_values_hash(self, values: Values) -> str:
        return self.space.network(values)

    def _random_values(self) -> Values | None:
        values = None
        for _ in range(DRAWS):
            values = super()._random_values()  # type: ignore[misc]
            if values is None:
                return None
            values = self.space.rounded(values)
            if self.space.excess(values) is None:
                return values
        pulled = self.space.pulled(values or {})
        return None if self._duplicate(pulled) else pulled  # type: ignore[attr-defined]


class RandomOracle(Bounded, oracles.RandomSearchOracle):
    """Draws each trial independently."""


class HyperbandOracle(Bounded, oracles.HyperbandOracle):
    """Hyperband of Li et al., 2018 (https://arxiv.org/abs/1603.06560), which ends after so many trials."""

    state: ClassVar[dict[str, Any]] = STATE | {
        "brackets": list[dict[str, Any]],
        "current_bracket": int,
        "current_iteration": int,
    }
    marks: ClassVar[dict[str, Any]] = BANDS

    def set_state(self, state: dict[str, Any]) -> None:
        named(state, self.state, str(self.path))
        most = self._get_num_brackets()
        for bracket in state["brackets"]:
            named(bracket, BRACKET, f"{self.path}: brackets")
            number, rounds = bracket["bracket_num"], bracket["rounds"]
            if not 0 <= number < most or len(rounds) != number + 1:
                raise InputError(f"{self.path}: bracket {number} of {len(rounds)} rounds is none of {most}")
        if not 0 <= state["current_bracket"] < most:
            raise InputError(f"{self.path}: current_bracket {state['current_bracket']} is none of {most}")
        super().set_state(state)
        entries = (each for bracket in self._brackets for line in bracket["rounds"] for each in line)
        self.check_known((each.get("id") or "" for each in entries), f"{self.path}: brackets")


class BayesianOracle(Bounded, oracles.BayesianOptimizationOracle):
    """A Gaussian process over what was tried proposes the next trial.

    Where its proposal is beyond a bound, the best of draws within the bounds takes its place, by the same criterion.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        with warnings.catch_warnings():  # the process's length scales may well come to their ends
            warnings.simplefilter("ignore", ConvergenceWarning)
            response = super().populate_space(trial_id)
        values = response["values"]
        if values is None:
            return response
        values = self.space.rounded(values)
        if self.space.excess(values) is None and not self._duplicate(values):
            return response | {"values": values}
        pool = [drawn for _ in range(POOL) if (drawn := self._random_values()) is not None]
        if not pool:
            return {"status": STOPPED, "values": None}
        return {"status": RUNNING, "values": min(pool, key=self.lower_bound)}

    def lower_bound(self, values: Values) -> float:
        """The lower confidence bound of the score that is minimized, as the process has it."""
        vector = [hp.value_to_prob(values[hp.name]) for hp in self.hyperparameters.space]
        mean, deviation = self.gpr.predict(np.array([vector]), return_std=True)
        return float(mean[0] - self.beta * deviation[0])


class GridOracle(Bounded, keras_tuner.Oracle):
    """Takes all combinations of so many points of each range that are within the bounds, the last dimension's first.

    It needs no state of its own, as what was tried is known. KerasTuner's forgets its place when it is reloaded.
    """

    def __init__(self, start: Start, space: Space, points: int = 3):
        self.points = points
        super().__init__(start, space)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        dimensions = self.space.dimensions
        for combination in itertools.product(*(d.points(self.points) for d in dimensions)):
            values = dict(zip((d.name for d in dimensions), combination, strict=True))
            if not self._duplicate(values) and self.space.excess(values) is None:
                return {"status": RUNNING, "values": values}
        return {"status": STOPPED, "values": None}


def metrics_of(state: Mapping[str, Any], place: str) -> dict[str, Any]:
    return named(state["metrics"].get("metrics"), {}, f"{place}: metrics")


def history(state: Any, place: str) -> dict[str, Any]:
    """The checked history of a metric."""
    found = made(History, state, place)
    return asdict(found) | {"observations": [asdict(made(Observation, each, place)) for each in found.observations]}


def empty_trial(oracle: Any, status: str) -> Trial:
    """A trial that only carries a status."""
    return kt_trial.Trial(oracle.get_space(), status=status)
