"""What runs there are, and what became of them, as far as their folders tell. It reads without TensorFlow.

A folder may be a stranger's: what is damaged is told in its own row, and all others are listed.
"""

import os
import re
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from kcnn.errors import InputError
from trainers.runs.files import CONFIG, FACTS, METRICS, RESULT, read_json, read_json_lines, read_yaml
from trainers.runs.typed import checked

# Folders inside a run's, which hold none, and of searches, which hold many.
INSIDE = {"checkpoints", "train", "validation", "saved_model", "evaluations"}


@dataclass(frozen=True)
class Entry:
    """A run as a list shows it.

    state: running, stopped (it can go on), finished or damaged. epoch: the last that ended, of `epochs`. best: its
    highest validation accuracy so far. changed: when it last wrote, in seconds since 1970. size: bytes. settings: of
    config.yaml. history: the figures of each epoch. result: of result.json, with params and macs before that, too.
    problem: what is damaged.
    """

    folder: Path
    state: str
    changed: float
    size: int
    arch: str = ""
    data: str = ""
    epoch: int = 0
    epochs: int = 0
    best: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        names = ("state", "arch", "data", "epoch", "epochs", "best", "changed", "size", "problem")
        return {"run_dir": str(self.folder)} | {name: getattr(self, name) for name in names}


def entries(places: Sequence[Path | str], *, deep: bool = True) -> list[Entry]:
    """The runs in these folders, each of which is a run or holds some, the newest first.

    deep: at any depth, as the trials of a search lie; else only one level down. Raises InputError where there are none.
    """
    found: dict[Path, None] = {}
    for place in map(Path, places):
        if not place.is_dir():
            raise InputError(f"{str(place)!r} is no folder: one of a run or of several, such as logs, is needed")
        here = list(folders(place, 50 if deep else 1))
        if not here:
            raise InputError(f"{str(place)!r} holds no run of `kcnn train` (a folder with config.yaml and facts.json)")
        found |= dict.fromkeys(here)
    return sorted(map(entry, found), key=lambda e: -e.changed)


def folders(place: Path, depth: int) -> Iterator[Path]:
    """The folders of runs at `place` or below, at most so many levels down. Links are not followed."""
    if (place / CONFIG).is_file() and (place / FACTS).is_file():
        yield place
        return
    if depth:
        below = sorted(child.path for child in os.scandir(place) if child.is_dir(follow_symlinks=False))
        for child in below:
            if Path(child).name not in INSIDE:
                yield from folders(Path(child), depth - 1)


def entry(folder: Path) -> Entry:
    """What a run's folder tells of it."""
    changed, size = weighed(folder)
    try:
        settings = read_yaml(folder / CONFIG)
        arch = settings.get("arch")
        arch = arch.get("name") if isinstance(arch, dict) else arch
        checked(settings | {"arch": arch}, {"arch": str, "data": str, "epochs": int}, str(folder / CONFIG))
        lines = read_json_lines(folder / METRICS) if (folder / METRICS).is_file() else ()
        history = [line for line in lines if "val_accuracy" in line]
        for line in history:
            numbers = dict.fromkeys(("val_accuracy", "val_loss", "train_loss", "train_accuracy"), float)
            checked({"train_loss": 0.0, "train_accuracy": 0.0} | known(line), numbers, str(folder / METRICS))
        facts = read_json(folder / FACTS, dict)
        result = {name: facts[name] for name in ("params", "macs") if isinstance(facts.get(name), int)}
        finished = (folder / RESULT).is_file()
        if finished:
            result |= read_json(folder / RESULT, dict)
            checked(result, {"val_accuracy": float, "seconds": float, "epochs": int}, str(folder / RESULT))
            told = ("params", "macs", "images_per_second", "latency_ms")
            checked(result, {name: float for name in told if name in result}, str(folder / RESULT))
    except (InputError, OSError) as error:
        return Entry(folder, "damaged", changed, size, problem=str(error))
    state = "finished" if finished else "running" if in_use(folder) else "stopped"
    return Entry(
        folder, state, changed, size, str(arch), settings["data"],
        len(history), settings["epochs"], max((line["val_accuracy"] for line in history), default=None),
        settings, [known(line) for line in history], result,
    )  # fmt: skip


def known(line: dict[str, Any]) -> dict[str, float]:
    """The figures that a line has; it holds null where one was infinite."""
    return {name: float("nan") if value is None else value for name, value in line.items()}


def weighed(folder: Path) -> tuple[float, int]:
    """When the newest file below a folder was written, and the bytes of all."""
    newest, size = 0.0, 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(root, name))
            except OSError:  # gone meanwhile
                continue
            if stat.S_ISREG(status.st_mode):
                newest, size = max(newest, status.st_mtime), size + status.st_size
    return newest, size


def in_use(folder: Path) -> bool:
    """Whether a live process writes to a run's folder. Nothing is changed in it."""
    path = folder / ".lock"
    if path.is_symlink() or not path.is_file():
        return False
    try:
        lock = filelock.FileLock(path)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # a folder that cannot be written to
        return False
    lock.release()
    return False


def spare(found: Entry) -> list[Path]:
    """The files of a finished run that nothing needs any more: its checkpoints but the last and the best one, and what
    was left of writing that was cut short. Where the last one is damaged, all stay."""
    folder = found.folder / "checkpoints"
    if found.state != "finished" or folder.is_symlink() or not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
    steps = {path: re.fullmatch(r"step-(\d+)\.npz", path.name) for path in files}
    by_step = sorted((path for path, match in steps.items() if match), key=lambda path: int(path.stem[5:]))
    cut_short = [path for path in files if path.name.startswith(".") and ".partial" in path.name]
    return [*(by_step[:-1] if by_step and whole(by_step[-1]) else []), *cut_short]


def whole(path: Path) -> bool:
    """Whether a checkpoint, which is a zip, holds what its checksums say."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return False
