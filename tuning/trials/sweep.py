"""Work on a sweep: train what its folder lists, as one of any number of workers on any machine that has the folder.

A sweep is a folder with jobs.jsonl, what to train; runs/, a run of the trainer for each; and results.jsonl, a line
for each that is done. A worker claims a run by a lock that ends with its process, so that none is trained twice, and
goes on with one that was interrupted.
"""

import argparse
import contextlib
import gc
import json
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, cast

import filelock
from cyclopts import Parameter
from cyclopts.config import Dict

from kcnn import cli
from kcnn.errors import InputError, Interrupted
from kcnn.scaling import short
from trainers.config import TrainConfig
from trainers.distribute.signals import stop_signals
from trainers.runs import checkpoints, files, folders
from trainers.settings import read, resolve
from tuning.trials.processes import Process, die_with_parent, last_line, start, stop
from tuning.trials.records import inside, named, of_all, read_lines, typed
from tuning.trials.records import read as read_json

JOBS, RESULTS, RUNS = "jobs.jsonl", "results.jsonl", "runs"
FIGURES = ("val_accuracy", "val_loss", "best_val_accuracy", "train_accuracy", "train_loss", "params", "macs", "epochs",
           "images_per_second", "seconds")  # fmt: skip
ATTEMPTS = 3  # of a run whose process dies each time before the next checkpoint
DEATHS = 6  # of workers in a row, without a result between
WAIT_SECONDS = 2.0  # between looks at what others hold


@dataclass(frozen=True)
class Job:
    """key: its run's folder under runs/; facts: what its result shall tell besides the figures of training."""

    key: str
    config: TrainConfig
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"key": self.key, "config": flags(self.config), "facts": dict(self.facts)}


def flags(config: TrainConfig) -> dict[str, Any]:
    """The values that are not the defaults."""
    return {f.name: v for f in fields(TrainConfig) if (v := getattr(config, f.name)) != f.default}


def new_folder(kind: str, config: TrainConfig) -> Path:
    """logs/<kind>-<data>-<time>."""
    return folders.folder_of(replace(config, arch=kind, run_dir=None))


def write_jobs(folder: Path, jobs: Sequence[Job]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / JOBS, "".join(json.dumps(job.to_dict()) + "\n" for job in jobs))


def read_jobs(folder: Path) -> list[Job]:
    """Raises InputError for what is no job, and for one that would be trained outside the folder."""

    def check(row: Any, place: str) -> Job:
        job: Job = typed(Job, row, place)
        inside(folder, RUNS, job.key)
        return job

    return read_lines(folder / JOBS, check)


def command(config: TrainConfig) -> str:
    """The `kcnn train` that trains a sweep's network in full: for its recipe's epochs, into a folder of its own."""
    return shlex.join(["kcnn", "train", *words(replace(config, epochs=None))])  # type: ignore[arg-type]


def words(config: TrainConfig) -> list[str]:
    """A configuration as flags, but for where it goes and how many checkpoints it keeps."""
    found = []
    for name, value in flags(replace(config, run_dir=None, keep=TrainConfig.keep)).items():
        flag = name.replace("_", "-")
        found += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", plain(value)]
    return found


def plain(value: Any) -> str:
    """2.0 -> "2"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def same_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Raises InputError where a sweep of other settings is in the folder, and says which."""
    if not path.is_file():
        return
    saved = named({"config": dict[str, Any]}, read_json(path, Any), str(path))
    had, wanted = (flat(s) for s in (saved, json.loads(json.dumps(settings))))
    for name in sorted(had.keys() | wanted.keys()):
        if had.get(name) != wanted.get(name):
            there, here = had.get(name, "the default"), wanted.get(name, "the default")
            raise InputError(f"{path.parent} holds another sweep: {name.replace('_', '-')} is {there!r} there, "
                             f"{here!r} here; name another --run-dir")  # fmt: skip


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """With the training's own flags beside the others, but for where it goes."""
    config = {k: v for k, v in settings["config"].items() if k != "run_dir"}
    return {k: v for k, v in settings.items() if k != "config"} | config


