"""A search from its settings to its result: the folder it lives in, how it is opened again, how it is run."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from kcnn.errors import InputError, Interrupted
from trainers.config import RESUMABLE, TrainConfig
from trainers.data import open_data
from trainers.runs import files, folders
from trainers.runs.files import read_yaml
from tuning.pages import hparams
from tuning.pages import search as report
from tuning.trials.halving import HalvingOracle, plan, rung_of
from tuning.trials.objective import Objective, parse
from tuning.trials.oracles import BayesianOracle, GridOracle, HyperbandOracle, RandomOracle, Trial
from tuning.trials.processes import MOST_WORKERS
from tuning.trials.records import claimed, need_whole, typed
from tuning.trials.space import Limits, Ranges, Space, make_space, resolve
from tuning.trials.trial import place, read_record, run_trial
from tuning.trials.workers import connected, lead, role, supervise, work

SETTINGS, RESULT, ORACLE = "search.yaml", "result.json", "oracle.json"
Tuner = Literal["halving", "random", "bayesian", "hyperband", "grid"]
TUNERS = ("halving", "random", "bayesian", "hyperband", "grid")


@dataclass(frozen=True)
class Settings:
    """What makes a search the one it is. `config`: the run that its trials change."""

    config: TrainConfig
    ranges: Ranges
    limits: Limits
    tuner: Tuner
    objective: str
    grid_points: int
    max_trials: int


@dataclass(frozen=True)
class Result:
    """A finished search: its folder, one row a trial, the best of them, and the command that trains it in full."""

    folder: Path
    trials: list[dict[str, Any]]
    best: dict[str, Any]
    command: str
    seconds: float
    lost_seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"folder": str(self.folder)}


@dataclass(frozen=True)
class Search:
    """An open search."""

    settings: Settings
    folder: Path
    space: Space
    objective: Objective
    reference: Mapping[str, float]

    def run(self, trial: Trial) -> float | None:
        values = trial.hyperparameters.values
        return run_trial(self.space, self.objective, self.reference, self.folder, trial.trial_id, values)

    def record(self, trial: Trial) -> dict[str, Any] | None:
        return read_record(place(self.folder, trial.trial_id, trial.hyperparameters.values))

    def records(self, trial: Trial) -> list[dict[str, Any]]:
        """Of all rungs that a trial came to, the lowest first."""
        values = dict(trial.hyperparameters.values)
        if "tuner/share" not in values:
            found = [self.record(trial)]
        else:
            rungs = ({"tuner/rung": rung} for rung in range(rung_of(trial) + 1))
            found = [read_record(place(self.folder, trial.trial_id, values | rung)) for rung in rungs]
        return [record for record in found if record]

    def timing(self, trial: Trial) -> tuple[float, float]:
        """Seconds lost, seconds of an epoch."""
        try:
            record = self.record(trial) or {}
        except InputError:  # the report will tell
            record = {}
        return record.get("lost_seconds", 0.0), record.get("epoch_seconds", 0.0)


def search(config: TrainConfig | None = None, ranges: Ranges | None = None, limits: Limits | None = None, *,
           tuner: Tuner = "halving", objective: str = "val_accuracy", max_trials: int = 20, grid_points: int = 3,
           parallel: int = 1) -> Result:  # fmt: skip
    """Searches multipliers, and other fields where asked, of the run `config`; see `python -m tuning.search --help`.

    config.run_dir is the search's folder (default: logs/search-ARCH-DATA-TIME); one that holds this search is gone on
    with. Raises InputError for what a user can put right.
    """
    config = config or TrainConfig()
    settings = Settings(config, ranges or Ranges(), limits or Limits(), tuner, objective, grid_points, max_trials)
    need_whole(max_trials=(max_trials, 1, 10**6), parallel=(parallel, 1, MOST_WORKERS),
               grid_points=(grid_points, 2, 1000))  # fmt: skip
    if role() == "worker":
        if not config.run_dir:
            raise InputError("a worker needs the chief's folder: give --run-dir, on a file system that both see")
        with connected() as (oracle, name):
            found = open_search(settings)
            work(oracle, name, found.run)
        return Result(found.folder, [], {}, "", 0.0, 0.0)
    found = open_search(settings)
    if not settings.config.run_dir:  # another search may begin in the same second
        found = replace(found, folder=claimed(found.folder))
    with folders.locked(found.folder):
        remember(found)
        oracle = make_oracle(found)
        if oracle.path.is_file():
            oracle.reload(live=role() == "chief")
        if parallel > 1:
            command = [sys.executable, "-m", "tuning.worker", str(found.folder.absolute())]
            supervise(oracle, command, parallel, found.folder / "workers")
        elif role() == "chief":
            lead(oracle)
        else:
            alone(found, oracle)
        return close(found, oracle)


def alone(found: Search, oracle: Any) -> None:
    """One trial after the other, in this process."""
    try:
        work(oracle, "worker-0", found.run)
    except Interrupted as stop:
        saved, _, _ = str(stop).partition(";")
        raise Interrupted(f"{saved}; the same command goes on with the search in {found.folder}") from stop


def open_search(settings: Settings) -> Search:
    """Everything that can be wrong with a search, found out before anything is written."""
    config = settings.config
    if config.resume or config.dry_run:
        raise InputError("--resume and --dry-run are not for searches: the same command with --run-dir goes on")
    if settings.tuner not in TUNERS:
        raise InputError(f"tuner {settings.tuner!r}: one of {', '.join(TUNERS)} is needed")
    folder = folder_of(config)
    if Path(config.data).is_dir():  # it must be found when the search goes on elsewhere
        config = replace(config, data=str(Path(config.data).absolute()))
    objective, bounds = parse(settings.objective), settings.limits.bounds()
    source = open_data(config.data, data_dir=config.data_dir, val_split=config.val_split, seed=config.seed,
                       on_corrupt=config.on_corrupt)  # fmt: skip
    measured = frozenset({*bounds, *(cost for cost, _ in objective.exponents)})
    config = replace(config, run_dir=None)
    space = make_space(config, settings.ranges, bounds, len(source.classes), measured)
    settings = replace(settings, config=config)
    same_search(folder, settings)
    if resolve(config).batch_size > source.train.size:
        raise InputError(f"batch-size {resolve(config).batch_size}: there are {source.train.size} training images")
    space.check()
    reference = {}
    for cost, _ in objective.exponents:
        own = replace(space, config=config, dimensions=())
        reference[cost] = bounds.get(cost) or (own.costs({}) or {})[cost]
    return Search(settings, folder, space, objective, reference)


def make_oracle(search: Search) -> Any:
    """The oracle of a search. Every end of a trial is told."""
    settings, objective = search.settings, search.objective
    asked = settings.config.epochs is not None
    epochs = resolve(settings.config).epochs
    options: dict[str, Any] = {"space": search.space, "path": search.folder / ORACLE, "direction": objective.direction,
                               "max_trials": settings.max_trials, "seed": settings.config.seed}  # fmt: skip
    oracle: Any
    if settings.tuner == "halving":
        rungs = plan(settings.max_trials, epochs, asked)
        oracle = HalvingOracle(**options, rungs=rungs, timing=search.timing, stretch=not asked)
    elif settings.tuner == "hyperband":
        oracle = HyperbandOracle(**options, max_epochs=epochs)
    elif settings.tuner == "grid":
        oracle = GridOracle(**options, points=settings.grid_points)
    else:
        oracle = {"random": RandomOracle, "bayesian": BayesianOracle}[settings.tuner](**options)
    oracle.on_end = lambda trial: report.tell(search, oracle, trial)
    return oracle


def folder_of(config: TrainConfig) -> Path:
    if config.run_dir:
        return Path(config.run_dir)
    name = folders.folder_of(config).name
    return Path("logs") / f"search-{name}"


def saved(settings: Settings) -> dict[str, Any]:
    """Ready for YAML."""
    plain = asdict(settings)
    plain["ranges"] = {k: list(v) if isinstance(v, tuple) else v for k, v in plain["ranges"].items()}
    return plain


def read_settings(folder: Path) -> Settings:
    return typed(Settings, read_yaml(folder / SETTINGS), str(folder / SETTINGS))


def remember(search: Search) -> None:
    files.write_text(search.folder / SETTINGS, yaml.safe_dump(saved(search.settings), sort_keys=False))


def same_search(folder: Path, settings: Settings) -> None:
    """Raises InputError where the folder holds something else, and says what."""
    if (folder / SETTINGS).is_file():
        old, new = flat(saved(read_settings(folder))), flat(saved(settings))
        # Rungs are as large as the trials are many; other tuners can be given more of them.
        free = {*RESUMABLE, *(["max_trials"] if settings.tuner != "halving" else [])} - {"epochs"}
        changed = [f"{key} is {old.get(key)} there, {new[key]} here"
                   for key in new if old.get(key) != new[key] and key.replace("-", "_") not in free]  # fmt: skip
        if changed:
            raise InputError(f"{folder} holds another search: {'; '.join(changed)}")
    elif folder.is_dir() and any(p.name != ".lock" for p in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no search: name another folder with --run-dir")


def flat(plain: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in plain.items():
        found |= {k.replace("_", "-"): v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return found


def close(search: Search, oracle: Any) -> Result:
    """Writes what a search has come to. Raises InputError where no trial succeeded."""
    rows = report.rows(search, oracle)
    done = [row for row in rows if row["score"] is not None]
    if not done:
        why = next((row["error"] for row in rows if row["error"]), "nothing could be drawn")
        raise InputError(f"none of {len(rows)} trials succeeded, the first: {why}")
    if len(rows) < search.settings.max_trials and search.settings.tuner != "hyperband":
        print(f"the space has no more networks within its limits: {len(rows)} of {search.settings.max_trials} trials",
              file=sys.stderr)  # fmt: skip
    for row in rows:
        if row["status"] == "completed" and row["score"] is None:
            print(f"trial {row['trial']} is left out: {row['error']}", file=sys.stderr)
    # Last of all, when no trial disturbs it.
    print("measuring how long each network takes for an image", file=sys.stderr, flush=True)
    timed = replace(search.space, measured=search.space.measured | {"latency_ms"})
    for row in rows:
        if row["rungs"]:
            row |= timed.costs(oracle.trials[row["trial"]].hyperparameters.values) or {}
    best = report.best_of(rows, search.objective.direction)
    seconds, lost = (sum(row[key] for row in rows) for key in ("seconds", "lost_seconds"))
    result = Result(search.folder, rows, best, report.command(search, best), seconds, lost)
    files.write_json(search.folder / RESULT, result.to_dict())
    report.pareto(rows, best, search.folder / "pareto.png")
    names = [d.name for d in search.space.dimensions]
    hparams.write(search.folder, {row["trial"]: {name: row[name] for name in names} for row in rows},
                  [{"key": row["trial"]} | row for row in rows])  # fmt: skip
    return result
