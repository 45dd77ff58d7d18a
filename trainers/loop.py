"""The one loop: it drives the compiled step, evaluates, keeps checkpoints and calls Keras callbacks."""

import functools
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from kcnn.builder import abstract
from trainers import checkpoints, runs, workers
from trainers.config import TrainConfig
from trainers.dashboards import Dashboard
from trainers.data import train_batches, training_records
from trainers.evaluation import Evaluation, evaluator
from trainers.feed import distribute, naming_broken
from trainers.job import SERIES, Job, Plan, Position, Scalars
from trainers.phases import phase_of
from trainers.progress import Reporter
from trainers.records import BlowUp, close_epoch, keep, log_steps, means, record, refuse_nan
from trainers.signals import Stopped, stop_signals
from trainers.state import State, networks, precision
from trainers.step import precise_function, train_function

CALL_SECONDS = 2.0  # of steps in one call at most: how long a signal or a progress bar waits


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


def train(job: Job, state: State, position: Position, jit: bool,
          callbacks: list[keras.callbacks.Callback]) -> Scalars:  # fmt: skip
    """Runs to the end from wherever the state is. Returns the figures of the last evaluation and of speed."""
    config, plan, source, strategy = job.config, job.plan, job.source, job.strategy
    averages = list(zip(state.model.weights, state.ema, strict=True)) if state.ema else []
    evaluate = evaluator(state.plain, averages, source.val, len(source.classes), config, strategy)
    hooks = keras.callbacks.CallbackList(
        callbacks, add_history=True, model=state.plain, epochs=plan.epochs, steps=plan.steps_per_epoch
    )
    dashboard = Dashboard(job.folder if job.chief else None, position.step)
    speed = Speed(config.global_batch)
    state.plain.stop_training = False
    hooks.on_train_begin()
    with (
        Reporter(plan.steps, position.step, show=job.chief) as reporter,
        stop_signals() as received,
        workers.noticing_loss(strategy, job.folder),
    ):
        if position.step == 0:
            show_first(job, dashboard)
            if config.recover:
                keep(job, state, position)
        phase, feed, settle = None, None, statistics_function(job, state)
        while position.step < plan.steps and not state.plain.stop_training and not out_of_patience(job, position):
            now = phase_of(config, position.step // plan.steps_per_epoch)
            if now != phase:
                phase = now
                step_function = phase_function(job, state, phase, jit)
                feed = iter(training_data(job, phase, position.step))
            try:
                run_epoch(job, state, position, functools.partial(step_function, feed), settle, evaluate, hooks, speed,
                          dashboard, reporter, received)  # fmt: skip
            except BlowUp as error:
                if position.recoveries == config.recover:
                    raise
                recover(job, state, position, str(error), reporter)
                dashboard.rewind(position.step)
                phase = None
    hooks.on_train_end(position.history[-1] if position.history else None)
    if callbacks:  # EarlyStopping, for one, may have put earlier weights back
        keep(job, state, position)
    dashboard.close()
    return position.history[-1] | {"images_per_second": speed.overall, "best_val_accuracy": position.best}


def phase_function(job: Job, state: State, phase: TrainConfig, jit: bool) -> Callable[..., Any]:
    """The compiled step for the phase's images and settings."""
    graph = None
    if phase.resolution != job.config.resolution:
        with abstract(), precision(phase.precision):  # the same network for other images: its weights are the state's
            graph = networks(phase, len(job.source.classes))[0]
        synchronize(graph, job)
    with job.strategy.scope():
        return train_function(state, phase, job.strategy, jit, job.class_weights, graph)


def synchronize(model: keras.Model, job: Job) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = job.config.sync_bn


def statistics_function(job: Job, state: State) -> Callable[[], None]:
    """What measures batch normalization's statistics anew, on the first batches of the data, where it is asked for."""
    if not job.config.precise_bn:
        return lambda: None
    with job.strategy.scope():
        function = precise_function(state, job.strategy)

    def measure() -> None:
        data = iter(training_data(job, job.config, 0))
        function(data, tf.constant(job.config.precise_bn))

    return measure


def out_of_patience(job: Job, position: Position) -> bool:
    """Whether the best validation accuracy is `patience` epochs old."""
    accuracies = [figures["val_accuracy"] for figures in position.history]
    if not job.config.patience or not accuracies:
        return False
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) >= job.config.patience


