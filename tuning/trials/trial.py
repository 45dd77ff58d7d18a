"""A trial: a run of the trainer whose outcome and whose time are recorded."""

import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import keras
import tensorflow as tf

import trainers
from kcnn.errors import InputError
from trainers.auto.table import Choice, with_choice
from trainers.config import TrainConfig
from trainers.runs import folders
from trainers.runs.files import write_json, write_text
from trainers.settings import resolve
from tuning.trials.records import named, read

RECORD, ERROR = "trial.json", "error.txt"
FIGURES = ("val_accuracy", "val_loss", "val_top5", "best_val_accuracy", "train_loss", "train_accuracy",
           "images_per_second")  # fmt: skip
KINDS: dict[str, Any] = {
    "trial": str, "values": dict[str, str | float | bool], "figures": dict[str, Any] | None, "score": float | None,
    "error": str | None, "seconds": float, "lost_seconds": float, "epoch_seconds": float,
}  # fmt: skip
SIZES: dict[str, Any] = {"epochs": int, "resolution": int}
RETRACING = "triggered tf.function retracing"  # TensorFlow takes the functions of one trial after another for one
WAIT_SECONDS = 30.0  # for a killed worker to let go of its run
Record = dict[str, Any]


class Clock(keras.callbacks.Callback):
    """How much of a run's time was lost to building, tracing and compiling.

    That is all before the first step and after the last epoch, and what the first step and the first evaluation took
    longer than others.
    """

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

    def read(self) -> dict[str, float]:
        """seconds, lost_seconds and epoch_seconds. A single evaluation counts as compiling."""
        seconds = time.perf_counter() - self.made
        if not self.epochs:
            return {"seconds": seconds, "lost_seconds": seconds, "epoch_seconds": 0.0}
        (steps, first), *warm = self.calls
        per_step = sum(s for _, s in warm) / sum(n for n, _ in warm) if warm else 0.0
        per_test = sum(self.tests[1:]) / max(1, len(self.tests) - 1)
        slow = max(0.0, first - steps * per_step) + max(0.0, self.tests[0] - per_test)
        lost = min(seconds, self.before + slow + time.perf_counter() - self.ended)
        return {"seconds": seconds, "lost_seconds": lost, "epoch_seconds": (seconds - lost) / self.epochs}


def run_trial(
    folder: Path, record: Record, make: Callable[[], TrainConfig], score: Callable[[Mapping[str, Any]], float]
) -> float | None:
    """Trains what make() gives, or goes on with the run in the folder, and returns score(its figures).

    The folder's trial.json then tells how it went, added to `record` (the trial and its values). Returns None for a
    trial that failed. Raises Interrupted where it was told to stop, with its run saved, and InputError or OSError for
    what is not the trial's fault and would befall every other, too.
    """
    if not folder.parent.parent.is_dir():
        raise InputError(f"{folder.parent.parent} is gone: it was removed or renamed while it was worked on")
    folder.parent.mkdir(exist_ok=True)
    tf.get_logger().addFilter(is_other_message)
    wait_for(folder)
    clock = Clock()
    record = record | {"figures": None, "score": None, "error": None}
    try:
        config = replace(make(), run_dir=str(folder), resume="auto")
        run = resolve(config)
        if not folders.is_run(folder):
            # Trials are compared: all of a family get the same precision, by the table.
            config = with_choice(config, Choice(run.precision, run.jit))
        record |= {"epochs": run.epochs, "resolution": run.resolution}
        record["figures"] = trainers.fit(config, callbacks=[clock]).figures
        record["score"] = score(record["figures"])
    except Exception as error:
        if befalls_all(error):
            raise
        record |= {"figures": None, "score": None, "error": reason(error)}
        folder.mkdir(exist_ok=True)
        if not isinstance(error, InputError):
            write_text(folder / ERROR, traceback.format_exc())
    finally:
        forget()
    if clock.calls or record["error"] or not is_whole(folder):  # a run found finished has its record
        write_json(folder / RECORD, record | in_all(folder, clock.read()))
    return record["score"]


def wait_for(folder: Path) -> None:
    """Returns once nobody holds a run's folder. Raises InputError where that takes too long."""
    if not folder.exists():
        return
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=WAIT_SECONDS)
    except filelock.Timeout:
        raise InputError(f"{folder} is in use by a live run") from None
    lock.release()


def in_all(folder: Path, times: dict[str, float]) -> dict[str, float]:
    """The times of a run with those of fewer epochs before it, where there are any."""
    before: Record = {"seconds": 0.0, "lost_seconds": 0.0}
    with contextlib.suppress(InputError):  # a damaged record is written anew
        before = read_record(folder) or before
    return times | {name: times[name] + before[name] for name in ("seconds", "lost_seconds")}


def read_record(folder: Path) -> Record | None:
    """What a trial's folder tells of it, once it has ended. Raises InputError for what no trial has written."""
    path = folder / RECORD
    if not path.exists():
        return None
    record = named(read(path, KINDS), {}, str(path), SIZES)
    if record["score"] is not None:
        named(record, SIZES, str(path))
        kinds = dict.fromkeys(FIGURES, float | None)
        named(record["figures"], {"val_accuracy": float}, f"{path}: figures", kinds)
    return record


def is_whole(folder: Path) -> bool:
    """Whether the folder tells of a trial that has a score."""
    try:
        record = read_record(folder)
    except InputError:
        return False
    return record is not None and record["score"] is not None


def befalls_all(error: BaseException) -> bool:
    """Whether an error is that of the machine, as a full disk or a folder that is gone, and not of one trial."""
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__:
        causes.append(cause)
    full = "No space left on device"  # as TensorFlow's own errors have it
    return any(isinstance(cause, OSError) or full in str(cause) for cause in causes)


def reason(error: Exception) -> str:
    """An error in one line."""
    text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500] or type(error).__name__


def is_other_message(message: logging.LogRecord) -> bool:
    return RETRACING not in str(message.msg)


def forget() -> None:
    """Gives back what a network took: fifty trials need no more memory than one."""
    keras.backend.clear_session()  # it also collects garbage
