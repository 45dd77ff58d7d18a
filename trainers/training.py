"""fit(TrainConfig) -> Result: it opens data, network and folder, hands them to the loop, and keeps the outcome."""

import contextlib
import functools
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kcnn.builder import abstract, physical_memory
from kcnn.errors import InputError
from kcnn.terminal.tables import as_html
from trainers.auto import duration
from trainers.auto.trial import decided, outlook, timed
from trainers.config import TrainConfig
from trainers.data import open_data
from trainers.distribute import workers
from trainers.distribute.signals import Stopped, stop_signals
from trainers.distribute.strategy import make_strategy
from trainers.distribute.surroundings import strategy_name, visible_gpus
from trainers.loop import Training, synchronize
from trainers.network import facts, network, networks, own_arch
from trainers.optim.optimizers import make_optimizer
from trainers.optim.range_test import RangeTest, as_tested, range_losses, range_test, write_range_test
from trainers.phases import cached, sized
from trainers.reports.conclusion import conclude, outcome
from trainers.reports.curves import plan_text
from trainers.run import Run, make_class_weights, make_plan
from trainers.runs import checkpoints, folders, provenance
from trainers.runs.asked import Opening, new_or_resumed, source_of
from trainers.runs.resuming import enter, go_on
from trainers.settings import RunConfig, plain, resolve, text
from trainers.state import State, make_state, precision
from trainers.transfer.features import featured
from trainers.transfer.parts import step_memory
from trainers.transfer.pretrained import start_from
from trainers.transfer.start import Start, start_from_run


@dataclass(frozen=True)
class Result:
    """A finished run: its folder and the figures of its result.json. chief: whether this process wrote them."""

    folder: Path
    figures: dict[str, Any]
    chief: bool = True

    def _repr_html_(self) -> str:
        """The final figures as a table, for notebooks."""
        told = {
            name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in self.figures.items()
        }
        return as_html(str(self.folder), ("figure", "value"), [list(pair) for pair in told.items()])


def fit(
    config: TrainConfig, model: keras.Model | None = None, callbacks: Iterable[keras.callbacks.Callback] = ()
) -> Result:
    """Trains a network, or goes on with a run. Raises InputError for what a user can put right.

    model: a network of one's own, which starts from the weights it has; pixels (batch, side, side, 3), values from 0 to
    255, to logits (batch, classes). It is copied; the trained one is in the run's folder.
    Callbacks are Keras's; they see batches as with steps_per_execution: one call for several steps. Of several
    workers each calls its own, and only the chief writes the run's folder.
    """
    started, opening = time.perf_counter(), functools.cache(open_data)
    if model is not None:
        config = replace(config, arch=own_arch(model))
    # Workers must have met before one of them can tell the others which run it is.
    together = strategy_name(config.strategy, config.replicas) == "multi-worker"
    met = make_strategy("multi-worker", config.replicas, config.worker_timeout) if together else None
    run = prepare(*workers.from_chief(met, lambda: new_or_resumed(config, model, opening)), opening)
    run = decided(run, functools.partial(timed, make=make))
    check_memory(run)  # which depends on the precision
    test = tested(run, model) if run.config.flags.lr == "find" else None
    if test:
        run = replace(run, config=resolve(replace(run.config.flags, lr=test.rate), run.config.own_network))
        print(f"lr {test.rate:g}: {test.evidence}", flush=True)
    if run.config.flags.time:
        run = timed_run(run, config, model, opening, started)
    with contextlib.ExitStack() as stack:
        folder, done, changed = workers.from_chief(run.strategy, lambda: enter(run, stack))
        run = replace(run, folder=folder)
        if done:
            return Result(folder, done, run.chief)
        if test and run.chief:
            write_range_test(folder, test)
        stack.enter_context(stop_signals(leave=lambda signum: Stopped(signum, folder)))
        stack.enter_context(workers.noticing_loss(run.strategy, folder))
        started = time.perf_counter()
        state = make(run, model)
        position = go_on(run, state)
        for line in (run.source.note, f"starts from {run.start.report}" if run.start else ""):
            if line and run.chief:
                print(line, flush=True)
        if run.chief:
            position.lines = folders.rewind_metrics(folder, position.lines)
            if changed:
                change = {"epoch": len(position.history) + 1, "what": changed}
                provenance.record(folder, run.source, [*provenance.accepted(folder), change])
        run = cached(replace(run, start=None))  # the arrays are in the network now
        figures = Training(featured(run, state), state, position, list(callbacks)).train()
        result = outcome(run, position, figures) | {"seconds": time.perf_counter() - started}
        result |= workers.from_chief(run.strategy, lambda: conclude(run, position, result))
    return Result(folder, result, run.chief)


