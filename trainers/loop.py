"""The one loop: it drives the compiled step, evaluates, keeps checkpoints and calls Keras's callbacks."""

import contextlib
import functools
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.builder import abstract
from kcnn.errors import InputError
from trainers.distribute import workers
from trainers.distribute.feed import naming_broken
from trainers.distribute.signals import Stopped, stop_signals
from trainers.evaluation import Evaluation, evaluator
from trainers.evaluation_step import precise_function
from trainers.network import networks
from trainers.optim.optimizers import rule_of
from trainers.optim.watched import kernels_by_stage, scalars
from trainers.phases import phase_of, training_data, under_way
from trainers.run import Plan, Position, Run, Scalars, means
from trainers.runs import checkpoints
from trainers.runs.listener import Listener
from trainers.runs.listeners import listeners
from trainers.runs.progress import Speed
from trainers.settings import RunConfig
from trainers.state import State, precision
from trainers.step import train_function
from trainers.transfer.parts import cut

CALL_SECONDS = 2.0  # at most for the steps of one call: so long a signal or the progress bar waits


class Training:
    """A run under way: its settings, its variables (the state), its place (the position) and its listeners. `train`
    reads from top to bottom as training happens.
    """

    def __init__(self, run: Run, state: State, position: Position, callbacks: list[keras.callbacks.Callback]):
        self.run, self.state, self.position = run, state, position
        self.config, self.plan = run.config, run.plan
        self.callbacks = keras.callbacks.CallbackList(
            callbacks, add_history=True, model=state.plain, epochs=run.plan.epochs, steps=run.plan.steps_per_epoch
        )
        self.listeners: list[Listener] = listeners(self, changing=bool(callbacks))
        self.speed = Speed(run.config.global_batch)
        self.received: list[int] = []  # signals to stop
        self.measure_statistics: Callable[[], None] = lambda: None
        self.phase: RunConfig | None = None
        self.watched: Scalars = {}  # of the last step, with --watch
        self.run_steps: Callable[[tf.Tensor], Any] | None = None

    def train(self) -> Scalars:
        """Trains to the end, from wherever the run stands. Returns the figures of the last epoch and of speed.

        Raises Stopped, having saved, where a signal was received.
        """
        self.state.plain.stop_training = False
        self.callbacks.on_train_begin()
        with contextlib.ExitStack() as stack:
            self.received = stack.enter_context(stop_signals())
            for listener in self.listeners:
                stack.enter_context(listener)
            self.tell("start")
            while not self.over:
                try:
                    self.enter_phase()
                    self.train_epoch()
                    self.close_epoch(self.validate())
                except BlowUp as error:
                    self.go_back(error)
        self.callbacks.on_train_end(self.position.history[-1] if self.position.history else None)
        self.tell("end")
        return self.position.history[-1] | {
            "images_per_second": self.speed.overall,
            "best_val_accuracy": self.position.best,
        }

    @functools.cached_property
    def evaluate(self) -> Callable[[], Evaluation]:
        """The evaluation on the validation images, made when it is first needed: the first step comes sooner."""
        state, run = self.state, self.run
        averages = list(zip(state.model.weights, state.ema, strict=True)) if state.ema else []
        evaluated = cut(state.plain, run.config).trained if run.config.features_only else state.plain
        return evaluator(evaluated, averages, run.source.val, len(run.source.classes), run.config, run.strategy)

    @property
    def epoch(self) -> int:
        """The running epoch, counted from 0."""
        return self.position.step // self.plan.steps_per_epoch

    @property
    def over(self) -> bool:
        """Whether all steps are done, a callback wants no more, or the best accuracy is `patience` epochs old."""
        accuracies = [figures["val_accuracy"] for figures in self.position.history]
        age = len(accuracies) - 1 - accuracies.index(max(accuracies)) if accuracies else 0
        patient = not self.config.patience or age < self.config.patience
        return self.position.step >= self.plan.steps or self.state.plain.stop_training or not patient

    def tell(self, event: str, *more: Any) -> None:
        for listener in self.listeners:
            getattr(listener, event)(self, *more)

    def enter_phase(self) -> None:
        """Compiles the step and opens the data anew where resolution, augmentation or what is frozen changes."""
        phase = phase_of(self.config, self.epoch)
        if phase != self.phase:
            self.phase = phase
            feed = iter(training_data(self.run, phase, self.position.step))
            self.run_steps = functools.partial(phase_function(self.run, self.state, phase), feed)
            self.measure_statistics = statistics_function(self.run, self.state, phase)
            self.stages = stages(self.state, phase)

    def train_epoch(self) -> None:
        """Forward, backward, update: a few steps a call, from wherever the epoch is to its end."""
        self.callbacks.on_epoch_begin(self.epoch)
        self.tell("epoch_start")
        for steps in calls(self.position.step, self.plan, self.speed):
            stop = self.take(steps)
            if stop and self.position.step % self.plan.steps_per_epoch:
                raise Stopped(stop, self.run.folder, self.position.step)
            if self.state.plain.stop_training:
                break

    def take(self, steps: int) -> int:
        """Runs so many steps in one call. Returns the number of the signal to stop at, or 0."""
        assert self.run_steps
        epoch, within = self.epoch, self.position.step % self.plan.steps_per_epoch
        self.callbacks.on_train_batch_begin(within)
        started = time.perf_counter()
        with naming_broken(self.run.source.train, functools.partial(under_way, self.run, self.position.step, steps)):
            series = {name: values.numpy() for name, values in self.run_steps(tf.constant(steps)).items()}
        seconds = time.perf_counter() - started
        refuse_nan(series, self.position, self.run)
        if self.config.watch:
            self.watched = scalars(self.stages, series["watched"][-1])
        self.position.advance(series)
        running = means(self.position.epoch, self.config.global_batch)
        logs = {name: running[name] for name in ("loss", "accuracy")}
        self.callbacks.on_train_batch_end(within + steps - 1, logs)
        seconds, stop = self.agree(seconds)
        self.speed.add(steps, seconds)
        self.tell("steps", epoch, running, stop)
        return stop

    def validate(self) -> Evaluation:
        self.measure_statistics()
        self.callbacks.on_test_begin()
        evaluation = self.evaluate()
        self.callbacks.on_test_end({"loss": evaluation.loss, "accuracy": evaluation.accuracy})
        return evaluation

    def close_epoch(self, evaluation: Evaluation) -> None:
        """Tells the listeners the epoch's figures, and they keep its weights. Raises Stopped after a signal."""
        epoch = (self.position.step - 1) // self.plan.steps_per_epoch
        figures = means(self.position.epoch, self.config.global_batch)
        figures |= {"val_loss": evaluation.loss, "val_accuracy": evaluation.accuracy, "val_top5": evaluation.top5}
        best = self.position.close_epoch(figures)
        self.tell("epoch_end", epoch, figures, evaluation, best)
        self.callbacks.on_epoch_end(epoch, figures)
        _, stop = self.agree(0.0)
        if stop and self.position.step < self.plan.steps:
            raise Stopped(stop, self.run.folder, self.position.step)

    def agree(self, seconds: float) -> tuple[float, int]:
        """The workers' mean of the seconds, and the number of the signal to stop at, or 0. All stop where one of them
        does."""
        wants = [seconds, bool(self.received), bool(self.state.plain.stop_training)]
        seconds, stop, stopped = workers.mean(self.run.strategy, wants)
        self.state.plain.stop_training = stopped > 0
        return seconds, (self.received[0] if self.received else signal.SIGTERM) if stop else 0

    def go_back(self, error: "BlowUp") -> None:
        """Goes back to the last checkpoint, at half the learning rate. Raises the error if it did so too often."""
        if self.position.recoveries == self.config.recover:
            raise error
        newest = functools.partial(checkpoints.newest, self.run.folder / "checkpoints")
        last = workers.from_chief(self.run.strategy, newest)
        if last is None:
            raise error
        path, arrays, extra = last
        checkpoints.restore(self.state, arrays, path)
        # The run counts, not the checkpoint: when it blows up again, the rate is halved once more.
        extra["recoveries"] = self.position.recoveries + 1
        vars(self.position).update(extra)
        set_lr_scale(self.state, self.position)
        self.phase = None
        self.tell("recovered", str(error))


