"""The one loop: it drives the compiled step, evaluates, keeps checkpoints and calls Keras callbacks."""

import functools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers import checkpoints, runs
from trainers.config import TrainConfig
from trainers.dashboards import Dashboard
from trainers.data import Source, train_batches, training_records
from trainers.evaluation import Evaluation, evaluator
from trainers.feed import distribute, naming_broken
from trainers.progress import Reporter
from trainers.signals import Stopped, stop_signals
from trainers.step import SERIES, State, train_function

Scalars = dict[str, float]

CALL_SECONDS = 2.0  # of steps in one call at most: how long a signal or a progress bar waits


@dataclass
class Position:
    """What a checkpoint remembers besides variables, so that a resumed run goes on as if nothing had happened."""

    step: int = 0
    lines: int = 0  # of metrics.jsonl
    epoch: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SERIES})
    best: float = -1.0
    history: list[Scalars] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How long a run is, in steps of `config.batch_size` images."""

    steps_per_epoch: int
    epochs: int
    checkpoint_every: int
    log_every: int

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs


class Speed:
    """Images a second: of late, and over all calls but the first, which compiles."""

    def __init__(self, batch: int):
        self.batch = batch
        self.calls: list[tuple[int, float]] = []

    def add(self, steps: int, seconds: float) -> None:
        self.calls.append((steps, seconds))

    def steps_within(self, seconds: float) -> int:
        """At the speed of late; at least one, and a few as long as only the compiling call is known."""
        return max(1, int(seconds * self.recent / self.batch)) if len(self.calls) > 1 else 10

    @property
    def recent(self) -> float:
        return self.rate(self.calls[-1:])

    @property
    def overall(self) -> float:
        return self.rate(self.calls[1:] or self.calls)

    def rate(self, calls: list[tuple[int, float]]) -> float:
        return self.batch * sum(n for n, _ in calls) / max(1e-9, sum(s for _, s in calls))


def make_plan(config: TrainConfig, images: int) -> Plan:
    """Raises InputError where the batch is larger than the data."""
    if config.batch_size > images:
        raise InputError(f"batch-size {config.batch_size}: there are {images} training images, so at most that many")
    per_epoch = images // config.batch_size
    return Plan(per_epoch, config.epochs, config.checkpoint_every or per_epoch, max(1, min(100, per_epoch // 4)))


def train(state: State, position: Position, config: TrainConfig, plan: Plan, source: Source, folder: Path,
          strategy: tf.distribute.Strategy, jit: bool,
          callbacks: list[keras.callbacks.Callback]) -> Scalars:  # fmt: skip
    """Runs to the end from wherever the state is. Returns the figures of the last evaluation and of speed."""
    with strategy.scope():
        step_function = train_function(state, config, strategy, jit)
    averages = list(zip(state.model.weights, state.ema, strict=True)) if state.ema else []
    evaluate = evaluator(state.plain, averages, source.val, len(source.classes), config, strategy)
    hooks = keras.callbacks.CallbackList(
        callbacks, add_history=True, model=state.plain, epochs=plan.epochs, steps=plan.steps_per_epoch
    )
    batches = training_data(config, plan, source, position.step, strategy)
    dashboard = Dashboard(folder)
    speed = Speed(config.batch_size)
    state.plain.stop_training = False
    hooks.on_train_begin()
    with Reporter(plan.steps, position.step) as reporter, stop_signals() as received:
        if position.step == 0:
            with naming_broken(source.train, lambda: under_way(config, plan, source, 0, 1)):
                first = strategy.experimental_local_results(next(iter(batches))["image"])[0]
            dashboard.strip(first[:8].numpy(), 0)
        iterator = iter(batches)
        while position.step < plan.steps and not state.plain.stop_training:
            epoch = position.step // plan.steps_per_epoch
            hooks.on_epoch_begin(epoch)
            for steps in chunks(position.step, plan, speed):
                within = position.step - epoch * plan.steps_per_epoch
                hooks.on_train_batch_begin(within)
                started = time.perf_counter()
                with naming_broken(
                    source.train, functools.partial(under_way, config, plan, source, position.step, steps)
                ):
                    series = {k: v.numpy() for k, v in step_function(iterator, tf.constant(steps)).items()}
                speed.add(steps, time.perf_counter() - started)
                refuse_nan(series, position.step, folder, config.precision)
                for name in SERIES:
                    position.epoch[name].extend(float(v) for v in series[name])
                position.step += steps
                running = means(position.epoch, config.batch_size)
                reporter.step(
                    f"epoch {epoch + 1}/{plan.epochs}",
                    position.step,
                    running["loss"],
                    running["accuracy"],
                    speed.recent,
                )
                hooks.on_train_batch_end(within + steps - 1, {k: running[k] for k in ("loss", "accuracy")})
                log_steps(position, plan, config, folder, dashboard, epoch, speed.recent)
                at_end = position.step % plan.steps_per_epoch == 0
                if (position.step % plan.checkpoint_every == 0 or received) and not at_end:
                    keep(state, position, folder, config.keep)
                    if received:
                        raise Stopped(received[0], position.step, folder)
                if state.plain.stop_training:
                    break
            hooks.on_test_begin()
            evaluation = evaluate()
            hooks.on_test_end({"loss": evaluation.loss, "accuracy": evaluation.accuracy})
            figures = close_epoch(position, evaluation, config, folder, dashboard, source.classes, epoch)
            reporter.say(
                f"epoch {epoch + 1}/{plan.epochs}: loss {figures['loss']:.4f}  accuracy {figures['accuracy']:.2%}  "
                f"val_loss {figures['val_loss']:.4f}  val_accuracy {figures['val_accuracy']:.2%}  "
                f"{speed.recent:.0f} images/s"
            )
            best = figures["val_accuracy"] > position.best
            position.best = max(position.best, figures["val_accuracy"])
            keep(state, position, folder, config.keep, best)
            hooks.on_epoch_end(epoch, figures)
            if received and position.step < plan.steps:
                raise Stopped(received[0], position.step, folder)
    hooks.on_train_end(position.history[-1] if position.history else None)
    if callbacks:  # EarlyStopping, for one, may have put earlier weights back
        keep(state, position, folder, config.keep)
    dashboard.close()
    return position.history[-1] | {"images_per_second": speed.overall, "best_val_accuracy": position.best}


def training_data(config: TrainConfig, plan: Plan, source: Source, step: int, strategy: tf.distribute.Strategy) -> Any:
    """Batches from the one of `step` on."""
    return distribute(strategy, config.batch_size, lambda batch, shard: train_batches(
        source.train, batch=batch, resolution=config.resolution, seed=config.seed, shard=shard,
        epoch_size=plan.steps_per_epoch * config.batch_size, start=step * config.batch_size,
        crop_scale=(config.crop_scale, 1.0), flip=config.flip, policy=config.augment,
        magnitude=config.augment_magnitude, std=config.augment_std, probability=config.augment_probability,
        layers=config.augment_layers, color_jitter=config.color_jitter, erase=config.erase,
        repeats=config.repeats))  # fmt: skip


def under_way(config: TrainConfig, plan: Plan, source: Source, step: int, steps: int) -> tuple[tf.data.Dataset, int]:
    """The records that a failed call was reading, and some that the pipeline had read ahead."""
    b = config.batch_size
    records = training_records(source.train, config.seed, plan.steps_per_epoch * b, step * b, b, config.repeats)
    return records, (steps + 4) * b


def chunks(step: int, plan: Plan, speed: Speed) -> Iterator[int]:
    """How many steps to take at once: to the next line of the log, checkpoint or end of the epoch, but not for long."""
    begin = step // plan.steps_per_epoch * plan.steps_per_epoch
    end, first = begin + plan.steps_per_epoch, step
    while step < end:
        line = begin + ((step - begin) // plan.log_every + 1) * plan.log_every
        checkpoint = (step // plan.checkpoint_every + 1) * plan.checkpoint_every
        # The very first step goes alone: it compiles, and is soon seen.
        n = 1 if step == first == 0 else min(min(line, checkpoint, end) - step, speed.steps_within(CALL_SECONDS))
        yield n
        step += n


def means(series: dict[str, list[float]], batch: int) -> Scalars:
    """Summed in steps' order, so that it does not matter how many a call ran."""
    n = len(series["loss"])
    return {
        "loss": sum(series["loss"]) / n,
        "accuracy": sum(series["correct"]) / (n * batch),
        "grad_norm": sum(series["grad_norm"]) / n,
        "lr": series["lr"][-1],
    }


