"""The listeners of a run: metrics.jsonl, the dashboards, the terminal and the checkpoints."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.terminal.tables import short
from trainers.distribute.surroundings import visible_gpus
from trainers.evaluation import Evaluation
from trainers.phases import first_images
from trainers.reports.curves import gap
from trainers.reports.early import warning
from trainers.reports.many import PLACES
from trainers.run import Run, Scalars, means
from trainers.runs import checkpoints, folders
from trainers.runs.dashboards import Dashboard
from trainers.runs.progress import Reporter
from trainers.settings import plain
from trainers.transfer.parts import step_memory

if TYPE_CHECKING:
    from trainers.loop import Training

PICTURES = 10  # of a run's confusion matrices, and of its filters
SAMPLES = 4  # epochs whose images are shown


class Listener:
    """The events of a run, in the order in which they happen; a listener overrides the methods that it needs.

    start: before the first step. epoch_start: before the first step of an epoch. steps: after a call of some steps,
    with the epoch, its figures so far, and the number of the signal to stop at, or 0. epoch_end: with the epoch's
    figures, its evaluation, and whether it is the best. recovered: the run went back to a checkpoint, for a reason.
    end: after the last step.
    """

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def start(self, training: "Training") -> None:
        pass

    def epoch_start(self, training: "Training") -> None:
        pass

    def steps(self, training: "Training", epoch: int, running: Scalars, stop: int) -> None:
        pass

    def epoch_end(self, training: "Training", epoch: int, figures: Scalars, evaluation: Evaluation, best: bool) -> None:
        pass

    def recovered(self, training: "Training", reason: str) -> None:
        pass

    def end(self, training: "Training") -> None:
        pass


def listeners(training: "Training", changing: bool) -> list[Listener]:
    """The listeners of a run; only the chief's write. With `changing`, callbacks may change the weights after the last
    step (EarlyStopping puts earlier ones back), and a checkpoint keeps them.

    The order matters: a checkpoint holds the number of lines of metrics.
    """
    run, step = training.run, training.position.step
    shown = [Metrics(run), Dashboards(run, step), Terminal(run, step), Checkpoints(run, changing)]
    return [*shown, Profile(run, run.config.profile)] if run.config.profile else shown


class Metrics(Listener):
    """Writes the lines of metrics.jsonl. All workers count them, as their checkpoints hold the number."""

    def __init__(self, run: Run):
        self.run = run

    def steps(self, training: "Training", epoch: int, running: Scalars, stop: int) -> None:
        if figures := lately(training):
            rate = {"images_per_second": training.speed.recent}
            self.record(training, {"step": training.position.step, "epoch": epoch + 1, **figures, **rate})

    def epoch_end(self, training: "Training", epoch: int, figures: Scalars, evaluation: Evaluation, best: bool) -> None:
        line = {name: value for name, value in figures.items() if name.startswith("val_")}
        line |= {"train_loss": figures["loss"], "train_accuracy": figures["accuracy"]}
        line |= {} if self.run.config.multi_label else gap(figures)  # whose validation is in mAP
        self.record(training, {"step": training.position.step, "epoch": epoch + 1, **line})

    def recovered(self, training: "Training", reason: str) -> None:
        position = training.position
        if self.run.chief:
            folders.rewind_metrics(self.run.folder, position.lines)
        event = {"event": "recovered", "reason": reason, "lr_scale": 0.5**position.recoveries}
        self.record(training, {"step": position.step, "epoch": training.epoch + 1, **event})

    def record(self, training: "Training", line: dict[str, Any]) -> None:
        if self.run.chief:
            finite = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in line.items()}
            folders.append_metrics(self.run.folder, finite)
        training.position.lines += 1


def pictured(epoch: int, epochs: int, most: int = PICTURES) -> bool:
    """Tells whether an epoch, counted from 0, has its picture drawn: at most so many of a run, the last among them.

    A picture takes as long as an epoch of a classifier alone.
    """
    return (epochs - 1 - epoch) % -(-epochs // most) == 0


def within_search(folder: Path) -> bool:
    """Whether a run is one of a search or a sweep, which has a page HParams of its own over all of them."""
    return any((folder.absolute().parent.parent / name).exists() for name in ("search.yaml", "jobs.jsonl"))


def shown_settings(run: Run) -> dict[str, bool | int | float | str]:
    """The settings of a run as TensorBoard's page HParams can tell runs apart by them."""
    flags = plain(run.config.flags) | {"arch": run.config.name}
    told = {name: value for name, value in flags.items() if isinstance(value, bool | int | float | str)}
    return {name: value for name, value in told.items() if name not in PLACES}


