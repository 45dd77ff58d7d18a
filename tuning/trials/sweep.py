"""A sweep: a list of runs, trained each once by an oracle over the list.

Its folder has jobs.jsonl, what to train; runs/, a run of the trainer for each; oracle.json, where the oracle is; and
results.jsonl, a line for each run that has ended.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import keras_tuner

from kcnn.arch import number
from kcnn.errors import InputError, shown
from kcnn.notation import to_data
from kcnn.terminal.tables import short
from trainers.config import TrainConfig
from trainers.runs import folders
from trainers.runs.files import write_json, write_text
from trainers.settings import resolve
from tuning.trials.engine import FAILED, carry_out, go_on
from tuning.trials.latency import latency_ms
from tuning.trials.oracles import COMPLETED, RUNNING, STOPPED, Saved, Start, Trial
from tuning.trials.records import inside, made, named, read, read_lines
from tuning.trials.settings import changed_flags, check_same
from tuning.trials.trainer import claimed, class_count, planned_folder
from tuning.trials.trial import read_record, run_trial

JOBS, RESULTS, RUNS, STATE = "jobs.jsonl", "results.jsonl", "runs", "oracle.json"
FIGURES = ("val_accuracy", "val_loss", "best_val_accuracy", "train_accuracy", "train_loss", "params", "macs", "epochs",
           "images_per_second", "seconds")  # fmt: skip
JOB = "job"  # the value of a trial: the key of its job
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A run to train. key: its folder under runs/; facts: what its result tells besides the figures of training."""

    key: str
    config: TrainConfig
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"key": self.key, "config": to_data(changed_flags(self.config)), "facts": self.facts}

    @property
    def name(self) -> str:
        """The network's."""
        return self.config.arch if isinstance(self.config.arch, str) else self.config.arch.name


@dataclass(frozen=True)
class Sweep:
    """An open sweep. Each of its workers is a process of its own, so that no network can take all others with it."""

    folder: Path
    jobs: Mapping[str, Job]
    isolated: ClassVar[bool] = True

    def place(self, trial: Trial) -> Path:
        return inside(self.folder, RUNS, trial.hyperparameters.values[JOB])

    def run(self, trial: Trial) -> float | None:
        key = trial.hyperparameters.values[JOB]
        if key not in self.jobs:
            raise InputError(f"{self.folder / JOBS} has no {key}, which the chief of the sweep asks for")
        record = {"trial": trial.trial_id, "values": {JOB: key}}
        config = self.jobs[key].config
        return run_trial(self.place(trial), record, lambda: config, lambda figures: figures["val_accuracy"])

    def row(self, job: Job, message: str | None = None) -> Row:
        """The result of a job that has ended: its figures, or why there are none."""
        row: Row = {"key": job.key, **job.facts, "arch": job.name, "run_dir": f"{RUNS}/{job.key}"}
        try:
            record = read_record(self.folder / RUNS / job.key) or {}
            if record.get("score") is not None:
                figures = named(record["figures"], dict.fromkeys(FIGURES, float), str(self.folder / RUNS / job.key))
                return row | {name: figures[name] for name in FIGURES}
            return row | {"error": message or record.get("error") or "it has ended without a record"}
        except InputError as error:
            return row | {"error": str(error)}


class ListOracle(Saved, keras_tuner.Oracle):
    """Takes the keys of a list, one after the other. A list that grew goes on where it had ended."""

    def __init__(self, start: Start, keys: Sequence[str]):
        self.keys = tuple(keys)
        hyperparameters = keras_tuner.HyperParameters()
        hyperparameters.Choice(JOB, list(keys))
        super().__init__(start, hyperparameters)

    def taken(self) -> set[str]:
        return {trial.hyperparameters.values[JOB] for trial in self.trials.values()}

    @property
    def is_done(self) -> bool:
        return self.taken().issuperset(self.keys) and all(trial.status != RUNNING for trial in self.trials.values())

    def check_values(self, values: Mapping[str, Any], place: str) -> None:
        if values.get(JOB) not in self.keys:
            raise InputError(f"{place}: no job is called {shown(values.get(JOB))}")

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        taken = self.taken()
        for key in self.keys:
            if key not in taken:
                return {"status": RUNNING, "values": {JOB: key}}
        return {"status": STOPPED, "values": None}


def write_jobs(folder: Path, jobs: Sequence[Job]) -> None:
    write_lines(folder / JOBS, [job.to_dict() for job in jobs])


def read_jobs(folder: Path) -> list[Job]:
    """Raises InputError for what is no job, and for one that would be trained outside the folder."""

    def check(row: dict[str, Any], place: str) -> Job:
        job = made(Job, row, place)
        inside(folder, RUNS, job.key)
        return job

    return read_lines(folder / JOBS, check)


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def reopened(folder: Path) -> Sweep:
    """The sweep of a folder, for a worker of it. Raises InputError."""
    return Sweep(folder, {job.key: job for job in read_jobs(folder)})