def refuse_nan(series: dict[str, np.ndarray], step: int, folder: Path, precision: str) -> None:
    """Raises InputError at a loss or a gradient that is no number, before such weights get into a checkpoint."""
    names = {"loss": "loss", "grad_norm": "gradient's norm"}  # a ReLU can make 0 of NaN: then only the gradient tells
    if precision == "mixed_float16":
        del names["grad_norm"]  # now and then infinite, and left out, while the loss's scale is being found
    bad = [(i, name) for name in names for i in np.flatnonzero(~np.isfinite(series[name]))[:1]]
    if bad:
        at, name = min(bad, key=lambda pair: pair[0])
        good = checkpoints.found(folder / "checkpoints")
        where = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint yet"
        raise InputError(f"the {names[name]} is {series[name][at]} at step {step + int(at) + 1}: {where}; "
                         "try a lower --lr, --clip-norm 1 or --precision float32")  # fmt: skip


def log_steps(position: Position, plan: Plan, config: TrainConfig, folder: Path, dashboard: Dashboard, epoch: int,
              rate: float) -> None:  # fmt: skip
    within = len(position.epoch["loss"])
    if within % plan.log_every and within != plan.steps_per_epoch:
        return
    start = (within - 1) // plan.log_every * plan.log_every
    figures = means({name: values[start:] for name, values in position.epoch.items()}, config.batch_size)
    record(position, folder, {"step": position.step, "epoch": epoch + 1, **figures, "images_per_second": rate})
    dashboard.scalars(dashboard.train, position.step, figures | {"images_per_second": rate})


