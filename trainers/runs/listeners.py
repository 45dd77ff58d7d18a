"""The listeners of a run: metrics.jsonl, the dashboards, the terminal and the checkpoints."""

import math
import time
from typing import TYPE_CHECKING, Any

from kcnn.terminal.tables import short
from trainers.distribute.surroundings import visible_gpus
from trainers.evaluation import Evaluation
from trainers.reports.curves import gap
from trainers.reports.early import warning
from trainers.run import Run, Scalars
from trainers.runs import checkpoints, folders
from trainers.runs.listener import Listener, lately
from trainers.runs.progress import Reporter
from trainers.runs.showing import Dashboards, Profile
from trainers.transfer.parts import step_memory

if TYPE_CHECKING:
    from trainers.loop import Training


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