class BlowUp(InputError):
    """A loss or a gradient became NaN or infinite."""


def refuse_nan(series: dict[str, Any], position: Position, run: Run) -> None:
    """Raises BlowUp at a loss or a gradient that is NaN or infinite, before such weights get into a checkpoint."""
    names = {"loss": "loss", "grad_norm": "gradient's norm"}  # a ReLU can make 0 of NaN: then only the gradient tells
    if run.config.precision == "mixed_float16":
        del names["grad_norm"]  # now and then infinite, and left out, while the loss's scale is being found
    bad = [(i, name) for name in names for i in np.flatnonzero(~np.isfinite(series[name]))[:1]]
    if bad:
        at, name = min(bad, key=lambda pair: pair[0])
        good = checkpoints.found(run.folder / "checkpoints")
        where = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint yet"
        raise BlowUp(
            f"the {names[name]} is {series[name][at]} at step {position.step + int(at) + 1}: {where}; "
            "try a lower --lr, --clip-norm 1, --recover 3 or --precision float32"
        )


def phase_function(run: Run, state: State, phase: RunConfig) -> Callable[..., Any]:
    """The compiled step for the phase's images and settings."""
    graph = None
    if phase.resolution != run.config.resolution:
        with abstract(), precision(phase.precision):  # the same network for other images: its weights are the state's
            graph = networks(phase, len(run.source.classes))[0]
        synchronize(graph, run.config.sync_bn)
    with run.strategy.scope():
        return train_function(state, phase, run.strategy, run.class_weights, graph)


