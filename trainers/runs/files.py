"""How the files of a run are written and read.

They are written whole or not at all, and never through a symbolic link; they are read with bounds on their size and
depth, as they may be damaged, or come from a stranger. What cannot be written or read is an InputError of one line.
"""

import contextlib
import json
import os
import re
import secrets
import stat
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from kcnn.errors import InputError
from trainers.runs.typed import brief

# The files of a run.
CONFIG, FACTS, METRICS, RESULT, CLASSES = "config.yaml", "facts.json", "metrics.jsonl", "result.json", "classes.json"

LARGEST = 2**25  # bytes of a file that is read at once
LARGEST_YAML = 2**20  # bytes: PyYAML takes seconds for as many
LONGEST_LINE = 2**20  # bytes of a line of JSON
MOST_DIGITS = 19  # of a whole number: those of 64 bits
MOST_NODES = 2**20  # lists and objects of a JSON text
MOST_YAML_NODES = 20_000
DEEPEST = 50  # lists and objects inside each other

# Strings are skipped, as they may hold brackets.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Gives the path for a new file, which takes the place of `path` once the block has ended and it is on the disk.

    If the block fails, or the process is killed, what stood at `path` before still stands there. A symbolic link at
    `path` is replaced, and its target is left alone. Raises InputError where the disk is full or cannot be written to.
    """
    path = Path(path)
    # Nobody can have put a link in the place of a name that was drawn just now.
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a file that cannot be written."""
    if not path.parent.is_dir():
        return InputError(f"cannot write {path}: its folder is gone; it was removed or renamed meanwhile")
    return InputError(f"cannot write {path}: {error.strerror or error}")


def write_bytes(path: Path | str, data: bytes) -> None:
    with replacing(path) as partial, open(partial, "xb") as file:
        file.write(data)


def write_text(path: Path | str, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def append_line(path: Path | str, line: str) -> None:
    """Adds a line to a file, whole or not at all."""
    path = Path(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with open(descriptor, "ab", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            try:
                data = memoryview(f"{line}\n".encode())
                while data:
                    data = data[file.write(data) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
    except OSError as error:
        if path.is_symlink():
            raise InputError(f"cannot write {path}: it is a symbolic link, which a run does not follow") from error
        raise unwritable(path, error) from error


def remove_partial(folder: Path) -> None:
    """Removes what killed processes left half written in a folder."""
    for path in folder.glob(".*.partial*"):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Puts a new name on the disk, too, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[BinaryIO]:
    """An open file. Raises InputError where it cannot be read, or is a pipe or a device, on which reading may wait."""
    try:
        # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"cannot read {path}: it is not a regular file")
            yield file
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def read_text(path: Path | str, largest: int = LARGEST) -> str:
    with reading(path) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise InputError(f"cannot read {path}: it has more than {largest:,} bytes, and no such file of kcnn has")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path}: it is not UTF-8 ({error.reason} at byte {error.start})") from None


def read_json(path: Path | str, kind: type = object) -> Any:
    """The value of a JSON file, which must be of the Python type `kind`."""
    return parse_json(read_text(path), str(path), kind)


def read_json_lines(path: Path | str) -> Iterator[dict[str, Any]]:
    """The objects of a file with one a line; a last line that was cut off while it was written does not count."""
    with reading(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
            if line.endswith(b"\n") or len(line) == LONGEST_LINE:
                yield parse_json(line, f"{path}, line {number}", dict)


def parse_json(text: str | bytes, where: str, kind: type = object) -> Any:
    """The value of a JSON text of the Python type `kind`; NaN and Infinity count as numbers. Raises InputError."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        _refuse_nested(text)
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON as kcnn writes it: {brief(error)}") from None
    if not isinstance(value, kind):
        raise InputError(f"{where} holds {type(value).__name__}, where {kind.__name__} is needed")
    return value


def _refuse_nested(text: str) -> None:
    depth = nodes = 0
    for token in _BRACKETS.finditer(text):
        if token[0] in "[{":
            depth, nodes = depth + 1, nodes + 1
            if depth > DEEPEST or nodes > MOST_NODES:
                raise ValueError(
                    f"it has more than {MOST_NODES:,} lists and objects"
                    if depth <= DEEPEST
                    else f"lists and objects are more than {DEEPEST} deep in each other"
                )
        elif token[0] in "]}":
            depth -= 1


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"{_twice(name for name, _ in pairs)!r} is there twice")
    return values


def _twice(names: Iterable[str]) -> str | None:
    """The first name that comes a second time."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS + digits.startswith("-"):
        raise ValueError(f"a whole number has {len(digits)} digits")
    return int(digits)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The values of a YAML file by name: text, numbers, lists of these. Raises InputError."""
    text = read_text(path, LARGEST_YAML)
    try:
        values = yaml.load(text, Loader=_Loader)
    except Exception as error:  # PyYAML raises a dozen kinds for what it does not understand
        raise InputError(f"{path} is not YAML as kcnn writes it: {brief(error)}") from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(f"{path} holds {type(values).__name__}, not flags: lines like `epochs: 10` are needed")
    for name in values:
        if not isinstance(name, str):
            raise InputError(f"{path} sets {name!r}, which is no name: lines like `epochs: 10` are needed")
    return values


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, which can make gigabytes of a few hundred bytes, and with bounds."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self.depth = self.nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not taken")
        self.depth, self.nodes = self.depth + 1, self.nodes + 1
        if self.depth > DEEPEST or self.nodes > MOST_YAML_NODES:
            raise yaml.YAMLError(f"values are more than {DEEPEST} deep in each other, or more than {MOST_YAML_NODES:,}")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            name = _twice(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            if name is not None:
                raise yaml.YAMLError(f"{name!r} is there twice")
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        value = super().construct_yaml_int(node)
        if abs(value) >= 10**MOST_DIGITS:
            raise yaml.YAMLError(f"a whole number of more than {MOST_DIGITS} digits")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
