"""What a run writes down as it goes: lines of figures, dashboards, checkpoints. Only the chief's is written."""

import math
from typing import Any

import numpy as np

from kcnn.errors import InputError
from trainers import checkpoints, runs
from trainers.curves import gap
from trainers.dashboards import Dashboard
from trainers.evaluation import Evaluation
from trainers.job import SERIES, Job, Position, Scalars
from trainers.state import State


class BlowUp(InputError):
    """A loss or a gradient that is no number."""


def means(series: dict[str, list[float]], batch: int) -> Scalars:
    """Summed in steps' order, so that it does not matter how many a call ran."""
    n = len(series["loss"])
    return {
        "loss": sum(series["loss"]) / n,
        "accuracy": sum(series["correct"]) / (n * batch),
        "grad_norm": sum(series["grad_norm"]) / n,
        "lr": series["lr"][-1],
    }


def refuse_nan(series: dict[str, np.ndarray], position: Position, job: Job) -> None:
    """Raises BlowUp at a loss or a gradient that is no number, before such weights get into a checkpoint."""
    names = {"loss": "loss", "grad_norm": "gradient's norm"}  # a ReLU can make 0 of NaN: then only the gradient tells
    if job.config.precision == "mixed_float16":
        del names["grad_norm"]  # now and then infinite, and left out, while the loss's scale is being found
    bad = [(i, name) for name in names for i in np.flatnonzero(~np.isfinite(series[name]))[:1]]
    if bad:
        at, name = min(bad, key=lambda pair: pair[0])
        good = checkpoints.found(job.folder / "checkpoints")
        where = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint yet"
        raise BlowUp(f"the {names[name]} is {series[name][at]} at step {position.step + int(at) + 1}: {where}; "
                     "try a lower --lr, --clip-norm 1, --recover 3 or --precision float32")  # fmt: skip


def log_steps(job: Job, position: Position, dashboard: Dashboard, epoch: int, rate: float) -> None:
    within = len(position.epoch["loss"])
    if within % job.plan.log_every and within != job.plan.steps_per_epoch:
        return
    start = (within - 1) // job.plan.log_every * job.plan.log_every
    figures = means({name: values[start:] for name, values in position.epoch.items()}, job.config.global_batch)
    record(job, position, {"step": position.step, "epoch": epoch + 1, **figures, "images_per_second": rate})
    dashboard.scalars(dashboard.train, position.step, figures | {"images_per_second": rate})


def close_epoch(job: Job, position: Position, evaluation: Evaluation, dashboard: Dashboard, epoch: int) -> Scalars:
    """Writes an epoch's figures everywhere, and gets ready for the next."""
    validation = {"loss": evaluation.loss, "accuracy": evaluation.accuracy, "top5": evaluation.top5}
    figures = means(position.epoch, job.config.global_batch) | {f"val_{k}": value for k, value in validation.items()}
    line = {f"val_{name}": value for name, value in validation.items()}
    line |= {"train_loss": figures["loss"], "train_accuracy": figures["accuracy"]}
    record(job, position, {"step": position.step, "epoch": epoch + 1, **line, **gap(figures)})
    dashboard.scalars(dashboard.validation, position.step, validation | gap(figures))
    dashboard.confusion(evaluation.confusion, job.source.classes, position.step)
    dashboard.flush()
    position.history.append(figures)
    position.epoch = {name: [] for name in SERIES}
    return figures


def record(job: Job, position: Position, line: dict[str, Any]) -> None:
    if job.chief:
        finite = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in line.items()}
        runs.append_metrics(job.folder, finite)
    position.lines += 1


def keep(job: Job, state: State, position: Position, best: bool = False) -> None:
    if not job.chief:
        return
    folder, name = job.folder / "checkpoints", checkpoints.step_name(position.step)
    # The best goes first: a kill between the two repeats the epoch, and the other way round would forget its best.
    path = checkpoints.save(folder, "best" if best else name, state, vars(position))
    if best:
        checkpoints.link(path, name)
    checkpoints.prune(folder, job.config.keep)
