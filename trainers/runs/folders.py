"""A run's folder: its files, its lock, and how it is opened again."""

import contextlib
import itertools
import json
import re
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import filelock

from kcnn.arch import Arch
from kcnn.errors import InputError
from trainers.config import AUTO, RESUMABLE, TrainConfig
from trainers.data.names import check_classes
from trainers.recipes import RECIPES
from trainers.runs.files import (
    CLASSES,
    CONFIG,
    FACTS,
    METRICS,
    RESULT,
    append_line,
    read_json,
    read_json_lines,
    read_text,
    replacing,
    write_json,
    write_text,
)
from trainers.runs.typed import brief, checked
from trainers.settings import RunConfig, read, resolve, text

NETWORK = "network.json"  # the JSON of the user's own network
RANGE_TEST = "range_test.json"  # of `kcnn find-lr`, and of a run with --lr find
# The types of config.yaml's values. Recipes have filled in all but these, which the network or the devices may decide.
OPEN = ("arch", "drop", "drop_path", "progressive", "strategy", "jit")
SAVED = get_type_hints(TrainConfig, include_extras=True) | {
    name: kind for name, kind in get_type_hints(RunConfig).items() if hasattr(TrainConfig, name) and name not in OPEN
}
FOLDERS = ("checkpoints", "train", "validation")  # folders inside a run's to which training writes


def folder_of(config: TrainConfig) -> Path:
    """Where a new run goes: --run-dir, or logs/<arch>-<data>-<time>, which `claim` makes."""
    if config.run_dir:
        return Path(config.run_dir)
    name = re.sub(r"[^\w.-]+", "-", config.arch.name if isinstance(config.arch, Arch) else config.arch)
    data = re.sub(r"[^\w.-]+", "-", Path(config.data).name.removeprefix("tfds:")) or "data"
    stem = Path("logs") / f"{name}-{data}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(path for path in numbered(stem) if not path.exists())


def claim(folder: Path) -> Path:
    """Makes a folder of this name, or with a number behind it where another process was faster."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for path in numbered(folder):
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError("numbers have no end")


def numbered(path: Path) -> Iterator[Path]:
    """name, name-1, name-2, ..."""
    yield path
    yield from (path.with_name(f"{path.name}-{i}") for i in itertools.count(1))


def is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def is_finished(folder: Path) -> bool:
    return (folder / RESULT).is_file()


def refuse_run(folder: Path) -> None:
    """Raises InputError where the folder holds a run."""
    if is_run(folder):
        state = "finished" if is_finished(folder) else "unfinished"
        raise InputError(
            f"{folder} holds a run already ({state}): go on with `--resume {folder}`, or name another folder"
        )


def create(folder: Path, config: RunConfig, facts: dict[str, Any], classes: tuple[str, ...]) -> None:
    """Writes what is known of a run before its first step. Raises InputError where the folder holds a run."""
    refuse_run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FACTS, facts)
    write_json(folder / CLASSES, list(classes))
    # Its folder is left out, so that --config with this file starts another run.
    if config.own_network:
        write_text(folder / NETWORK, config.own_network)
    write_text(folder / CONFIG, text(replace(config.flags, run_dir=None, resume=None)))


def open_run(folder: Path | str) -> tuple[Path, RunConfig, tuple[str, ...]]:
    """A run's folder, its configuration and class names. Raises InputError for what is no run."""
    folder = Path(folder)
    if not is_run(folder):
        what = "no run (it has no config.yaml)" if folder.is_dir() else "no folder"
        raise InputError(f"{str(folder)!r} is {what}: the folder of a run of `kcnn train` is needed, logs/...")
    return folder, read_config(folder), read_classes(folder)


def read_config(folder: Path) -> RunConfig:
    """The configuration of a run. Raises InputError for what cannot have come from a run."""
    path = folder / CONFIG
    values = read(path)
    # Runs of earlier versions have fewer settings.
    usual = {f.name: f.default for f in fields(TrainConfig)} | RECIPES.get(str(values.get("recipe")), {})
    values = usual | values | {"run_dir": str(folder)}
    checked(values, SAVED, str(path))
    if values["jit"] == "auto":  # of an earlier version, where it stood for what is now the default
        values["jit"] = None
    network = read_text(folder / NETWORK) if (folder / NETWORK).exists() else None
    try:
        return resolve(TrainConfig(**values), network)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_classes(folder: Path) -> tuple[str, ...]:
    """The class names of a run, in the order of its logits."""
    path = folder / CLASSES
    names = read_json(path, list)
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise InputError(f"{path}: a list of class names is needed, each of them once; it was changed by hand")
    check_classes(names, str(path))
    return tuple(names)