@contextlib.contextmanager
def sweep_folder(
    kind: str, config: TrainConfig, file: str, settings: Mapping[str, Any], list_jobs: Callable[[Path], list[Job]]
) -> Iterator[tuple[Path, list[Job]]]:
    """The locked folder of a sweep and its jobs: --run-dir, whose settings must be these, or logs/KIND-DATA-TIME.

    Nothing is written before list_jobs(folder) has returned. Raises InputError.
    """
    folder = planned_folder(kind, config)
    if (folder / file).is_file():
        check_same(folder, read(folder / file, {"config": dict[str, Any]}), settings)
    jobs = list_jobs(folder)
    folder = claimed(folder, config)
    with folders.locked(folder):
        write_jobs(folder, jobs)
        write_json(folder / file, settings)
        print(f"into {folder}; killed, the same command with --run-dir {folder} goes on", file=sys.stderr, flush=True)
        yield folder, jobs


def train_all(folder: Path, jobs: Sequence[Job], parallel: int) -> list[Row]:
    """Trains the jobs of a folder, goes on with what was done, and returns a row for each, in their order.

    Raises Interrupted when told to stop, and InputError where workers keep dying.
    """
    sweep, before = Sweep(folder, {job.key: job for job in jobs}), results(folder)

    def collect() -> None:
        for trial in oracle.trials.values():
            job = sweep.jobs[trial.hyperparameters.values[JOB]]
            if trial.status in (COMPLETED, FAILED) and job.key not in ended:
                ended[job.key] = sweep.row(job, trial.message)

    def on_end(trial: Trial) -> None:
        collect()
        write_lines(folder / RESULTS, [ended[job.key] for job in jobs if job.key in ended])
        row = ended[trial.hyperparameters.values[JOB]]
        print(f"{time.strftime('%H:%M:%S')}  {len(ended)}/{len(jobs)}  {result_line(row)}", file=sys.stderr, flush=True)

    oracle = ListOracle(Start(folder / STATE, on_end=on_end), [job.key for job in jobs])
    go_on(sweep, oracle)
    # A sweep of an earlier version has results, but no trials: what is done is left to no oracle.
    ended = {key: row for key, row in before.items() if key in sweep.jobs and key not in oracle.taken()}
    oracle.keys = tuple(key for key in sweep.jobs if key not in ended)
    if not oracle.is_done:
        carry_out(sweep, oracle, min(parallel, len(oracle.keys)))
    collect()
    latencies = {key: row["latency_ms"] for key, row in before.items() if number(row.get("latency_ms"))}
    return with_latency(folder, [ended[job.key] for job in jobs], sweep.jobs, latencies)


def results(folder: Path) -> dict[str, Row]:
    """The rows of the file of results by their keys, as far as it can be read.

    It is written anew from the records of trials. Raises InputError where it is damaged and there are no trials.
    """

    def check(row: Row, place: str) -> Row:
        kinds = {} if "error" in row else dict.fromkeys(FIGURES, float)
        return named(row, {"key": str, "arch": str, **kinds}, place, {"error": str})

    try:
        return {row["key"]: row for row in read_lines(folder / RESULTS, check)}
    except InputError:
        if (folder / STATE).exists():
            return {}
        raise


def with_latency(
    folder: Path, rows: Sequence[Row], jobs: Mapping[str, Job], latencies: Mapping[str, float]
) -> list[Row]:
    """The rows with the latency_ms of what was trained, and the file of results with them. latencies: by key.

    Those that are not known are measured now that no training disturbs them.
    """
    known, measured = dict(latencies), dict[str, float]()
    lacking = [row for row in rows if "error" not in row and row["key"] not in known]
    if lacking:
        print("measuring how long each network takes for an image", file=sys.stderr, flush=True)
    for row in lacking:
        arch = resolve(jobs[row["key"]].config).arch
        if (name := repr(arch)) not in measured:
            measured[name] = latency_ms(arch, class_count(folder / RUNS / row["key"]))
        known[row["key"]] = measured[name]
    timed = [row if "error" in row else row | {"latency_ms": known[row["key"]]} for row in rows]
    write_lines(folder / RESULTS, timed)
    return timed


def result_line(row: Row) -> str:
    """A result as it is printed when its run has ended."""
    name = row.get("candidate", row["arch"])
    if "error" in row:
        return f"{name}  {row['error']}"
    return f"{name}  accuracy {row['val_accuracy']:.2%}  {short(row['macs'])} multiply-adds  {row['seconds']:.0f} s"
