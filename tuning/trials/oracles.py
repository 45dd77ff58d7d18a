"""KerasTuner's oracles, held to a space's bounds, with a state that one write saves."""

import itertools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import keras_tuner
import numpy as np
from keras_tuner import oracles
from sklearn.exceptions import ConvergenceWarning

from kcnn.errors import InputError
from trainers.runs.files import write_json
from tuning.trials.records import inside, named, read, typed
from tuning.trials.space import Space, Values

DRAWS = 50  # of which one must be within the bounds, or the last is pulled to them
POOL = 32  # feasible draws that stand in for a proposal that is none
RUNNING, COMPLETED, STOPPED, IDLE = "RUNNING", "COMPLETED", "STOPPED", "IDLE"

Trial = Any  # keras_tuner.engine.trial.Trial


@dataclass(frozen=True)
class Observation:
    """What a trial reported at a step, as KerasTuner saves it."""

    value: list[float]
    step: int


@dataclass(frozen=True)
class History:
    direction: Literal["min", "max"]
    observations: list[Observation]


@dataclass(frozen=True)
class Metrics:
    metrics: dict[str, History]


# What of its state an oracle reads back; the rest of KerasTuner's is what the oracle was made with.
TRIAL: dict[str, Any] = {
    "trial_id": str, "hyperparameters": dict[str, Any], "metrics": Metrics, "score": float | None,
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
    marks: ClassVar[dict[str, Any]] = {}  # what it adds to the values of a trial
    path: Path
    space: Space
    hyperparameters: Any
    trials: dict[str, Trial]
    ongoing_trials: dict[str, Trial]
    failure: InputError | None = None
    _retry_queue: list[str]

    def save(self) -> None:
        """Raises InputError where that cannot be, and keeps it: a worker that asked would only see a lost connection.

        KerasTuner holds the oracle's lock for ever after an exception, so nothing more can be asked of it then.
        """
        try:
            write_json(self.path, self.get_state())
        except InputError as error:
            self.failure = error
            raise

    def get_state(self) -> dict[str, Any]:
        state = super().get_state()  # type: ignore[misc]
        return state | {"trials": {name: trial.get_state() for name, trial in self.trials.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Raises InputError for a state that no search has come to."""
        place = str(self.path)
        saved = {name: value for name, value in named(self.state, state, place).items() if name in self.state}
        self.trials = {name: self.restored(name, each, f"{place}: {name}") for name, each in saved["trials"].items()}
        for name in ("start_order", "end_order", "retry_queue"):
            self.known(saved[name], f"{place}: {name}")
        self.known(saved["ongoing_trials"].values(), f"{place}: ongoing_trials")
        promoted = (trial.hyperparameters.values.get("tuner/trial_id") for trial in self.trials.values())
        self.known(filter(None, promoted), f"{place}: tuner/trial_id")
        super().set_state(self.get_state() | saved)  # type: ignore[misc]

    def restored(self, name: str, state: Any, place: str) -> Trial:
        """A trial whose values the space has."""
        state = named(TRIAL, state, place)
        inside(self.path.parent, name)
        if state["trial_id"] != name or (state["status"] == COMPLETED and state["score"] is None):
            raise InputError(f"{place}: its own trial_id, and a score where it is completed, are needed")
        values = typed(dict[str, str | float | bool], state["hyperparameters"].get("values"), f"{place}: values")
        values = named(self.marks, values, f"{place}: values", {"tuner/trial_id": str})
        self.space.contain(values, f"{place}: values")
        ours = {"hyperparameters": self.hyperparameters.get_config() | {"values": {}}, "best_step": 0}
        trial = trial_of(state | ours | {"metrics": asdict(state["metrics"])})
        trial.hyperparameters.values = values
        return trial

    def known(self, names: Iterable[str], place: str) -> None:
        for name in names:
            if name not in self.trials:
                raise InputError(f"{place}: no trial is called {name!r}")

    def _save_trial(self, trial: Trial) -> None:
        """`save`, which always follows, has them all."""

    def reload(self, live: bool = False) -> None:
        """Goes on from the file. live: workers still have the trials they had; else those are handed out again."""
        try:
            self.set_state(read(self.path, dict[str, Any]))
        except InputError as error:
            raise InputError(f"{error}; a search that begins anew needs another --run-dir") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # of KerasTuner's own parts
            raise InputError(f"{self.path} is damaged ({type(error).__name__}: {error})") from None
        held = {trial.trial_id for trial in self.ongoing_trials.values()} if live else set()
        if not live:
            self.ongoing_trials = {}
        waiting = [name for name, trial in self.trials.items() if trial.status == RUNNING and name not in held]
        self._retry_queue = sorted(waiting, reverse=True)  # its last goes first


class Held(Saved):
    """Mixed into an oracle: draws only what a space allows, and no network twice.

    `on_end` is told of every trial that ends.
    """

    def __init__(self, space: Space, path: Path, direction: str, max_trials: int, seed: int,
                 on_end: Callable[[Trial], None] = lambda trial: None, **options: Any):  # fmt: skip
        self.space, self.path, self.on_end = space, path, on_end
        super().__init__(  # type: ignore[call-arg]
            objective=keras_tuner.Objective("score", direction),
            hyperparameters=space.hyperparameters(),
            tune_new_entries=False,
            allow_new_entries=False,
            seed=seed + 1,  # KerasTuner takes 0 for none
            max_consecutive_failed_trials=10**9,  # a failure is recorded, the search goes on
            **options,
        )
        self.max_trials = max_trials
        self.verbose = 0

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

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        super().end_trial(trial)  # type: ignore[misc]
        self.on_end(self.trials[trial.trial_id])


class RandomOracle(Held, oracles.RandomSearchOracle):
    """Independent draws."""


class HyperbandOracle(Held, oracles.HyperbandOracle):
    """Li et al., 2018 (https://arxiv.org/abs/1603.06560), ended after so many trials."""

    state: ClassVar[dict[str, Any]] = STATE | {
        "brackets": list[dict[str, Any]], "current_bracket": int, "current_iteration": int
    }  # fmt: skip
    marks: ClassVar[dict[str, Any]] = BANDS

    def set_state(self, state: dict[str, Any]) -> None:
        most = self._get_num_brackets()
        for bracket in [named(BRACKET, each, f"{self.path}: brackets") for each in state.get("brackets", ())]:
            number, rounds = bracket["bracket_num"], bracket["rounds"]
            if not 0 <= number < most or len(rounds) != number + 1:
                raise InputError(f"{self.path}: bracket {number} of {len(rounds)} rounds is none of {most}")
        if not 0 <= typed(int, state.get("current_bracket"), f"{self.path}: current_bracket") < most:
            raise InputError(f"{self.path}: current_bracket {state['current_bracket']} is none of {most}")
        super().set_state(state)
        for bracket in self._brackets:
            self.known((each.get("id") or "" for line in bracket["rounds"] for each in line), f"{self.path}: brackets")


class BayesianOracle(Held, oracles.BayesianOptimizationOracle):
    """A Gaussian process over what was tried. Where its proposal is over a bound, the best of feasible draws by the
    same criterion takes its place."""

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
        """Of the score that is minimized, as the process has it."""
        vector = [hp.value_to_prob(values[hp.name]) for hp in self.hyperparameters.space]
        mean, deviation = self.gpr.predict(np.array([vector]), return_std=True)
        return float(mean[0] - self.beta * deviation[0])


class GridOracle(Held, keras_tuner.Oracle):
    """All combinations of so many points of each range, the last dimension's first; those over a bound are left out.

    It needs no state: what was tried is known. KerasTuner's own forgets its place when it is reloaded.
    """

    def __init__(self, *args: Any, points: int = 3, **options: Any):
        self.points = points
        super().__init__(*args, **options)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        dimensions = self.space.dimensions
        for combination in itertools.product(*(d.points(self.points) for d in dimensions)):
            values = dict(zip((d.name for d in dimensions), combination, strict=True))
            if not self._duplicate(values) and self.space.excess(values) is None:
                return {"status": RUNNING, "values": values}
        return {"status": STOPPED, "values": None}


def trial_of(state: dict[str, Any]) -> Trial:
    from keras_tuner.engine import trial

    return trial.Trial.from_state(state)


def fresh(oracle: Any, status: str) -> Trial:
    """A trial that only carries a status."""
    from keras_tuner.engine import trial

    return trial.Trial(oracle.get_space(), status=status)