def read_result(folder: Path) -> dict[str, Any]:
    """The figures of a finished run."""
    path = folder / RESULT
    result = read_json(path, dict)
    told = {"evidence": list[str], "advice": list[str]} if "verdict" in result else {}
    checked(
        result,
        dict.fromkeys(("steps", "planned", "epochs"), int)
        | told
        | dict.fromkeys(("val_accuracy", "val_loss", "seconds"), float),
        str(path),
    )
    return result


def same_run(saved: TrainConfig, asked: TrainConfig) -> TrainConfig:
    """The saved configuration with the asked values of RESUMABLE flags. Raises InputError for any other change.

    What auto chose when the run began stays as it is.
    """
    asked = replace(asked, **{name: getattr(saved, name) for name in AUTO if getattr(asked, name) == "auto"})
    for field in fields(TrainConfig):
        old, new = getattr(saved, field.name), getattr(asked, field.name)
        found = field.name == "time" or (field.name == "lr" and new == "find")  # what they ask for was found
        if field.name not in RESUMABLE and old != new and not found:
            name = field.name.replace("_", "-")
            raise InputError(f"{name} {new!r}: the run in {saved.run_dir} has {old!r}, and a resumed run keeps it")
    return replace(saved, **{name: getattr(asked, name) for name in RESUMABLE})


def unfinished(config: RunConfig, left_open: Collection[str] = ()) -> str | None:
    """The newest run in logs/ with this configuration that neither finished nor is being written to.

    left_open: settings that may be others, besides those that may change. Folders that cannot be read, or hold no
    whole run, are passed over.
    """
    free = {*left_open, *RESUMABLE} if "epochs" in left_open else {*left_open, *RESUMABLE} - {"epochs"}
    found = []
    for path in Path("logs").glob(f"*/{CONFIG}"):
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime, path.parent))
    for _, folder in sorted(found, reverse=True):
        with contextlib.suppress(InputError, OSError):
            _, saved, _ = open_run(folder)
            changed = {
                f.name for f in fields(TrainConfig) if getattr(saved.flags, f.name) != getattr(config.flags, f.name)
            }
            changed -= {name for name in AUTO if getattr(config.flags, name) == "auto"}
            if config.flags.lr == "find" and (folder / RANGE_TEST).is_file():
                changed -= {"lr"}
            if not is_finished(folder) and changed <= free:
                with locked(folder):
                    return str(folder)
    return None


def same_classes(classes: tuple[str, ...], found: tuple[str, ...], run: Path | str) -> None:
    """Raises InputError where the data's classes are not the run's."""
    if tuple(classes) != tuple(found):
        new, gone = sorted(set(found) - set(classes)), sorted(set(classes) - set(found))
        raise InputError(
            f"the data's {len(found)} classes are not the {len(classes)} that {run} was trained on: "
            f"new {brief(new[:5])}, missing {brief(gone[:5])}"
        )


def as_asked(saved: TrainConfig, config: TrainConfig) -> TrainConfig:
    """The saved flags with those values of `config` that are not defaults."""
    return replace(saved, **{f.name: v for f in fields(TrainConfig) if (v := getattr(config, f.name)) != f.default})


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for one writer; the lock goes with its process, however that ends."""
    path = folder / ".lock"
    if path.is_symlink():
        raise InputError(f"{path} is a symbolic link, which a run does not follow: remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(f"{folder} is in use by a live run: wait for it, or name another folder") from None
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def refuse_links(folder: Path) -> None:
    """Raises InputError where training would write outside the run's folder."""
    for name in FOLDERS:
        if (folder / name).is_symlink():
            raise InputError(f"{folder / name} is a symbolic link, which a run does not follow: put a folder there")


def append_metrics(folder: Path, line: dict[str, Any]) -> None:
    append_line(folder / METRICS, json.dumps(line))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics. Raises InputError for a damaged one."""
    return list(lines_of(folder))


def lines_of(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / METRICS
    if path.exists():
        yield from read_json_lines(path)


def last_step(folder: Path) -> int:
    """The highest step that has figures."""
    return max((line["step"] for line in lines_of(folder) if isinstance(line.get("step"), int)), default=0)


def lines_of_epochs(folder: Path, epochs: int) -> int:
    """How many lines of metrics there are up to the end of an epoch."""
    ends = (number for number, line in enumerate(lines_of(folder), 1) if "val_loss" in line)
    return next(itertools.islice(ends, epochs - 1, None), 0) if epochs else 0


def rewind_metrics(folder: Path, lines: int) -> int:
    """Removes the lines written after a checkpoint, as their steps are about to be repeated.

    Returns how many lines are left. Where that is fewer than `lines`, it prints so.
    """
    path, kept = folder / METRICS, 0
    if path.exists():
        with replacing(path) as partial, open(partial, "x", encoding="utf-8") as file:
            for line in itertools.islice(read_json_lines(path), lines):
                file.write(json.dumps(line) + "\n")
                kept += 1
    if kept < lines:
        print(f"{path} has only {kept} of the {lines} lines that the checkpoint remembers", file=sys.stderr)
    return kept
