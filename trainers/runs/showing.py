"""The listeners that TensorBoard shows: curves, settings, pictures, and the profile of some steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from trainers.evaluation import Evaluation
from trainers.optim.optimizers import decays
from trainers.phases import first_images
from trainers.reports.curves import gap
from trainers.reports.many import PLACES
from trainers.run import Run, Scalars
from trainers.runs.dashboards import Dashboard
from trainers.runs.listener import Listener, lately
from trainers.settings import plain

if TYPE_CHECKING:
    from trainers.loop import Training

PICTURES = 10  # of a run's confusion matrices, and of its filters
SAMPLES = 4  # epochs whose images are shown


class Dashboards(Listener):
    """Writes what TensorBoard shows."""

    def __init__(self, run: Run, step: int):
        self.dashboard = Dashboard(run.folder if run.chief else None, step)
        self.sampled = True  # whether the images of this epoch have been shown

    def __exit__(self, *_: Any) -> None:
        self.dashboard.close()

    def start(self, training: "Training") -> None:
        if training.position.step == 0:
            run = training.run
            self.dashboard.begin(run.facts.layers, None if within_search(run.folder) else shown_settings(run))

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
            if training.config.watch == "weights":
                board.histograms({v.path: v.numpy() for v in training.state.model.weights if decays(v)}, step)
        board.flush()

    def recovered(self, training: "Training", reason: str) -> None:
        self.dashboard.rewind(training.position.step)


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