def first_kernel(model: keras.Model) -> np.ndarray | None:
    """The kernel of the convolution that sees the pixels, where it is larger than 1x1."""
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name == "kernel" and len(weight.shape) == 4 and weight.shape[2] in (1, 3):
                return weight.numpy() if weight.shape[0] > 1 else None
    return None


class Dashboards(Listener):
    """Writes what TensorBoard shows."""

    def __init__(self, run: Run, step: int):
        self.dashboard = Dashboard(run.folder if run.chief else None, step)
        self.sampled = True  # whether the images of this epoch have been shown

    def __exit__(self, *_: Any) -> None:
        self.dashboard.close()

    def start(self, training: "Training") -> None:
        if training.position.step == 0:
            self.dashboard.begin(None if within_search(training.run.folder) else shown_settings(training.run))

    def epoch_start(self, training: "Training") -> None:
        # Features are no pictures. A step that is repeated shows its images once.
        begins = training.position.step % training.plan.steps_per_epoch == 0
        wanted = begins and pictured(training.epoch, training.plan.epochs, SAMPLES)
        self.sampled = training.config.features_only or not wanted

    def steps(self, training: "Training", epoch: int, running: Scalars, stop: int) -> None:
        if not self.sampled:  # not before the first step, which would come later for it
            step = epoch * training.plan.steps_per_epoch
            self.dashboard.samples(*first_images(training.run, step), step)
            self.sampled = True
        if figures := lately(training):
            rate = {"images_per_second": training.speed.recent}
            self.dashboard.scalars(training.position.step, figures | rate | training.watched)

    def epoch_end(self, training: "Training", epoch: int, figures: Scalars, evaluation: Evaluation, best: bool) -> None:
        step, board = training.position.step, self.dashboard
        if training.config.multi_label:
            board.scalars(step, {"val_loss": evaluation.loss, "val_map": evaluation.accuracy})
        else:
            accuracies = {"val_accuracy": evaluation.accuracy, "val_top5": evaluation.top5}
            board.scalars(step, {"val_loss": evaluation.loss} | accuracies | gap(figures))
        if pictured(epoch, training.plan.epochs):
            if evaluation.confusion.size:
                board.confusion(evaluation.confusion, training.run.source.classes, step)
            if (kernel := first_kernel(training.state.model)) is not None:
                board.filters(kernel, step)
        board.flush()

    def recovered(self, training: "Training", reason: str) -> None:
        self.dashboard.rewind(training.position.step)


def banner(run: Run, step: int) -> list[str]:
    """What is about to be trained, on what, where and how long, in a few lines."""
    config, plan, source, facts = run.config, run.plan, run.source, run.facts
    replicas = run.strategy.num_replicas_in_sync
    kind = "TPU" if config.strategy == "tpu" else "GPU" if visible_gpus() else "CPU"
    memory = short(step_memory(facts, config, replicas), "B")
    epochs = f"{plan.epochs} epoch{'s' if plan.epochs > 1 else ''}"
    return [
        f"{config.arch.name} at {config.resolution} pixels: {short(facts.params)} parameters, {short(facts.macs)} "
        "multiply-adds",
        f"{source.name}: {source.train.size:,} training and {source.val.size:,} validation images of "
        f"{len(source.classes):,} classes",
        f"recipe {config.recipe}: {epochs} of {plan.steps_per_epoch:,} steps, "
        f"{config.global_batch} images each, in {config.precision}",
        f"{replicas} {kind} replica{'s' if replicas > 1 else ''}, about {memory} each; into {run.folder}",
        *([f"goes on at step {step:,} of {plan.steps:,}"] if step else []),
    ]


