"""Checkpoints: each is one file, whole or not there; every array in it has a checksum that reading verifies.

A checkpoint is an .npz (a zip, whose CRC-32s reveal flipped bytes and truncation) of a run's variables by name and
of a JSON text. It knows no strategy: what two replicas wrote, one can read.
"""

import errno
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.builder import abstract
from kcnn.errors import InputError
from trainers.distribute.surroundings import visible_gpus
from trainers.network import network
from trainers.runs import folders
from trainers.runs.files import parse_json, reading, remove_partial, replacing
from trainers.runs.typed import brief
from trainers.settings import RunConfig
from trainers.state import State

Arrays = dict[str, np.ndarray]
Checkpoint = tuple[Path, Arrays, dict[str, Any]]  # the last: what a Position remembers
Shapes = dict[str, tuple[tuple[int, ...], str]]  # a shape and a dtype by name

BEST = "best.npz"


class Damaged(InputError):
    """A checkpoint can be read, and does not hold what was written."""


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
    path = folder / f"{name}.npz"
    # The run's folder is not made: where it has vanished, somebody removed it.
    with replacing(path) as partial:
        folder.mkdir(exist_ok=True)
        with open(partial, "xb") as file:
            np.savez(file, **arrays, extra=np.array(json.dumps(extra)))
    return path


def link(path: Path, name: str) -> None:
    """Gives a checkpoint a second name, which `prune` does not take away with it; no copy is made."""
    with replacing(path.with_name(f"{name}.npz")) as partial:
        try:
            os.link(path, partial)
        except OSError:  # not every file system has links
            shutil.copyfile(path, partial)


