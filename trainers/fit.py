"""fit(TrainConfig) -> Result: opens data, network and folder, hands them to the loop, and keeps the outcome."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import kcnn
from kcnn.builder import abstract, physical_memory
from kcnn.errors import InputError
from trainers import checkpoints, provenance, runs, workers
from trainers.card import findings, write_card
from trainers.config import TrainConfig
from trainers.curves import plan_text
from trainers.data import open_data
from trainers.evaluation import evaluate_train_sample
from trainers.files import replacing, write_json, write_text
from trainers.job import SERIES, Job, Position, make_class_weights, make_plan, position_of
from trainers.loop import set_lr_scale, synchronize, train
from trainers.optimizers import make_optimizer
from trainers.phases import sized
from trainers.settings import check, checkpoint_steps, resolve, text
from trainers.signals import Stopped, stop_signals
from trainers.state import State, architecture, make_state, network, networks, precision
from trainers.strategy import make_strategy, strategy_name, visible_gpus


@dataclass(frozen=True)
class Result:
    """A finished run: its folder, and the figures of its result.json; whether this process is the one that wrote it."""

    folder: Path
    figures: dict[str, Any]
    chief: bool = True


def fit(config: TrainConfig, callbacks: Iterable[keras.callbacks.Callback] = ()) -> Result:
    """Trains a network, or goes on with a run. Raises InputError for what a user can put right.

    Callbacks are Keras's; they see batches as with steps_per_execution: one call for several steps. Of several
    workers each calls its own, and only the chief writes the run's folder.
    """
    # Workers must have met before one of them can tell the others which run it is.
    met = make_strategy(config) if strategy_name(config) == "multi-worker" else None
    job = prepare(*workers.from_chief(met, lambda: new_or_resumed(config)))
    with contextlib.ExitStack() as stack:
        folder, done, changed = workers.from_chief(job.strategy, lambda: enter(job, stack))
        job = replace(job, folder=folder)
        if done:
            return Result(folder, done, job.chief)
        stack.enter_context(stop_signals(leave=lambda number: Stopped(number, folder)))
        stack.enter_context(workers.noticing_loss(job.strategy, folder))
        started = time.perf_counter()
        state = make(job)
        position = go_on(job, state)
        if job.chief:
            position.lines = runs.rewind_metrics(folder, position.lines)
            if changed:
                change = {"epoch": len(position.history) + 1, "what": changed}
                provenance.record(folder, job.source, [*provenance.accepted(folder), change])
        figures = train(job, state, position, use_jit(job.config), list(callbacks))
        result = outcome(job, position, figures) | {"seconds": time.perf_counter() - started}
        result |= workers.from_chief(job.strategy, lambda: conclude(job, position, result))
    return Result(folder, result, job.chief)


def enter(job: Job, stack: contextlib.ExitStack) -> tuple[Path, dict[str, Any] | None, str]:
    """Locks the run's folder, and makes it where there is none.

    Returns the folder; the outcome of a run that has ended; what became another in its data, where that is accepted.
    """
    source, folder = job.source, job.folder if job.config.run_dir else runs.claim(job.folder)
    stack.enter_context(runs.locked(folder))
    runs.refuse_links(folder)
    if not runs.is_run(folder):
        provenance.record(folder, source, [])
        if source.corrupt:
            write_text(folder / "corrupt.txt", "\n".join(source.corrupt) + "\n")
        runs.create(folder, job.config, job.facts.to_dict(), source.classes)
        return folder, None, ""
    if runs.is_finished(folder):
        result = runs.read_result(folder)
        if result["planned"] >= job.config.epochs * first_steps_per_epoch(job):
            return folder, result, ""
    runs.same_classes(runs.read_classes(folder), source.classes, folder)
    changed = provenance.difference(folder, source)
    if changed and job.config.data_changed == "refuse":
        raise InputError(f"the data of {folder} is not what the run began with: {changed}. Put back what it was, or "
                         "go on with --data-changed accept")  # fmt: skip
    (folder / runs.RESULT).unlink(missing_ok=True)  # of fewer epochs
    if provenance.recorded(folder) is None:  # an earlier version began the run
        provenance.record(folder, source, [])
    return folder, None, changed


def first_steps_per_epoch(job: Job) -> int:
    """Steps of an epoch of the data that was recorded in the run's folder, or else of the data that is there."""
    found = provenance.recorded(job.folder)
    return found["train"]["images"] // job.config.global_batch if found else job.plan.steps_per_epoch