class Terminal(Listener):
    """What a person sees."""

    def __init__(self, run: Run, done: int):
        self.run = run
        self.reporter = Reporter(run.plan.steps, done, show=run.chief and not run.config.quiet)

    def __enter__(self) -> "Terminal":
        self.reporter.__enter__()
        return self

    def __exit__(self, *_: Any) -> None:
        self.reporter.__exit__()

    def start(self, training: "Training") -> None:
        for line in banner(self.run, training.position.step):
            self.reporter.say(line)

    def steps(self, training: "Training", epoch: int, running: Scalars, stop: int) -> None:
        self.reporter.step(
            f"epoch {epoch + 1}/{self.run.plan.epochs}",
            training.position.step,
            running["loss"],
            running["accuracy"],
            training.speed.recent,
        )

    def epoch_end(self, training: "Training", epoch: int, figures: Scalars, evaluation: Evaluation, best: bool) -> None:
        names = ("top-1", "val_mAP") if self.run.config.multi_label else ("accuracy", "val_accuracy")
        self.reporter.say(
            f"epoch {epoch + 1}/{self.run.plan.epochs}: loss {figures['loss']:.4f}  "
            f"{names[0]} {figures['accuracy']:.2%}  val_loss {figures['val_loss']:.4f}  "
            f"{names[1]} {figures['val_accuracy']:.2%}{' (best)' if best else ''}  {training.speed.recent:.0f} images/s"
        )
        labels = evaluation.confusion.sum(1)
        if not labels.size:  # images have any number of labels, and no chance to compare with
            return
        line = warning(
            training.position.history,
            epochs=training.plan.epochs,
            steps_per_epoch=training.plan.steps_per_epoch,
            val_images=int(labels.sum()),
            chance=float(labels.max() / labels.sum()),
            settings=vars(self.run.config.flags) | {"bn_momentum": self.run.config.arch.style.bn_momentum},
        )
        if line:
            self.reporter.say(line)

    def recovered(self, training: "Training", reason: str) -> None:
        position = training.position
        self.reporter.say(
            f"{reason.split(':')[0]}: the run goes back to step {position.step} and halves the learning rate "
            f"({position.recoveries} of {self.run.config.recover} times)"
        )


class Checkpoints(Listener):
    """Writes the checkpoints that a run goes on from."""

    def __init__(self, run: Run, changing: bool):
        self.run, self.changing, self.saved = run, changing, time.monotonic()

    def start(self, training: "Training") -> None:
        if training.position.step == 0 and self.run.config.recover:
            self.keep(training)

    def epoch_start(self, training: "Training") -> None:
        self.saved = time.monotonic()

    def steps(self, training: "Training", epoch: int, running: Scalars, stop: int) -> None:
        step, plan = training.position.step, self.run.plan
        if step % plan.steps_per_epoch == 0:
            return  # the epoch's end keeps one
        if step % plan.checkpoint_steps == 0 or time.monotonic() - self.saved > plan.checkpoint_seconds or stop:
            self.keep(training)
            self.saved = time.monotonic()

    def epoch_end(self, training: "Training", epoch: int, figures: Scalars, evaluation: Evaluation, best: bool) -> None:
        self.keep(training, best)

    def recovered(self, training: "Training", reason: str) -> None:
        self.keep(training)

    def end(self, training: "Training") -> None:
        if self.changing:
            self.keep(training)

    def keep(self, training: "Training", best: bool = False) -> None:
        if not self.run.chief:
            return
        folder, name = self.run.folder / "checkpoints", checkpoints.step_name(training.position.step)
        # The best goes first: a kill between the two repeats the epoch, and the other way round would forget its best.
        path = checkpoints.save(folder, "best" if best else name, training.state, vars(training.position))
        if best:
            checkpoints.link(path, name)
        checkpoints.prune(folder, self.run.config.keep)


class Profile(Listener):
    """Records what the device does in some steps, from the second call on: the first one compiles."""

    def __init__(self, run: Run, steps: int):
        self.run, self.left, self.on, self.last = run, steps, False, 0

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def steps(self, training: "Training", epoch: int, running: Scalars, stop: int) -> None:
        if self.on:
            self.left -= training.position.step - self.last
        self.last = training.position.step
        if self.on and self.left <= 0:
            self.stop()
        elif not self.on and self.left > 0 and self.run.chief:
            tf.profiler.experimental.start(str(self.run.folder))
            self.on = True

    def stop(self) -> None:
        if self.on:
            self.on = False
            tf.profiler.experimental.stop()


def lately(training: "Training") -> Scalars | None:
    """The figures of the steps since the last line of metrics, or None where the next line is not due."""
    series, plan = training.position.epoch, training.plan
    within = len(series["loss"])
    if within % plan.log_every and within != plan.steps_per_epoch:
        return None
    start = (within - 1) // plan.log_every * plan.log_every
    return means({name: values[start:] for name, values in series.items()}, training.config.global_batch)