def flags_of_file(argv: Sequence[str]) -> Dict | None:
    """The values that --config sets; flags will win over them."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--config", nargs="?")
    known, _ = early.parse_known_args(list(argv))
    return Dict(read(known.config), source=known.config) if known.config else None


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Raises InputError where the file was damaged."""
    return {row["key"]: row for row in read_lines(folder / RESULTS, as_result)}


def as_result(row: Any, place: str) -> dict[str, Any]:
    """A row of a network that was trained, or could not be: with finite figures, or an error. Raises InputError."""
    row = named({"key": str, "arch": str}, row, place, {"error": str, "run_dir": str, "latency_ms": float})
    if "error" not in row:
        row = named(dict.fromkeys(FIGURES, float), row, place)
        if not 0 <= row["val_accuracy"] <= 1:
            raise InputError(f"{place}: val_accuracy {row['val_accuracy']}: a share from 0 to 1 is needed")
    return cast(dict[str, Any], row)


def timed(folder: Path) -> list[dict[str, Any]]:
    """The results of a finished sweep in the order of its jobs, with the latency_ms of all networks that were trained.

    What is not known of it is measured now that no training disturbs it, and added to the file.
    """
    from tuning.trials.latency import latency_ms

    jobs, rows, known = read_jobs(folder), results(folder), dict[str, float]()
    lacking = [job for job in jobs if not {"error", "latency_ms"} & rows[job.key].keys()]
    if lacking:
        print("measuring how long each network takes for an image", file=sys.stderr, flush=True)
    for job in lacking:
        arch = resolve(job.config).arch
        if (key := repr(arch)) not in known:
            known[key] = latency_ms(arch, len(read_json(folder / RUNS / job.key / folders.CLASSES, list[str])))
        rows[job.key]["latency_ms"] = known[key]
    write_results(folder, rows.values())
    return [rows[job.key] for job in jobs]


def append(folder: Path, row: dict[str, Any]) -> None:
    """Adds a result, once, and whole or not at all."""
    if not (folder / JOBS).is_file():  # a lock would make the folder anew
        raise InputError(f"{folder} is gone: it was removed or renamed while it was worked on")
    with filelock.FileLock(folder / ".results.lock"):
        rows = results(folder)
        if row["key"] not in rows:
            write_results(folder, (*rows.values(), row))