def close_epoch(position: Position, evaluation: Evaluation, config: TrainConfig, folder: Path, dashboard: Dashboard,
                classes: tuple[str, ...], epoch: int) -> Scalars:  # fmt: skip
    """Writes an epoch's figures everywhere, and gets ready for the next."""
    validation = {"loss": evaluation.loss, "accuracy": evaluation.accuracy, "top5": evaluation.top5}
    figures = means(position.epoch, config.batch_size) | {f"val_{name}": value for name, value in validation.items()}
    line = {f"val_{name}": value for name, value in validation.items()}
    line |= {"train_loss": figures["loss"], "train_accuracy": figures["accuracy"]}
    record(position, folder, {"step": position.step, "epoch": epoch + 1, **line})
    dashboard.scalars(dashboard.validation, position.step, validation)
    dashboard.confusion(evaluation.confusion, classes, position.step)
    dashboard.flush()
    position.history.append(figures)
    position.epoch = {name: [] for name in SERIES}
    return figures


def record(position: Position, folder: Path, line: dict[str, Any]) -> None:
    runs.append_metrics(
        folder, {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in line.items()}
    )
    position.lines += 1


def keep(state: State, position: Position, folder: Path, count: int, best: bool = False) -> None:
    name = checkpoints.step_name(position.step)
    # The best goes first: a kill between the two repeats the epoch, and the other way round would forget its best.
    path = checkpoints.save(folder / "checkpoints", "best" if best else name, state, vars(position))
    if best:
        checkpoints.link(path, name)
    checkpoints.prune(folder / "checkpoints", count)
