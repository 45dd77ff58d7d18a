"""Versions of what was exported: numbered folders that are whole or not there, as servers watch for them."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock

PARTIAL = ".partial-"  # servers look at numbers only


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A folder of one's own inside `folder`, gone afterwards; what killed processes left of theirs goes with it."""
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    place = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
    lock = filelock.FileLock(place / "lock")
    try:
        with lock:
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where it is empty


def clear(folder: Path) -> None:
    """Removes the workplaces whose owners are no more: their locks went with them."""
    for place in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(filelock.Timeout, OSError), filelock.FileLock(place / "lock", timeout=0):
            shutil.rmtree(place, ignore_errors=True)


def publish(content: Path, folder: Path) -> Path:
    """Moves a folder to folder/<next version> in one step, once all of it is on the disk."""
    for path in (*content.rglob("*"), content):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    while True:
        taken = [int(p.name) for p in folder.iterdir() if p.name.isdecimal()]
        path = folder / str(max(taken, default=0) + 1)
        try:
            os.rename(content, path)
            return path
        except OSError:
            if not path.exists():  # else another export was faster
                raise