def write_results(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    files.write_text(folder / RESULTS, "".join(json.dumps(row) + "\n" for row in rows))


def work(folder: Path) -> None:
    """Trains whatever is not done and not being done by another, until all is done. Raises Interrupted."""
    jobs = read_jobs(folder)
    inside(folder, RUNS).mkdir(exist_ok=True)
    while missing := [job for job in jobs if job.key not in results(folder)]:
        claimed = [job for job in missing if claim(folder, job)]
        if not claimed:
            time.sleep(WAIT_SECONDS)  # others are at it; should one of them die, its run is ours


def claim(folder: Path, job: Job) -> bool:
    """Trains a job, unless another worker holds it or has done it meanwhile."""
    lock = filelock.FileLock(folder / RUNS / f".{job.key}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    with lock:
        if job.key not in results(folder):
            append(folder, {"key": job.key, **job.facts, **outcome(job, inside(folder, RUNS, job.key))})
    return True


def outcome(job: Job, run: Path) -> dict[str, Any]:
    """The figures of a job's training, or its error. Raises Interrupted, and where the disk is full."""
    import keras

    from trainers.training import fit

    config = replace(job.config, run_dir=str(run), resume="auto")
    if attempts(run) > ATTEMPTS:
        return {"arch": config.arch, "run_dir": f"{RUNS}/{job.key}",
                "error": f"its process died {ATTEMPTS} times at the same place"}  # fmt: skip
    row: dict[str, Any] = {"arch": config.arch, "run_dir": f"{RUNS}/{job.key}"}
    try:
        figures = fit(config).figures
        row |= {what: figures[what] for what in FIGURES}
    except Interrupted:
        (run / "attempts.json").unlink(missing_ok=True)
        raise
    except Exception as error:  # this network's; the sweep goes on
        if of_all(error):
            raise
        row["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    finally:
        keras.utils.clear_session()
        gc.collect()
    return row


def attempts(run: Path) -> int:
    """Counts one more start of a run from the checkpoint that it is at."""
    run.mkdir(exist_ok=True)
    path = run / "attempts.json"
    at = next((p.name for p in checkpoints.found(run / "checkpoints")), None)
    count = 1
    with contextlib.suppress(InputError):  # there is none, or it is damaged: then this is the first
        last = named({"at": str | None, "count": int}, read_json(path, Any), str(path))
        count += last["count"] if last["at"] == at else 0
    files.write_json(path, {"at": at, "count": count})
    return int(count)


def run(folder: Path, parallel: int, say: Callable[[dict[str, Any], int, int], None]) -> list[dict[str, Any]]:
    """Keeps workers at it until all jobs are done, and gives the results in the jobs' order.

    say(result, done, all) is called for each new one. A worker that dies is replaced. Raises Interrupted when told to
    stop, and InputError where workers keep dying.
    """
    jobs = [job.key for job in read_jobs(folder)]
    told, deaths = set(results(folder)), 0
    workers: list[Process] = []
    with stop_signals() as received:
        try:
            while True:
                rows = results(folder)
                for key in jobs:
                    if key in rows and key not in told:
                        told.add(key)
                        deaths = 0
                        say(rows[key], len(told.intersection(jobs)), len(jobs))
                if told.issuperset(jobs):
                    return [rows[key] for key in jobs]
                if received:
                    name = signal.Signals(received[0]).name
                    raise Interrupted(f"{name}: saved, {len(told.intersection(jobs))} of {len(jobs)} are done; "
                                      "the same command goes on")  # fmt: skip
                for i, worker in enumerate(workers):
                    if worker.poll() not in (None, 0):
                        deaths += 1
                        last = last_line(log_of(folder, i))
                        if worker.returncode == 2 or deaths >= DEATHS:
                            raise InputError(f"a worker left with {worker.returncode}, see {log_of(folder, i)}: {last}")
                        workers[i] = begin(folder, i, parallel)
                while len(workers) < min(parallel, len(jobs)):
                    workers.append(begin(folder, len(workers), parallel))
                time.sleep(0.5)
        finally:
            stop(workers)


def begin(folder: Path, i: int, parallel: int) -> Process:
    command = [sys.executable, "-m", "tuning.sweep", str(folder), "--tied"]
    return start(command, log_of(folder, i), i, parallel)


def say(row: dict[str, Any], done: int, count: int) -> None:
    told = row.get("error") or (f"accuracy {row['val_accuracy']:.2%}  {short(row['macs'])} multiply-adds  "
                                f"{row['seconds']:.0f} s")  # fmt: skip
    print(
        f"{time.strftime('%H:%M:%S')}  {done}/{count}  {row.get('candidate', row['arch'])}  {told}",
        file=sys.stderr,
        flush=True,
    )


def log_of(folder: Path, i: int) -> Path:
    return folder / f"worker-{socket.gethostname()}-{i}.log"


def sweep(
    folder: Annotated[Path, Parameter(help="Of a sweep, as tuning.design_space or tuning.compound leave it.")],
    *,
    tied: Annotated[bool, Parameter(show=False, negative="")] = False,
    json: cli.Json = False,
) -> dict[str, Any]:
    """Work on a sweep that another process has begun: train what nobody has trained yet or is training.

    python -m tuning.sweep logs/design-space-...      # on every machine that shares the folder and sees the data
    """
    if not (folder / JOBS).is_file():
        raise InputError(f"{str(folder)!r} holds no {JOBS}: the folder of a sweep is needed")
    if tied:
        die_with_parent()
    work(folder)
    done = results(folder)
    return {"done": len(done), "jobs": len(read_jobs(folder)), "folder": str(folder)}


def main(argv: list[str] | None = None) -> None:
    cli.run(sweep, "python -m tuning.sweep", argv)


if __name__ == "__main__":
    main()