def find_lr(config: TrainConfig) -> tuple[Path, RangeTest]:
    """Finds the peak of the learning rate for a run that is not started, whatever `config.lr` is.

    Returns the folder (--run-dir, or logs/ARCH-DATA-TIME) with the test's figures and picture, and the test. Raises
    InputError where it suggests no rate.
    """
    if config.resume or config.dry_run:
        what = f"resume {config.resume!r}" if config.resume else "dry-run"
        raise InputError(f"{what}: find-lr starts no run, and a resumed one keeps its learning rate; leave it out")
    run = prepare(*new_or_resumed(replace(config, lr="find")))
    test = tested(run)
    folder = Path(config.run_dir) if config.run_dir else folders.claim(run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_range_test(folder, test)
    assert test.rate  # or it raises, having left its picture
    return folder, test


def timed_run(run: Run, config: TrainConfig, model: keras.Model | None, opening: Opening, started: float) -> Run:
    """The run as long as --time allows, with all that depends on its length. started: when it was, by the clock."""
    pace = duration.measured(run, lambda run: make(run, model))
    flags, spent = run.config.flags, workers.mean(run.strategy, [time.perf_counter() - started])[0]
    epochs, why = duration.epochs_within(run, str(flags.time), pace, spent)
    if run.chief:
        print(f"time: {why}", flush=True)
    names = ("batch_size", "precision", "jit", *(("lr",) if config.lr == "find" else ()))  # which the pace is of
    asked = replace(config, epochs=epochs, time=None, resume=None, **{name: getattr(flags, name) for name in names})
    found, _ = workers.from_chief(run.strategy, lambda: new_or_resumed(asked, model, opening))
    return replace(run, config=found, plan=make_plan(found, run.source.train.size))


def tested(run: Run, model: keras.Model | None = None) -> RangeTest:
    """The range test of a run, on a network and an optimizer of its own: nothing of it stays."""
    run = replace(run, config=as_tested(run.config))
    state = make(run, model)
    with tempfile.TemporaryDirectory() as folder:  # for features, which the run's own folder will hold later
        losses = range_losses(featured(replace(run, folder=Path(folder)), state), state)
    normalized = any(isinstance(layer, keras.layers.BatchNormalization) for layer in state.model.layers)
    return range_test(losses, normalized)


def dry_run(config: TrainConfig) -> dict[str, Any]:
    """Prints the settings, costs and plan of a run, and returns them. It writes nothing."""
    run = prepare(*new_or_resumed(config))
    flags, facts, plan, source = run.config.flags, run.facts, run.plan, run.source
    replicas = run.strategy.num_replicas_in_sync
    memory = step_memory(facts, run.config, replicas)
    note = source.note and f"{source.note}\n"
    peak = "still to be found, drawn here as the recipe's" if flags.lr == "find" else f"{flags.lr:g}"
    print(text(flags))
    if flags.time:
        print(f"time {flags.time}: steps at the start of a run find its epochs, drawn here as {plan.epochs}")
    print(f"""{run.config.arch.name}: {facts.params:,} parameters, {facts.macs:,} multiply-adds
{memory / 1e9:.2f} GB of memory a replica
{source.train.size} training and {source.val.size} validation images of {len(source.classes)} classes
{note}{plan.steps} steps, {plan.steps_per_epoch} an epoch, on {replicas} replicas, into {run.folder}
{run.start.report if run.start else "random weights"} to start from{outlook(run)}
learning rate {peak}

{plan_text(run.config, plan.steps_per_epoch)}""")
    return {
        "config": plain(flags),
        "params": facts.params,
        "macs": facts.macs,
        "memory": memory,
        "steps": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "run_dir": str(run.folder),
    }


def prepare(config: RunConfig, folder: Path, opening: Opening = open_data) -> Run:
    """Opens all that a run needs. Raises InputError for anything that is wrong with it, before anything is written."""
    strategy = make_strategy(config.strategy, config.replicas, config.worker_timeout)
    check_devices(config, strategy.num_replicas_in_sync)
    source = source_of(config, opening, workers.from_chief(strategy, lambda: provenance.test_is_val(folder)))
    plan = make_plan(config, source.train.size)
    class_weights = make_class_weights(config, source)
    check_stages(config, len(source.classes))
    start = workers.from_chief(strategy, lambda: start_of(config, folder, source.classes))
    run = Run(config, folder, source, strategy, facts(config, len(source.classes)), plan, class_weights, start)
    check_memory(run)
    return run


def start_of(config: RunConfig, folder: Path, classes: tuple[str, ...]) -> Start | None:
    """The weights that the run starts from; None for random ones, and for a run that has a checkpoint to go on from."""
    begun = checkpoints.found(folder / "checkpoints") or (folder / "checkpoints" / checkpoints.BEST).exists()
    if not config.weights or begun:
        return None
    start = start_from_run if folders.is_run(Path(config.weights)) else start_from
    return start(config.weights, config, classes)


def check_devices(config: RunConfig, replicas: int) -> None:
    """Raises InputError for settings that so many replicas cannot share."""
    if config.batch_size % replicas:
        raise InputError(f"batch-size {config.batch_size}: a multiple of the {replicas} replicas is needed")
    if (config.mixup or config.cutmix) and config.batch_size == replicas:
        raise InputError(
            f"batch-size {config.batch_size}: mixup and cutmix need 2 images or more in each replica, "
            f"{2 * replicas} in all"
        )
    if config.flags.lr == "find" and config.strategy == "multi-worker":
        raise InputError("lr find: several workers do not look for it; give the rate that kcnn find-lr finds on one")
    if config.features_only and config.strategy in ("multi-worker", "tpu"):
        raise InputError(
            f"features-only: the features are computed on one machine, without --strategy {config.strategy}"
        )
    if config.multi_label and config.strategy in ("multi-worker", "tpu"):
        raise InputError(f"multi-label: the labels are evaluated on one machine, without --strategy {config.strategy}")
    if config.flags.jit == "on" and config.sync_bn and replicas > 1:
        raise InputError("jit on: XLA cannot compile sync-bn over several replicas; choose one of the two")


def check_stages(config: RunConfig, classes: int) -> None:
    """Raises InputError where the network has other weights at one of its resolutions, or cannot take one."""
    if not (config.progressive or config.weights):
        return  # the facts are drawn of the same network
    with abstract():
        sides = [*config.progressive, config.resolution]
        shapes = [[v.shape for v in network(sized(config, side), classes).weights] for side in sides]
    if any(other != shapes[-1] for other in shapes):
        sides = list(config.progressive)
        raise InputError(f"progressive {sides}: weights of {config.arch.name} depend on the resolution")


def check_memory(run: Run) -> None:
    """Raises InputError where a step would not fit into this machine's memory."""
    config, replicas = run.config, run.strategy.num_replicas_in_sync
    local = replicas // workers.count(run.strategy)
    needed = step_memory(run.facts, config, replicas) * local
    if not visible_gpus() and config.strategy != "tpu" and needed > physical_memory():
        raise InputError(
            f"batch-size {config.batch_size} of {config.arch.name} at {config.resolution} pixels needs "
            f"about {needed / 1e9:.0f} GB in training, this machine has {physical_memory() / 1e9:.0f} GB: "
            "a smaller batch, width or resolution is needed, --accumulate-steps or --recompute"
        )


def make(run: Run, model: keras.Model | None = None) -> State:
    """Makes network, optimizer and averages. The seed, a run, or the user's own model gives the weights."""
    config = run.config
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    with run.strategy.scope(), precision(config.precision):
        trained, plain = networks(config, len(run.source.classes))
        if model is not None:
            trained.set_weights(model.get_weights())
        if run.start:
            run.start.into(trained)
        synchronize(trained, config.sync_bn)
        optimizer = make_optimizer(config, run.plan.steps_per_epoch, trained)
        state = make_state(trained, optimizer, averaged=bool(config.ema), plain=plain)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if config.multi_label:
            loss = keras.losses.BinaryCrossentropy(from_logits=True)
        plain.compile(optimizer, loss, metrics=None if config.multi_label else ["accuracy"])
    return state