def go_on(job: Job, state: State) -> Position:
    """Sets the state to the run's newest checkpoint, if it has one. Returns where in the run that is."""
    last = workers.from_chief(job.strategy, lambda: last_checkpoint(job, state))
    if last is None:
        return Position(steps_per_epoch=job.plan.steps_per_epoch)
    path, arrays, extra = last
    checkpoints.restore(state, arrays, path)
    position = Position(**extra)
    set_lr_scale(state, position)
    if position.steps_per_epoch not in (0, job.plan.steps_per_epoch):  # there are more images now, or fewer
        position.step = len(position.history) * job.plan.steps_per_epoch
        position.epoch = {name: [] for name in SERIES}
        state.step.assign(position.step)
        state.optimizer.iterations.assign(position.step)
        if job.chief:
            position.lines = runs.lines_of_epochs(job.folder, len(position.history))
    position.steps_per_epoch = job.plan.steps_per_epoch
    return position


def last_checkpoint(job: Job, state: State) -> checkpoints.Checkpoint | None:
    """Raises InputError where checkpoints were lost, and a start from the beginning would hide it."""
    likeness = checkpoints.likeness(checkpoints.variables(state))

    def check(path: Path, arrays: checkpoints.Arrays, extra: dict[str, Any]) -> None:
        checkpoints.compare(likeness, arrays, path)
        position_of(extra, int(arrays["step"]), f"checkpoint {path}")

    folder = job.folder / "checkpoints"
    last = checkpoints.newest(folder, check)
    if last is None and (steps := runs.last_step(job.folder)) > surely_kept(job):
        raise InputError(f"{job.folder} has figures up to step {steps}, and {folder} has no checkpoint: put it back, "
                         f"or remove {job.folder / runs.METRICS} to begin the run anew")  # fmt: skip
    return last


def surely_kept(job: Job) -> int:
    """The step after which a run has a checkpoint, with the --checkpoint-every of its start and with today's."""
    every = [checkpoint_steps(config) or sys.maxsize for config in (runs.read_config(job.folder), job.config)]
    return min(first_steps_per_epoch(job), max(every))


def make(job: Job) -> State:
    """Network, optimizer and averages, with the weights that the seed gives."""
    config = job.config
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    with job.strategy.scope(), precision(config.precision):
        model, plain = networks(config, len(job.source.classes))
        synchronize(model, job)
        optimizer = make_optimizer(config, job.plan.steps_per_epoch, model)
        state = make_state(model, optimizer, averaged=bool(config.ema), plain=plain)
        plain.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return state


def outcome(job: Job, position: Position, figures: dict[str, float]) -> dict[str, Any]:
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_top5", "best_val_accuracy",
             "images_per_second")  # fmt: skip
    return {
        "arch": job.config.arch,
        "data": job.config.data,
        "steps": position.step,
        "planned": job.plan.steps,  # a run may stop early
        "epochs": len(position.history),
        **{name: figures[name.removeprefix("train_")] for name in names},
        "params": job.facts.params,
        "macs": job.facts.macs,
        "replicas": job.strategy.num_replicas_in_sync,
        "recoveries": position.recoveries,
        "corrupt": len(job.source.corrupt),
        "data_changes": provenance.accepted(job.folder) if job.chief else [],
        "run_dir": str(job.folder),
    }


def conclude(job: Job, position: Position, result: dict[str, Any]) -> dict[str, Any]:
    """Writes what a finished run leaves: the network, the card, and last of all the figures, to which it adds."""
    config, source, folder = job.config, job.source, job.folder
    model, *_ = checkpoints.load_run(folder)
    with replacing(folder / "model.keras") as partial:
        model.save(partial)
    sample = evaluate_train_sample(model, source.train, len(source.classes), config)
    found = findings(config, source, position.history, sample)
    write_card(folder, config, source, position.history, result | found)
    write_json(folder / runs.RESULT, result | found)
    return found


