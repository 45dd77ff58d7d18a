"""KerasTuner's oracles, held to a space's bounds, with a state that one write saves."""

import itertools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import oracles
from sklearn.exceptions import ConvergenceWarning

from kcnn.errors import InputError
from trainers.files import write_json
from trainers.runs import read_json
from tuning.space import Space, Values

DRAWS = 50  # of which one must be within the bounds, or the last is pulled to them
POOL = 32  # feasible draws that stand in for a proposal that is none
RUNNING, COMPLETED, STOPPED, IDLE = "RUNNING", "COMPLETED", "STOPPED", "IDLE"

Trial = Any  # keras_tuner.engine.trial.Trial


class Saved:
    """Mixed into an oracle: its state and its trials are one file, whole or not there.

    KerasTuner writes them in place and apart, and a kill in between loses a trial, or all.
    """

    path: Path
    trials: dict[str, Trial]
    ongoing_trials: dict[str, Trial]
    _retry_queue: list[str]

    def save(self) -> None:
        write_json(self.path, self.get_state())

    def get_state(self) -> dict[str, Any]:
        state = super().get_state()  # type: ignore[misc]
        return state | {"trials": {name: trial.get_state() for name, trial in self.trials.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        self.trials = {name: trial_of(saved) for name, saved in state["trials"].items()}
        super().set_state(state)  # type: ignore[misc]

    def _save_trial(self, trial: Trial) -> None:
        """`save`, which always follows, has them all."""

    def reload(self, live: bool = False) -> None:
        """Goes on from the file. live: workers still have the trials they had; else those are handed out again."""
        try:
            self.set_state(read_json(self.path))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{self.path} is damaged ({error}): name another folder with --run-dir") from None
        held = {trial.trial_id for trial in self.ongoing_trials.values()} if live else set()
        if not live:
            self.ongoing_trials = {}
        waiting = [name for name, trial in self.trials.items() if trial.status == RUNNING and name not in held]
        self._retry_queue = sorted(waiting, reverse=True)  # its last goes first


class Held(Saved):
    """Mixed into an oracle: draws only what a space allows, and no network twice.

    `on_end` is told of every trial that ends.
    """

    space: Space

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
