"""Checkpoints: one file each, whole or not there; every array in it has a checksum that reading verifies.

A checkpoint is an .npz (a zip, whose CRC-32s reveal flipped bytes and truncation) of a run's variables by name and
of a JSON text. It knows no strategy: what two replicas wrote, one can read.
"""

import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.distribute.strategy import visible_gpus
from trainers.network import network
from trainers.runs import folders
from trainers.settings import RunConfig
from trainers.state import State

Arrays = dict[str, np.ndarray]
Checkpoint = tuple[Path, Arrays, dict[str, Any]]  # the last: what a Position remembers


def variables(state: State) -> dict[str, Any]:
    """A run's variables by the names they are saved under."""
    weights = state.model.weights
    return (
        {f"model/{v.path}": v for v in weights}
        | {f"ema/{v.path}": average for v, average in zip(weights, state.ema, strict=bool(state.ema))}
        | {f"optimizer/{i}": v for i, v in enumerate(state.optimizer.variables)}
        | {"step": state.step}
    )


def save(folder: Path, name: str, state: State, extra: dict[str, Any]) -> Path:
    """Writes folder/name.npz beside its place and moves it there in one step, once it is on the disk.

    Raises InputError where the disk is full or cannot be written to; what was there before is still there then.
    """
    arrays = {key: v.numpy() for key, v in variables(state).items()}
    path, partial = folder / f"{name}.npz", folder / f".{name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            np.savez(file, **arrays, extra=np.array(json.dumps(extra)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"cannot write checkpoint {path}: {error.strerror or error}") from error
    return path


def link(path: Path, name: str) -> None:
    """Gives a checkpoint a second name, which `prune` does not take away with it; no copy is made."""
    partial = path.with_name(f".{name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
    except OSError:  # not every file system has links
        shutil.copyfile(path, partial)
    os.replace(partial, path.with_name(f"{name}.npz"))


def load(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """A checkpoint's arrays and what was saved with them. Raises InputError for a damaged file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        return arrays, json.loads(str(arrays.pop("extra")))
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError) as error:
        raise InputError(f"checkpoint {path} is damaged or cannot be read ({error})") from error


def restore(state: State, arrays: Arrays, path: Path) -> None:
    """Sets a run's variables. Raises InputError where names or shapes are not this run's."""
    targets = variables(state)
    for key in targets.keys() ^ arrays.keys():
        raise InputError(
            f"checkpoint {path} is of another run: {key!r} is {'missing' if key in targets else 'unknown'}"
        )
    for key, variable in targets.items():
        if tuple(variable.shape) != arrays[key].shape:
            raise InputError(f"checkpoint {path}: {key!r} is {arrays[key].shape}, this run has {tuple(variable.shape)}")
        variable.assign(arrays[key])


def restore_weights(model: keras.Model, arrays: Arrays) -> None:
    """Sets a network's weights, to their moving averages where the checkpoint has them."""
    for v in model.weights:
        v.assign(arrays.get(f"ema/{v.path}", arrays.get(f"model/{v.path}")))


def found(folder: Path) -> list[Path]:
    """Checkpoints by step, newest first."""
    return sorted(folder.glob("step-*.npz"), reverse=True)


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are told, renamed and passed over."""
    for path in found(folder):
        try:
            return path, *load(path)
        except InputError as error:
            tf.get_logger().warning("%s: set aside as %s.damaged, the one before is used", error, path.name)
            path.rename(path.with_name(f"{path.name}.damaged"))
    return None


def prune(folder: Path, keep: int) -> None:
    for path in found(folder)[keep:]:
        path.unlink()
    for path in folder.glob(".*.partial"):
        path.unlink()


def step_name(step: int) -> str:
    return f"step-{step:09d}"


def final_model(config: RunConfig, arrays: Arrays, classes: int) -> keras.Model:
    """The network of a checkpoint in float32 (moving averages, if any), free of strategies and optimizers."""
    model = network(config, classes)
    restore_weights(model, arrays)
    return model


def load_run(folder: Path | str, checkpoint: str = "last") -> tuple[keras.Model, RunConfig, tuple[str, ...]]:
    """A run's network, configuration and class names; `checkpoint`: last or best. Raises InputError."""
    folder, config, classes = folders.open_run(folder)
    visible_gpus()
    paths = found(folder / "checkpoints") if checkpoint == "last" else [folder / "checkpoints" / "best.npz"]
    if not paths or not paths[0].exists():
        raise InputError(f"{folder} has no {checkpoint} checkpoint: the run must have come to the end of an epoch")
    return final_model(config, load(paths[0])[0], len(classes)), config, classes