def synchronize(model: keras.Model, over_replicas: bool) -> None:
    """Sets whether batch normalization takes its statistics over all replicas."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = over_replicas


def statistics_function(run: Run, state: State, phase: RunConfig) -> Callable[[], None]:
    """A function that measures batch normalization's statistics on the first batches; without --precise-bn, it does
    nothing."""
    if not run.config.precise_bn:
        return lambda: None
    with run.strategy.scope():
        function = precise_function(state, cut(state.plain, phase), run.strategy)
    return lambda: function(iter(training_data(run, run.config, 0)), tf.constant(run.config.precise_bn))


def stages(state: State, phase: RunConfig) -> tuple[str, ...]:
    """The stages whose norms the step tells, in its order; none without --watch."""
    variables = cut(state.model, phase).trained.trainable_variables
    return tuple(kernels_by_stage(state.model, variables)) if phase.watch else ()


def set_lr_scale(state: State, position: Position) -> None:
    rule_of(state.optimizer).lr_scale.assign(0.5**position.recoveries)


def calls(step: int, plan: Plan, speed: Speed) -> Iterator[int]:
    """The numbers of steps of each call to the epoch's end. A call ends at the next line of the log or checkpoint, or
    after about CALL_SECONDS."""
    begin = step // plan.steps_per_epoch * plan.steps_per_epoch
    end, first = begin + plan.steps_per_epoch, step
    while step < end:
        line = begin + ((step - begin) // plan.log_every + 1) * plan.log_every
        checkpoint = (step // plan.checkpoint_steps + 1) * plan.checkpoint_steps
        # The very first step goes alone: it compiles, and its loss is soon seen.
        n = 1 if step == first == 0 else min(min(line, checkpoint, end) - step, speed.steps_within(CALL_SECONDS))
        yield n
        step += n
