"""Versions of an export: numbered folders, which are whole or not there, because servers watch for them."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock

from kcnn.errors import InputError
from trainers.distribute.signals import leaving

PARTIAL = ".partial-"  # servers look at numbers only
HIGHEST = 2**63 - 1  # TensorFlow Serving's versions are of type int64; it does not look at higher numbers


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder` for one export, removed afterwards; those of killed processes are removed
    before."""
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    place = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
    lock = filelock.FileLock(place / "lock")
    try:
        with lock, leaving(), naming_full_disks(folder):
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where it is empty


@contextlib.contextmanager
def naming_full_disks(folder: Path) -> Iterator[None]:
    """Turns the many errors, Python's and TensorFlow's, of a disk without room into one InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if reason := no_room(str(error)):
            raise InputError(f"cannot write to {folder}: {reason}") from error
        raise


def no_room(message: str) -> str | None:
    """The operating system's words for a full disk, a quota or a limit of file sizes, if the message has them."""
    reasons = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    return next((reason for reason in reasons if reason in message), None)


def clear(folder: Path) -> None:
    """Removes the workplaces whose processes have ended, and with them their locks."""
    for place in folder.glob(f"{PARTIAL}*"):
        if place.is_symlink() or not place.is_dir():
            continue
        with contextlib.suppress(filelock.Timeout, OSError), filelock.FileLock(place / "lock", timeout=0):
            shutil.rmtree(place, ignore_errors=True)


def publish(content: Path, folder: Path) -> Path:
    """Moves a folder to folder/<next version> in one step, once all of it is on the disk. Raises InputError."""
    synchronize(content)
    while True:
        path = folder / str(next_version(folder))
        try:
            os.rename(content, path)
            return path
        except OSError:
            if not os.path.lexists(path):  # else another export was faster
                raise


def next_version(folder: Path) -> int:
    """One more than the highest version, among the names that a server takes for versions: int64 in plain digits."""
    numbers = [int(p.name) for p in folder.iterdir() if re.fullmatch("[0-9]{1,30}", p.name)]
    highest = max((n for n in numbers if n <= HIGHEST), default=0)
    if highest == HIGHEST:
        raise InputError(f"{folder} holds version {HIGHEST}, the highest that there can be: name another folder, --out")
    return highest + 1


def synchronize(content: Path) -> None:
    """Waits until all files and names in a folder are on the disk."""
    for path in (*content.rglob("*"), content):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
