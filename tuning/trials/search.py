"""A search of a space: its settings, its trials, and what became of them."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml

from kcnn.builder import smallest, which_stem
from kcnn.errors import InputError
from trainers.config import RESUMABLE, TrainConfig
from trainers.reports.chance import not_beaten
from trainers.runs.files import read_yaml, write_text
from trainers.settings import own_or_named, plain, resolve
from tuning.trials.halving import HalvingOracle, plan, rung_of
from tuning.trials.objective import Objective, parse
from tuning.trials.options import Limits, Method, Ranges
from tuning.trials.oracles import COMPLETED, BayesianOracle, GridOracle, HyperbandOracle, RandomOracle, Start, Trial
from tuning.trials.records import inside, made
from tuning.trials.settings import check_same, not_given
from tuning.trials.space import MULTIPLIERS, Space, Values, make_space
from tuning.trials.trainer import open_source, with_absolute_data
from tuning.trials.trial import ERROR, FIGURES, RECORD, Record, read_record, run_trial

SETTINGS, TRIALS, STATE = "search.yaml", "trials", "oracle.json"
SHORT = 0.25  # epochs of warmup at most in Hyperband's trials, which begin with a single epoch
LOCK = ".lock"
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What makes a search the one it is. config: the run that its trials change."""

    config: TrainConfig
    ranges: Ranges
    limits: Limits
    method: Method

    def to_dict(self) -> dict[str, Any]:
        """The settings as search.yaml has them."""
        groups = {"config": plain(self.config), "ranges": asdict(self.ranges), "limits": asdict(self.limits)}
        groups["ranges"] = {k: list(v) if isinstance(v, tuple) else v for k, v in groups["ranges"].items()}
        return groups | asdict(self.method)


@dataclass(frozen=True)
class Search:
    """An open search. reference: what the costs of its objective are measured against. images: of validation."""

    settings: Settings
    folder: Path
    space: Space
    objective: Objective
    reference: Mapping[str, float]
    images: int
    isolated: ClassVar[bool] = False

    def place(self, trial: Trial) -> Path:
        """The folder of a trial's run, one for each rung that it reaches."""
        values = trial.hyperparameters.values
        rung = f"-rung{rung_of(trial)}" if "tuner/rung" in values else ""
        return inside(self.folder, TRIALS, trial.trial_id + rung)

    def run(self, trial: Trial) -> float | None:
        values, folder = dict(trial.hyperparameters.values), self.place(trial)

        def make() -> TrainConfig:
            if (past := values.get("tuner/trial_id")) and not folder.exists():
                take_over(inside(self.folder, TRIALS, past), folder)
            return configuration(self.space, values)

        def score(figures: Mapping[str, Any]) -> float:
            return self.objective.score(figures, self.space.costs(values) or {}, self.reference)

        return run_trial(folder, {"trial": trial.trial_id, "values": values}, make, score)

    def records(self, trial: Trial) -> list[Record]:
        """Those of all rungs that a trial has ended, the lowest first. Raises InputError where one is damaged."""
        last = self.place(trial)
        folders = [last]
        if "tuner/rung" in trial.hyperparameters.values:
            folders = [inside(self.folder, TRIALS, f"{trial.trial_id}-rung{i}") for i in range(rung_of(trial) + 1)]
        return [record for folder in folders if (record := read_record(folder))]

    def timing(self, trial: Trial) -> tuple[float, float]:
        """Seconds that were lost in a trial's last run, and seconds of an epoch."""
        try:
            record = read_record(self.place(trial)) or {}
        except InputError:  # the table will tell
            record = {}
        return record.get("lost_seconds", 0.0), record.get("epoch_seconds", 0.0)


def open_search(settings: Settings, folder: Path) -> Search:
    """Finds out everything that can be wrong with a search before anything is written. Raises InputError."""
    config = settings.config
    if config.resume or config.dry_run:
        raise InputError("--resume and --dry-run are not for searches: the same command with --run-dir goes on")
    config = replace(with_absolute_data(config), run_dir=None)
    objective, bounds = parse(settings.method.objective), settings.limits.bounds()
    source = open_source(config)
    measured = frozenset({*bounds, *(cost for cost, _ in objective.exponents)})
    space = make_space(config, settings.ranges, bounds, len(source.classes), measured)
    settings = replace(settings, config=config)
    check_folder(folder, settings)
    if (batch := resolve(config).batch_size) > source.train.size:
        raise InputError(f"batch-size {batch}: there are {source.train.size} training images")
    space.check()
    unscaled = replace(space, config=config, dimensions=())
    reference = {cost: bounds.get(cost) or (unscaled.costs({}) or {})[cost] for cost, _ in objective.exponents}
    return Search(settings, folder, space, objective, reference, source.val.size)


def check_folder(folder: Path, settings: Settings) -> None:
    """Raises InputError where the folder holds something else than this search, and says what."""
    if (folder / SETTINGS).is_file():
        # Rungs are as large as the trials are many; other tuners can be given more of them.
        more = () if settings.method.tuner == "halving" else ("max_trials",)
        free = {*RESUMABLE, *more} - {"epochs"}
        check_same(folder, read_settings(folder).to_dict(), settings.to_dict(), free)
    elif folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no search: name another folder with --run-dir")


def read_settings(folder: Path) -> Settings:
    """Raises InputError where they are damaged."""
    path = folder / SETTINGS
    values = read_yaml(path)
    method = {f.name: values.pop(f.name) for f in fields(Method) if f.name in values}
    return made(Settings, {**values, "method": method}, str(path))


