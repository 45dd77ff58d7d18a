"""How files of a run are written: whole or not at all, and never through a symbolic link."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kcnn.errors import InputError


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once the block has ended and its bytes are on the disk.

    If the block fails, or the process is killed, what stood at `path` before still stands there. A symbolic link at
    `path` is replaced and its target is left alone. Raises InputError where the disk is full or cannot be written to.
    """
    path = Path(path)
    # Nobody can have put a link in the place of a name that was drawn just now, and O_EXCL would refuse it.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def write_bytes(path: Path | str, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)


def write_text(path: Path | str, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def _sync_folder(folder: Path) -> None:
    """Puts a new name on the disk, too, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
