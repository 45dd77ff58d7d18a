"""A run's folder: what is in it, who writes to it, and how it is opened again."""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import filelock

from kcnn.arch import Arch
from kcnn.errors import InputError
from trainers.config import RESUMABLE, TrainConfig
from trainers.settings import RunConfig, read, resolve, text

CONFIG, FACTS, METRICS, RESULT, CLASSES = "config.yaml", "facts.json", "metrics.jsonl", "result.json", "classes.json"
NETWORK = "network.json"  # of a run with the user's own


def folder_of(config: TrainConfig) -> Path:
    """Where a new run goes: --run-dir, or logs/<arch>-<data>-<time>."""
    if config.run_dir:
        return Path(config.run_dir)
    name = re.sub(r"[^\w.-]+", "-", config.arch.name if isinstance(config.arch, Arch) else config.arch)
    data = re.sub(r"[^\w.-]+", "-", Path(config.data).name.removeprefix("tfds:")) or "data"
    stem = Path("logs") / f"{name}-{data}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(p for i in range(1000) if not (p := stem.with_name(stem.name + (f"-{i}" if i else ""))).exists())


def is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def is_finished(folder: Path) -> bool:
    return (folder / RESULT).is_file()


def create(folder: Path, config: RunConfig, facts: dict[str, Any], classes: tuple[str, ...]) -> None:
    """Writes what is known before the first step. Raises InputError where a run is there already."""
    if is_run(folder):
        state = "finished" if is_finished(folder) else "unfinished"
        raise InputError(
            f"{folder} holds a run already ({state}): go on with `--resume {folder}`, or name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FACTS, facts)
    write_json(folder / CLASSES, list(classes))
    # Not its own place: given to --config, it starts another run.
    if config.own_network:
        write_text(folder / NETWORK, config.own_network)
    write_text(folder / CONFIG, text(replace(config.flags, run_dir=None, resume=None)))


def open_run(folder: Path | str) -> tuple[Path, RunConfig, tuple[str, ...]]:
    """A run's folder, its configuration and class names. Raises InputError for what is no run."""
    folder = Path(folder)
    if not is_run(folder):
        what = "no run (it has no config.yaml)" if folder.is_dir() else "no folder"
        raise InputError(f"{str(folder)!r} is {what}: the folder of a run of `kcnn train` is needed, logs/...")
    flags = TrainConfig(**read(folder / CONFIG) | {"run_dir": str(folder)})
    network = (folder / NETWORK).read_text("utf-8") if (folder / NETWORK).is_file() else None
    return folder, resolve(flags, network), tuple(read_json(folder / CLASSES))


def same_run(saved: TrainConfig, asked: TrainConfig) -> TrainConfig:
    """The saved configuration with what may change on the way. Raises InputError for what may not."""
    for field in fields(TrainConfig):
        old, new = getattr(saved, field.name), getattr(asked, field.name)
        if field.name not in RESUMABLE and old != new:
            name = field.name.replace("_", "-")
            raise InputError(f"{name} {new!r}: the run in {saved.run_dir} has {old!r}, and a resumed run keeps it")
    return replace(saved, **{name: getattr(asked, name) for name in RESUMABLE})


def unfinished(config: TrainConfig) -> str | None:
    """The newest run in logs/ with these flags, each with its value, that neither finished nor is being written to."""
    for path in sorted(Path("logs").glob(f"*/{CONFIG}"), key=lambda path: path.stat().st_mtime, reverse=True):
        folder = path.parent
        with contextlib.suppress(InputError):
            _, saved, _ = open_run(folder)
            changed = [f.name for f in fields(TrainConfig) if getattr(saved.flags, f.name) != getattr(config, f.name)]
            if not is_finished(folder) and set(changed) <= set(RESUMABLE) - {"epochs"}:
                with locked(folder):
                    return str(folder)
    return None


def same_classes(classes: tuple[str, ...], found: tuple[str, ...], run: Path | str) -> None:
    """Raises InputError where the data's classes are not the run's."""
    if tuple(classes) != tuple(found):
        new, gone = sorted(set(found) - set(classes)), sorted(set(classes) - set(found))
        raise InputError(f"the data's {len(found)} classes are not the {len(classes)} that {run} was trained on: "
                         f"new {new[:5]}, missing {gone[:5]}")  # fmt: skip


def as_asked(saved: TrainConfig, config: TrainConfig) -> TrainConfig:
    """The saved flags with those values of `config` that are not just defaults."""
    return replace(saved, **{f.name: v for f in fields(TrainConfig) if (v := getattr(config, f.name)) != f.default})


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for one writer; the lock goes with its process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(f"{folder} is in use by a live run: wait for it, or name another folder") from None
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, content: str) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def append_metrics(folder: Path, line: dict[str, Any]) -> None:
    with open(folder / METRICS, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / METRICS
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.endswith("}")]


def rewind_metrics(folder: Path, lines: int) -> None:
    """Takes back the lines written after a checkpoint, as their steps are about to be repeated."""
    path = folder / METRICS
    if path.exists():
        kept = path.read_text("utf-8").splitlines(keepends=True)[:lines]
        write_text(path, "".join(kept))