def run_epoch(job: Job, state: State, position: Position, run_steps: Callable[[tf.Tensor], Any],
              settle: Callable[[], None], evaluate: Callable[[], Evaluation], hooks: keras.callbacks.CallbackList,
              speed: Speed, dashboard: Dashboard, reporter: Reporter, received: list[int]) -> None:  # fmt: skip
    """From wherever the epoch is to its end. Raises Stopped, having saved, where a signal was received."""
    config, plan = job.config, job.plan
    epoch = position.step // plan.steps_per_epoch
    hooks.on_epoch_begin(epoch)
    saved = time.monotonic()
    for steps in chunks(position.step, plan, speed):
        within = position.step - epoch * plan.steps_per_epoch
        hooks.on_train_batch_begin(within)
        started = time.perf_counter()
        with naming_broken(job.source.train, functools.partial(under_way, job, position.step, steps)):
            series = {k: v.numpy() for k, v in run_steps(tf.constant(steps)).items()}
        seconds = time.perf_counter() - started
        refuse_nan(series, position, job)
        for name in SERIES:
            position.epoch[name].extend(float(v) for v in series[name])
        position.step += steps
        running = means(position.epoch, config.global_batch)
        hooks.on_train_batch_end(within + steps - 1, {k: running[k] for k in ("loss", "accuracy")})
        seconds, stop = agree(job, state, seconds, received)
        speed.add(steps, seconds)
        reporter.step(
            f"epoch {epoch + 1}/{plan.epochs}", position.step, running["loss"], running["accuracy"], speed.recent
        )
        log_steps(job, position, dashboard, epoch, speed.recent)
        if position.step % plan.steps_per_epoch:
            due = position.step % plan.checkpoint_steps == 0 or time.monotonic() - saved > plan.checkpoint_seconds
            if due or stop:
                keep(job, state, position)
                saved = time.monotonic()
            if stop:
                raise Stopped(stop, job.folder, position.step)
        if state.plain.stop_training:
            break
    settle()
    hooks.on_test_begin()
    evaluation = evaluate()
    hooks.on_test_end({"loss": evaluation.loss, "accuracy": evaluation.accuracy})
    figures = close_epoch(job, position, evaluation, dashboard, epoch)
    reporter.say(
        f"epoch {epoch + 1}/{plan.epochs}: loss {figures['loss']:.4f}  accuracy {figures['accuracy']:.2%}  "
        f"val_loss {figures['val_loss']:.4f}  val_accuracy {figures['val_accuracy']:.2%}  "
        f"{speed.recent:.0f} images/s"
    )
    best = figures["val_accuracy"] > position.best
    position.best = max(position.best, figures["val_accuracy"])
    keep(job, state, position, best)
    hooks.on_epoch_end(epoch, figures)
    _, stop = agree(job, state, 0.0, received)
    if stop and position.step < plan.steps:
        raise Stopped(stop, job.folder, position.step)


def agree(job: Job, state: State, seconds: float, received: list[int]) -> tuple[float, int]:
    """The workers' mean of the seconds; the signal to stop at, if one of them has it, or 0; stop_training of any."""
    seconds, told, stopped = workers.mean(job.strategy, [seconds, bool(received), bool(state.plain.stop_training)])
    state.plain.stop_training = stopped > 0
    return seconds, (received[0] if received else signal.SIGTERM) if told else 0


def recover(job: Job, state: State, position: Position, reason: str, reporter: Reporter) -> None:
    """Back to the last checkpoint, at half the learning rate."""
    last = workers.from_chief(job.strategy, lambda: checkpoints.newest(job.folder / "checkpoints"))
    if last is None:
        raise BlowUp(reason)
    path, arrays, extra = last
    checkpoints.restore(state, arrays, path)
    # The count is of the run, not of the checkpoint: one that blows up again has another half taken off.
    extra["recoveries"] = position.recoveries + 1
    vars(position).update(extra)
    set_lr_scale(state, position)
    if job.chief:
        runs.rewind_metrics(job.folder, position.lines)
    event = {"event": "recovered", "reason": reason, "lr_scale": 0.5**position.recoveries}
    record(job, position, {"step": position.step, "epoch": position.step // job.plan.steps_per_epoch + 1, **event})
    reporter.say(f"{reason.split(':')[0]}: back to step {position.step}, the learning rate halved "
                 f"({position.recoveries} of {job.config.recover} times)")  # fmt: skip
    keep(job, state, position)


def set_lr_scale(state: State, position: Position) -> None:
    state.optimizer.lr_scale.assign(0.5**position.recoveries)


def show_first(job: Job, dashboard: Dashboard) -> None:
    batches = training_data(job, phase_of(job.config, 0), 0)
    with naming_broken(job.source.train, lambda: under_way(job, 0, 1)):
        first = job.strategy.experimental_local_results(next(iter(batches))["image"])[0]
    dashboard.strip(first[:8].numpy(), 0)


def training_data(job: Job, phase: TrainConfig, step: int) -> Any:
    """Batches from the one of `step` on, as the phase has them."""
    batch = phase.global_batch
    return distribute(job.strategy, batch, lambda share, shard: train_batches(
        job.source.train, batch=share, resolution=phase.resolution, seed=phase.seed, shard=shard,
        epoch_size=job.plan.steps_per_epoch * batch, start=step * batch,
        crop_scale=(phase.crop_scale, 1.0), flip=phase.flip, policy=phase.augment,
        magnitude=phase.augment_magnitude, std=phase.augment_std, probability=phase.augment_probability,
        layers=phase.augment_layers, color_jitter=phase.color_jitter, erase=phase.erase,
        repeats=phase.repeats))  # fmt: skip


def under_way(job: Job, step: int, steps: int) -> tuple[tf.data.Dataset, int]:
    """The records that a failed call was reading, and some that the pipeline had read ahead."""
    config, batch = job.config, job.config.global_batch
    epoch_size, start = job.plan.steps_per_epoch * batch, step * batch
    records = training_records(job.source.train, config.seed, epoch_size, start, batch, config.repeats)
    return records, (steps + 4) * batch


def chunks(step: int, plan: Plan, speed: Speed) -> Iterator[int]:
    """How many steps to take at once: to the next line of the log, checkpoint or end of the epoch, but not for long."""
    begin = step // plan.steps_per_epoch * plan.steps_per_epoch
    end, first = begin + plan.steps_per_epoch, step
    while step < end:
        line = begin + ((step - begin) // plan.log_every + 1) * plan.log_every
        checkpoint = (step // plan.checkpoint_steps + 1) * plan.checkpoint_steps
        # The very first step goes alone: it compiles, and is soon seen.
        n = 1 if step == first == 0 else min(min(line, checkpoint, end) - step, speed.steps_within(CALL_SECONDS))
        yield n
        step += n