def write_settings(search: Search) -> None:
    write_text(search.folder / SETTINGS, yaml.safe_dump(search.settings.to_dict(), sort_keys=False))


def reopened(folder: Path) -> Search:
    """The search of a folder, for a worker of it. Raises InputError."""
    return open_search(read_settings(folder), folder)


def make_oracle(search: Search, on_end: Callable[[Trial], None] = lambda trial: None) -> Any:
    """The oracle of a search. on_end is called with each trial that has ended."""
    method, config = search.settings.method, search.settings.config
    epochs, asked = resolve(config).epochs, config.epochs is not None
    start = Start(search.folder / STATE, search.objective.direction, method.max_trials, config.seed, on_end)
    if method.tuner == "halving":
        rungs = plan(method.max_trials, epochs, asked)
        return HalvingOracle(start, search.space, rungs, search.timing, stretch=not asked)
    if method.tuner == "hyperband":
        return HyperbandOracle(start, search.space, max_epochs=epochs)
    if method.tuner == "grid":
        return GridOracle(start, search.space, points=method.grid_points)
    return {"random": RandomOracle, "bayesian": BayesianOracle}[method.tuner](start, search.space)


def configuration(space: Space, values: Values) -> TrainConfig:
    """The run of a trial: the sample's, as long and as large as the oracle wants it ("tuner/...": see halving)."""
    config = space.run(values)
    pixels = resolve(config).resolution
    # Fewer pixels shall not change the network.
    config = replace(config, stem=which_stem(own_or_named(config.arch), pixels, config.stem))
    if (share := round(values.get("tuner/share", 1.0), 4)) < 1:  # it may have been in single precision
        least = smallest(resolve(config).arch)
        config = replace(config, resolution=min(pixels, max(least, round(pixels * share))))
    if epochs := values.get("tuner/epochs"):
        config = replace(config, epochs=int(epochs))
        if space.config.warmup_epochs is None:  # the recipe's is for a whole run
            own = resolve(not_given(config, "epochs")).warmup_epochs
            config = replace(config, warmup_epochs=min(own, round(values.get("tuner/warmup", SHORT), 4)))
    return config


def take_over(past: Path, folder: Path) -> None:
    """Copies the run of a trial that was promoted, which goes on in a folder of its own."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(past, partial, ignore=shutil.ignore_patterns(RECORD, ERROR, LOCK))
    partial.rename(folder)


def rows(search: Search, trials: Mapping[str, Trial]) -> list[Row]:
    """A row for each trial, in the order in which they began."""
    return [row(search, trials[name]) for name in sorted(trials, key=lambda name: (len(name), name))]


def row(search: Search, trial: Trial) -> Row:
    """What a trial was, cost and reached. Costs are of the network at its full resolution; figures of its last run."""
    values, space = trial.hyperparameters.values, search.space
    run = resolve(space.run(values))
    record, past, lost = recorded(search, trial)
    figures = record.get("figures") or {}
    made: Row = {"trial": trial.trial_id, "status": trial.status.lower()}
    made |= {"width": run.flags.width, "depth": run.flags.depth, "resolution": run.resolution}
    made |= {d.name: getattr(run.flags, d.name) for d in space.dimensions if d.name not in MULTIPLIERS}
    made |= space.costs(values) or {}
    made |= {name: figures.get(name) for name in FIGURES}
    made |= {"score": record.get("score") if trial.status == COMPLETED else None}
    made |= {"rung": rung_of(trial), "epochs": record.get("epochs"), "trained_resolution": record.get("resolution")}
    made |= {what: sum(r[what] for r in past) for what in ("seconds", "lost_seconds")}
    made["rungs"] = [
        {
            "rung": int(r["values"].get("tuner/rung", 0)),
            "epochs": r["epochs"],
            "resolution": r["resolution"],
            "val_accuracy": r["figures"]["val_accuracy"],
        }
        for r in past
        if r["figures"]
    ]
    failed = trial.message if trial.status == "FAILED" else None
    return made | {"run_dir": figures.get("run_dir"), "error": lost or record.get("error") or failed}


def recorded(search: Search, trial: Trial) -> tuple[Record, list[Record], str | None]:
    """The record of a trial's last run, those of all its runs, and what is wrong where they are lost."""
    try:
        past = search.records(trial)
        record = read_record(search.place(trial))
        if trial.status == COMPLETED and (record is None or record["score"] is None):
            raise InputError(f"trial {trial.trial_id} has ended, but its {RECORD} is gone or tells of no score")
        return record or {}, past, None
    except InputError as error:
        return {}, [], str(error)


def best_of(found: Sequence[Row], direction: str) -> Row:
    """The best of those that came as far as any."""
    done = [r for r in found if r["score"] is not None]
    last = max(r["rung"] for r in done)
    sign = 1 if direction == "max" else -1
    return max((r for r in done if r["rung"] == last), key=lambda r: sign * r["score"])


def equals_of(search: Search, found: Sequence[Row], best: Row) -> list[Row]:
    """The networks that came as far as the best one and that it does not beat beyond chance, itself among them.

    Where the objective is more than the accuracy, it is the best one alone: what it weighs is the user's will.
    """
    if (search.objective.metric, search.objective.exponents) != ("val_accuracy", ()):
        return [best]
    same = [r for r in found if r["score"] is not None and r["rung"] == best["rung"]]
    places = not_beaten([r["val_accuracy"] for r in same], search.images)
    return [same[i] for i in places]


def cheapest(equals: Sequence[Row]) -> Row:
    """The one of the fewest multiply-adds, and of these the most accurate."""
    return min(equals, key=lambda r: (r["macs"], -r["val_accuracy"]))