def load(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """A checkpoint's arrays and what was saved with them.

    Raises Damaged for a file that is not what was written, and InputError for one that cannot be read at all.
    """
    with reading(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                arrays = members(archive, os.fstat(file.fileno()).st_size)
            return arrays, parse_json(str(arrays.pop("extra")), "what was saved with it", dict)
        # A flipped bit in the zip's directory can end in any exception that zipfile, zlib, struct or NumPy know.
        except Exception as error:
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise  # the disk or the network failed: the file may be whole
            raise Damaged(f"checkpoint {path} is damaged ({brief(error) or type(error).__name__})") from error


def members(archive: zipfile.ZipFile, size: int) -> Arrays:
    """The arrays of an .npz of `size` bytes; nothing is allocated that the file cannot fill."""
    listed = archive.infolist()
    if sum(member.file_size for member in listed) > size or len({m.filename for m in listed}) < len(listed):
        raise ValueError("its directory lists more than it holds")
    arrays = {}
    for member in listed:
        with archive.open(member) as file:
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = header[np.lib.format.read_magic(file)](file)
            data = file.read()
        if fortran or not dtype.isnative or dtype.hasobject:
            raise ValueError(f"{member.filename} is not as it was written: {dtype.str}, fortran_order {fortran}")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"{member.filename} has {len(data):,} bytes, which are not {shape} of {dtype}")
        arrays[member.filename.removesuffix(".npy")] = np.frombuffer(data, dtype).reshape(shape)
    return arrays


def shapes(targets: dict[str, Any]) -> Shapes:
    """The shapes and dtypes of variables, which the arrays of a checkpoint must have."""
    return {key: (tuple(v.shape), tf.as_dtype(v.dtype).name) for key, v in targets.items()}


def compare(expected: Shapes, arrays: Arrays, path: Path) -> None:
    """Raises InputError where names, shapes or dtypes are not this run's."""
    for key in sorted(expected.keys() ^ arrays.keys()):
        raise InputError(
            f"checkpoint {path} is of another run: {key!r} is {'missing' if key in expected else 'unknown'}"
        )
    for key, (shape, dtype) in expected.items():
        array = arrays[key]
        if (array.shape, array.dtype.name) != (shape, dtype):
            raise InputError(
                f"checkpoint {path}: {key!r} is {array.shape} of {array.dtype.name}, this run has {shape} of {dtype}"
            )


def restore(state: State, arrays: Arrays, path: Path) -> None:
    """Sets a run's variables. Raises InputError where names or shapes are not this run's."""
    targets = variables(state)
    compare(shapes(targets), arrays, path)
    for key, variable in targets.items():
        variable.assign(arrays[key])


def found(folder: Path) -> list[Path]:
    """Checkpoints by step, newest first."""
    steps = {path: re.fullmatch(r"step-(\d+)\.npz", path.name) for path in folder.glob("step-*.npz")}
    return sorted((path for path, match in steps.items() if match), key=lambda path: int(path.stem[5:]), reverse=True)


def newest(folder: Path, check: Callable[[Path, Arrays, dict[str, Any]], None] | None = None) -> Checkpoint | None:
    """The newest checkpoint that is whole and passes the check. It logs and sets aside those that are not.

    The best one comes last, as it may be older. The result is None where there is no checkpoint. Raises InputError, and
    changes nothing, where none of them is whole, or one cannot be read at all.
    """
    tried: list[tuple[Path, InputError]] = []
    best = folder / BEST
    for path in [*found(folder), *([best] if best.exists() else [])]:
        try:
            arrays, extra = load(path)
        except Damaged as error:
            tried.append((path, error))
            continue
        except InputError as error:
            raise InputError(f"{error}: make it readable, or move it away to go on from the one before it") from error
        try:
            if check:
                check(path, arrays, extra)
        except InputError as error:
            tried.append((path, error))
            continue
        for other, reason in tried:
            aside = set_aside(other)
            tf.get_logger().warning("%s: set aside as %s; the run goes on from %s", reason, aside.name, path.name)
        return path, arrays, extra
    if tried:
        raise InputError(
            f"none of the {len(tried)} checkpoints in {folder} can be used, the newest: {tried[0][1]}; put one back "
            "from a copy, or begin a run elsewhere with --config and this run's config.yaml"
        )
    return None


def set_aside(path: Path) -> Path:
    """Renames a damaged checkpoint, to a name that is still free, so that a person can look at it."""
    aside = next(p for p in folders.numbered(path.with_name(f"{path.name}.damaged")) if not os.path.lexists(p))
    path.rename(aside)
    return aside


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest checkpoints by step, and what killed processes left half written."""
    for path in found(folder)[keep:]:
        path.unlink(missing_ok=True)
    remove_partial(folder)


def step_name(step: int) -> str:
    return f"step-{step:09d}"


def final_model(config: RunConfig, arrays: Arrays, classes: int, path: Path) -> keras.Model:
    """The network of a checkpoint in float32 (moving averages, if any), free of strategies and optimizers.

    Raises InputError where the checkpoint is not of this network, before any memory is taken for its weights, and where
    a weight is NaN or infinite. (Answers alone would not tell: TensorFlow's ReLU turns NaN into 0 on a CPU.)
    """
    part = "ema" if any(key.startswith("ema/") for key in arrays) else "model"
    arrays = {key: array for key, array in arrays.items() if key.startswith(f"{part}/")}
    with abstract():
        expected = shapes({f"{part}/{v.path}": v for v in network(config, classes).weights})
    compare(expected, {key: arrays[key] for key in arrays if key in expected}, path)
    for key in expected:
        need_finite(arrays[key], f"checkpoint {path}: a number of {key!r}", path.stem)
    model = network(config, classes)
    for v in model.weights:
        v.assign(arrays[f"{part}/{v.path}"])
    return model


def load_run(folder: Path | str, checkpoint: str = "last") -> tuple[keras.Model, RunConfig, tuple[str, ...]]:
    """A run's network, configuration and class names; `checkpoint`: last or best. Raises InputError."""
    folder, config, classes = folders.open_run(folder)
    visible_gpus()
    paths = found(folder / "checkpoints") if checkpoint == "last" else [folder / "checkpoints" / BEST]
    if not paths or not paths[0].exists():
        raise InputError(f"{folder} has no {checkpoint} checkpoint: the run must have come to the end of an epoch")
    return final_model(config, load(paths[0])[0], len(classes), paths[0]), config, classes


def need_finite(values: Any, what: str, checkpoint: str) -> None:
    """Raises InputError where one of the values is NaN or infinite."""
    bad = np.asarray(values)[~np.isfinite(values)]
    if bad.size:
        other = "train again with a lower --lr or --clip-norm 1"
        advice = other if checkpoint == "best" else f"choose --checkpoint best, or {other}"
        raise InputError(f"{what} is {bad.flat[0]}, no finite number: {advice}")
