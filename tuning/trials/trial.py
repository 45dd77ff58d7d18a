"""A trial: a run of the trainer on a sample of the space, its time accounted for."""

import contextlib
import gc
import logging
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import keras
import tensorflow as tf

import trainers
from kcnn.builder import smallest, which_stem
from kcnn.errors import InputError, Interrupted
from trainers.config import TrainConfig
from trainers.runs.files import write_json, write_text
from trainers.settings import own_or_named
from tuning.trials.objective import Objective
from tuning.trials.records import inside, named, of_all, read, typed
from tuning.trials.space import Space, Values, resolve

TRIALS, RECORD, ERROR = "trials", "trial.json", "error.txt"
FIGURES = ("val_accuracy", "val_loss", "val_top5", "best_val_accuracy", "train_loss", "train_accuracy",
           "images_per_second")  # fmt: skip
KINDS: dict[str, Any] = {
    "trial": str, "values": dict[str, str | float | bool], "figures": dict[str, Any] | None, "score": float | None,
    "error": str | None, "seconds": float, "lost_seconds": float, "epoch_seconds": float,
}  # fmt: skip
RETRACING = "triggered tf.function retracing"  # TensorFlow takes the functions of one trial after another for one
SHORT = 0.25  # epochs of warmup at most in Hyperband's trials, which begin with a single epoch
WAIT = 30.0  # seconds that a killed worker may take to let go of its run


class Clock(keras.callbacks.Callback):
    """How much of a run's time went into building, tracing and compiling: all before the first step and after the
    last epoch, and what the first step and the first evaluation took longer than others."""

    def __init__(self) -> None:
        super().__init__()
        self.made = self.ended = self.started = time.perf_counter()
        self.calls: list[tuple[int, float]] = []  # steps, seconds
        self.tests: list[float] = []
        self.before, self.epochs = 0.0, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.first, self.started = batch, time.perf_counter()
        self.before = self.before or self.started - self.made

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append((batch - self.first + 1, time.perf_counter() - self.started))

    def on_test_begin(self, logs: Any = None) -> None:
        self.started = time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:
        self.tests.append(time.perf_counter() - self.started)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs += 1
        self.ended = time.perf_counter()

    def read(self) -> Values:
        """seconds, lost_seconds, epoch_seconds. A single evaluation cannot be told from its compiling, and is lost."""
        seconds = time.perf_counter() - self.made
        if not self.epochs:
            return {"seconds": seconds, "lost_seconds": seconds, "epoch_seconds": 0.0}
        (steps, first), *warm = self.calls
        per_step = sum(s for _, s in warm) / sum(n for n, _ in warm) if warm else 0.0
        per_test = sum(self.tests[1:]) / max(1, len(self.tests) - 1)
        slow = max(0.0, first - steps * per_step) + max(0.0, self.tests[0] - per_test)
        lost = min(seconds, self.before + slow + time.perf_counter() - self.ended)
        return {"seconds": seconds, "lost_seconds": lost, "epoch_seconds": (seconds - lost) / self.epochs}


def configuration(space: Space, values: Mapping[str, Any], folder: Path) -> TrainConfig:
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
            own = resolve(replace(config, epochs=None)).warmup_epochs
            config = replace(config, warmup_epochs=min(own, round(values.get("tuner/warmup", SHORT), 4)))
    return replace(config, run_dir=str(folder), resume="auto")


def place(project: Path, trial_id: str, values: Mapping[str, Any]) -> Path:
    """The run folder of a trial: one for each rung that it reaches."""
    rung = values.get("tuner/rung")
    return inside(project, TRIALS, trial_id if rung is None else f"{trial_id}-rung{int(rung)}")


def run_trial(space: Space, objective: Objective, reference: Mapping[str, float], project: Path, trial_id: str,
              values: Mapping[str, Any]) -> float | None:  # fmt: skip
    """Trains a sample, or goes on with its run, and returns its score; None where it failed, and its folder says why.

    Raises Interrupted where it was told to stop; its run is saved then. Raises InputError and OSError for what would
    befall every other trial, too.
    """
    tf.get_logger().addFilter(not_retracing)
    folder = place(project, trial_id, values)
    if not project.is_dir():
        raise InputError(f"{project} is gone: it was removed or renamed while it was searched")
    folder.parent.mkdir(exist_ok=True)
    clock = Clock()
    record: Values = {"trial": trial_id, "values": dict(values), "figures": None, "score": None, "error": None}
    try:
        begin(project, folder, values)
        config = configuration(space, values, folder)
        record |= {"epochs": resolve(config).epochs, "resolution": resolve(config).arch.resolution}
        figures = trainers.fit(config, callbacks=[clock]).figures
        record["figures"] = figures
        record["score"] = objective.score(figures, space.costs(values) or {}, reference)
    except (Interrupted, KeyboardInterrupt):
        raise
    except Exception as error:
        if of_all(error):  # nothing is wrong with the sample
            raise
        record["error"] = " ".join(str(error).split()) or type(error).__name__
        record["figures"] = record["score"] = None
        folder.mkdir(exist_ok=True)
        if not isinstance(error, InputError):
            write_text(folder / ERROR, traceback.format_exc())
    finally:
        forget()
    if clock.calls or record["error"] or not (folder / RECORD).exists():  # a run found finished has its record
        before: Values = {"seconds": 0.0, "lost_seconds": 0.0}
        with contextlib.suppress(InputError):  # one that is damaged is written anew
            before = read_record(folder) or before  # of fewer epochs
        record |= clock.read()
        record |= {name: record[name] + before[name] for name in ("seconds", "lost_seconds")}
        write_json(folder / RECORD, record)
    return record["score"]


def begin(project: Path, folder: Path, values: Mapping[str, Any]) -> None:
    """Waits for whoever still holds the folder; Hyperband's promoted trials begin with their predecessor's run."""
    if folder.exists():
        lock = filelock.FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=WAIT)
        except filelock.Timeout:
            raise InputError(f"{folder} is in use by a live run") from None
        lock.release()
    if (past := values.get("tuner/trial_id")) and not folder.exists():
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        leave = shutil.ignore_patterns(RECORD, ERROR, ".lock")
        shutil.copytree(inside(project, TRIALS, past), partial, ignore=leave)
        partial.rename(folder)


def not_retracing(message: logging.LogRecord) -> bool:
    return RETRACING not in str(message.msg)


def forget() -> None:
    """Gives back what a network took: fifty trials need no more memory than one."""
    keras.backend.clear_session()
    gc.collect()


def read_record(folder: Path) -> Values | None:
    """What a trial's folder says of it, once it has ended. Raises InputError where that cannot be."""
    path = folder / RECORD
    if not path.exists():
        return None
    record = named(KINDS, read(path, Any), str(path), {"epochs": int, "resolution": int})
    if record["score"] is not None:
        figures = named({"val_accuracy": float}, record["figures"], f"{path}: figures")
        for name in FIGURES:
            typed(float | None, figures.get(name), f"{path}: figures: {name}")
        named({"epochs": int, "resolution": int}, record, str(path))
    return record
