"""fit(TrainConfig) -> Result: opens data, network and folder, hands them to the loop, and keeps the outcome."""

import os
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
from trainers import checkpoints, runs
from trainers.config import TrainConfig, check, resolve, text
from trainers.data import Source, open_data
from trainers.loop import Plan, Position, make_plan, train
from trainers.optimizers import make_optimizer
from trainers.state import architecture, make_state, network, networks, precision
from trainers.strategy import make_strategy, visible_gpus


@dataclass(frozen=True)
class Result:
    """A finished run: its folder, and the figures of its result.json."""

    folder: Path
    figures: dict[str, Any]


def fit(config: TrainConfig, callbacks: Iterable[keras.callbacks.Callback] = ()) -> Result:
    """Trains a network, or goes on with a run. Raises InputError for what a user can put right.

    Callbacks are Keras's; they see batches as with steps_per_execution: one call for several steps.
    """
    config, folder = new_or_resumed(config)
    callbacks = list(callbacks)
    source, strategy, arch, plan, facts = prepare(config)
    config = replace(config, resolution=arch.resolution)
    with runs.locked(folder):
        if runs.is_finished(folder) and (result := runs.read_json(folder / runs.RESULT))["steps"] >= plan.steps:
            return Result(folder, result)
        resumed = runs.is_run(folder)
        if resumed:
            runs.same_classes(tuple(runs.read_json(folder / runs.CLASSES)), source.classes, folder)
            (folder / runs.RESULT).unlink(missing_ok=True)  # of fewer epochs
        else:
            runs.create(folder, config, facts.to_dict(), source.classes)
            if source.corrupt:
                (folder / "corrupt.txt").write_text("\n".join(source.corrupt) + "\n", encoding="utf-8")
        started = time.perf_counter()
        keras.utils.set_random_seed(config.seed)
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        with strategy.scope(), precision(config.precision):
            model, plain = networks(config, len(source.classes))
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = config.sync_bn
            optimizer = make_optimizer(config, plan.steps_per_epoch, model)
            state = make_state(model, optimizer, averaged=bool(config.ema), plain=plain)
            plain.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        position = Position()
        if resumed and (last := checkpoints.newest(folder / "checkpoints")):
            path, arrays, extra = last
            checkpoints.restore(state, arrays, path)
            position = Position(**extra)
        runs.rewind_metrics(folder, position.lines)
        figures = train(state, position, config, plan, source, folder, strategy, use_jit(config), callbacks)
        model, *_ = checkpoints.load_run(folder)
        model.save(folder / "model.keras")
        result = {
            "arch": config.arch,
            "data": config.data,
            "steps": position.step,
            "epochs": len(position.history),
            "train_loss": figures["loss"],
            "train_accuracy": figures["accuracy"],
            "val_loss": figures["val_loss"],
            "val_accuracy": figures["val_accuracy"],
            "val_top5": figures["val_top5"],
            "best_val_accuracy": figures["best_val_accuracy"],
            "params": facts.params,
            "macs": facts.macs,
            "images_per_second": figures["images_per_second"],
            "seconds": time.perf_counter() - started,
            "corrupt": len(source.corrupt),
            "run_dir": str(folder),
        }
        runs.write_json(folder / runs.RESULT, result)
    return Result(folder, result)


def dry_run(config: TrainConfig) -> dict[str, Any]:
    """Prints what a run would be, and returns it. Nothing is written."""
    config, folder = new_or_resumed(config)
    source, strategy, arch, plan, facts = prepare(config)
    config = replace(config, resolution=arch.resolution)
    replicas, classes = strategy.num_replicas_in_sync, len(source.classes)
    memory = facts.memory(config.batch_size // replicas, config.precision, training=True)
    print(text(config))
    print(f"""{arch.name}: {facts.params:,} parameters, {facts.macs:,} multiply-adds, {memory / 1e9:.2f} GB a replica
{source.train.size} training and {source.val.size} validation images of {classes} classes
{plan.steps} steps, {plan.steps_per_epoch} an epoch, on {replicas} replicas, into {folder}""")
    return {"config": asdict(config), "params": facts.params, "macs": facts.macs, "memory": memory, "steps": plan.steps,
            "steps_per_epoch": plan.steps_per_epoch, "run_dir": str(folder)}  # fmt: skip


def new_or_resumed(config: TrainConfig) -> tuple[TrainConfig, Path]:
    """The resolved configuration and the folder of the run to start or to go on with."""
    # A run must find its data from wherever it is evaluated or resumed.
    places: dict[str, Any] = {
        key: str(Path(value).absolute())
        for key in ("data", "data_dir")
        if (value := getattr(config, key)) and value != "digits" and Path(value).is_dir()
    }
    config, wanted = replace(config, **places), config.resume
    if wanted == "auto":
        here = Path(config.run_dir) if config.run_dir else None
        wanted = str(here) if here and runs.is_run(here) else None
    if wanted is None:
        config = resolve(config)
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


def prepare(config: TrainConfig) -> tuple[Source, tf.distribute.Strategy, kcnn.Arch, Plan, kcnn.Facts]:
    """Everything that can be wrong with a run, found out before anything is written."""
    arch = architecture(config)
    strategy = make_strategy(config)
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise InputError(f"batch-size {config.batch_size}: a multiple of the {replicas} replicas is needed")
    source = open_data(config.data, data_dir=config.data_dir, val_split=config.val_split, seed=config.seed,
                       on_corrupt=config.on_corrupt)  # fmt: skip
    plan = make_plan(config, source.train.size)
    with abstract():
        network(config, len(source.classes))
    facts = kcnn.facts(arch, classes=len(source.classes), stem="standard")
    needed = facts.memory(config.batch_size // replicas, config.precision, training=True) * replicas
    if not visible_gpus() and needed > physical_memory():
        raise InputError(f"batch-size {config.batch_size} of {arch.name} at {arch.resolution} pixels needs about "
                         f"{needed / 1e9:.0f} GB in training, this machine has {physical_memory() / 1e9:.0f} GB: "
                         "a smaller batch, width or resolution is needed")  # fmt: skip
    return source, strategy, arch, plan, facts


def use_jit(config: TrainConfig) -> bool:
    """XLA pays off on GPUs; on CPUs it makes depthwise networks several times slower."""
    return config.jit == "on" or (config.jit == "auto" and bool(visible_gpus()))


def writable(folder: Path) -> None:
    """Raises InputError where the folder could not be made or written to."""
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {parent}: name a folder of yours with --run-dir")