def dry_run(config: TrainConfig) -> dict[str, Any]:
    """Prints what a run would be, and returns it. Nothing is written."""
    job = prepare(*new_or_resumed(config))
    config, facts, plan, source = job.config, job.facts, job.plan, job.source
    replicas = job.strategy.num_replicas_in_sync
    memory = facts.memory(config.batch_size // replicas, config.precision, training=True)
    print(text(config))
    print(f"""{job.arch.name}: {facts.params:,} parameters, {facts.macs:,} multiply-adds
{memory / 1e9:.2f} GB of memory a replica
{source.train.size} training and {source.val.size} validation images of {len(source.classes)} classes
{plan.steps} steps, {plan.steps_per_epoch} an epoch, on {replicas} replicas, into {job.folder}

{plan_text(config, plan.steps_per_epoch)}""")
    return {"config": asdict(config), "params": facts.params, "macs": facts.macs, "memory": memory, "steps": plan.steps,
            "steps_per_epoch": plan.steps_per_epoch, "run_dir": str(job.folder)}  # fmt: skip


def new_or_resumed(config: TrainConfig) -> tuple[TrainConfig, Path]:
    """The settled configuration and the folder of the run to start or to go on with."""
    # A run must find its data from wherever it is evaluated or resumed.
    places: dict[str, Any] = {
        key: str(Path(value).absolute())
        for key in ("data", "data_dir")
        if (value := getattr(config, key)) and value != "digits" and Path(value).is_dir()
    }
    config, wanted = replace(config, **places), config.resume
    if wanted == "auto" and config.run_dir:
        wanted = config.run_dir if runs.is_run(Path(config.run_dir)) else None
    elif wanted == "auto":
        wanted = runs.unfinished(settle(config))
    if wanted is None:
        config = settle(config)
        folder = runs.folder_of(config)
        if runs.is_run(folder):
            runs.create(folder, config, {}, ())  # raises, and says what to do
        writable(folder)
        return config, folder
    folder, saved, _ = runs.open_run(wanted)
    asked = runs.as_asked(saved, replace(config, run_dir=str(folder), resume=None))
    config = runs.same_run(saved, asked)
    check(config)
    return config, folder


def settle(config: TrainConfig) -> TrainConfig:
    """The config with nothing left to the recipe, the devices or the network."""
    config = resolve(config)
    return replace(config, resolution=architecture(config).resolution)


def prepare(config: TrainConfig, folder: Path) -> Job:
    """Everything that can be wrong with a run, found out before anything is written."""
    arch = architecture(config)
    strategy = make_strategy(config)
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise InputError(f"batch-size {config.batch_size}: a multiple of the {replicas} replicas is needed")
    if (config.mixup or config.cutmix) and config.batch_size == replicas:
        raise InputError(f"batch-size {config.batch_size}: mixup and cutmix need 2 images or more in each replica, "
                         f"{2 * replicas} in all")  # fmt: skip
    if config.jit == "on" and config.sync_bn and replicas > 1:
        raise InputError("jit on: XLA cannot compile sync-bn over several replicas; choose one of the two")
    source = open_data(config.data, data_dir=config.data_dir, val_split=config.val_split, seed=config.seed,
                       on_corrupt=config.on_corrupt)  # fmt: skip
    plan = make_plan(config, source.train.size)
    class_weights = make_class_weights(config, source)
    with abstract():
        sides = [*(config.progressive or ()), config.resolution]
        shapes = [[v.shape for v in network(sized(config, side), len(source.classes)).weights] for side in sides]
    if any(other != shapes[-1] for other in shapes):
        raise InputError(f"progressive {config.progressive}: weights of {arch.name} depend on the resolution")
    facts = kcnn.facts(arch, classes=len(source.classes), stem="standard")
    local = replicas // workers.count(strategy)
    needed = facts.memory(config.batch_size // replicas, config.precision, training=True) * local
    if not visible_gpus() and strategy_name(config) != "tpu" and needed > physical_memory():
        raise InputError(f"batch-size {config.batch_size} of {arch.name} at {arch.resolution} pixels needs about "
                         f"{needed / 1e9:.0f} GB in training, this machine has {physical_memory() / 1e9:.0f} GB: "
                         "a smaller batch, width or resolution is needed, or --accumulate-steps")  # fmt: skip
    return Job(config, folder, source, strategy, arch, facts, plan, class_weights)


def use_jit(config: TrainConfig) -> bool:
    """XLA pays off on GPUs; on CPUs it makes depthwise networks several times slower; TPUs know nothing else."""
    if strategy_name(config) == "tpu":
        return False  # the strategy compiles all that it runs
    alone = config.sync_bn and strategy_name(config) != "one-device"  # what XLA cannot compile
    return config.jit == "on" or (config.jit == "auto" and bool(visible_gpus()) and not alone)


def writable(folder: Path) -> None:
    """Raises InputError where the folder could not be made or written to."""
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {parent}: name a folder of yours with --run-dir")
