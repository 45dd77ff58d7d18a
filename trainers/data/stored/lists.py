"""Lists of images with their labels, as CSV or JSON lines, found and read as if they were folders of class folders."""

import codecs
import csv
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from kcnn.errors import InputError
from trainers.data.names import check_classes, shown
from trainers.data.stored.trees import DISK, Tree
from trainers.runs.files import LONGEST_LINE, reading
from trainers.runs.typed import brief

SUFFIXES = (".csv", ".jsonl")
PARTS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
_MOST = 10**7  # lines
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Listed:
    """What the list at `path` says.

    files: {part: {label: absolute paths}}, with the part "" where it names none. lines: where each label of a part
    comes first.
    """

    path: str
    files: dict[str, dict[str, list[bytes]]]
    lines: dict[tuple[str, str], int]


def is_list(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not os.path.isdir(name)


def list_of(path: str) -> str | None:
    """The list that a path names, or one part of which it names; None where it names none."""
    place = path if os.path.lexists(path) else os.path.dirname(path)
    return place if is_list(place) and os.path.lexists(place) else None


def open_list(path: str, skip: bool) -> Tree:
    """The images of a list, as a tree whose root is the path of the list.

    Raises InputError for a line that is wrong, and, unless `skip` is set, for a file that is missing or no file.
    """
    folder = os.path.dirname(path)
    listed, found = read_list(path, folder)
    for place, number in () if skip else found.items():
        kind = _kind(place)
        if kind != "a file":
            raise InputError(
                f"{_line(path, number)}: '{shown(place)}' is {kind}; mend the list, or use --on-corrupt skip"
            )
    tree = over(DISK, listed, path, folder, lambda place: _kind(place) in ("a file", "not there") if skip else True)
    return replace(tree, name=os.path.basename(path))


def over(tree: Tree, listed: Listed, root: str, home: str, is_file: Callable[[bytes], bool]) -> Tree:
    """The tree with the parts and classes of a list. home: the folder that the list's paths are below."""

    def part(path: str) -> str:
        return path[len(root) :].strip("/")

    def subfolders(path: str) -> list[str]:
        return sorted(listed.files.get(part(path), {}))

    def walk(folder: str, label: str, _: Any) -> Iterator[tuple[bytes, str]]:
        for place in listed.files[part(folder.removesuffix(label))][label]:
            yield place, "file" if is_file(place) else "other"

    def line(path: str, label: str) -> str:
        return _line(listed.path, listed.lines[part(path), label])

    parts = tuple(sorted(listed.files.keys() - {""}))
    return replace(tree, subfolders=subfolders, walk=walk, parts=parts, home=home, line=line)


def read_list(path: str, home: str) -> tuple[Listed, dict[bytes, int]]:
    """What a list says, and the line of each image. Raises InputError.

    Its paths must lead into `home`, the list's folder, or below it: then data is one folder, which can be moved and
    converted, and a stranger's list shows no file from anywhere else.
    """
    files: dict[str, dict[str, list[bytes]]] = {}
    lines: dict[tuple[str, str], int] = {}
    found: dict[bytes, int] = {}
    for number, row in _json_rows(path) if path.lower().endswith(".jsonl") else _csv_rows(path):
        place, label, part = _place(path, home, number, row["path"]), row["label"], row.get("split", "")
        if (first := found.setdefault(place, number)) != number:
            raise InputError(f"{_line(path, number)}: '{shown(place)}' is in line {first} already; list an image once")
        if part not in files:
            if "split" in row and part not in PARTS:
                raise InputError(f"{_line(path, number)}: split {brief(repr(part), 40)}; train, val or test is needed")
            files[part] = {}
        if label not in files[part]:
            _check_label(path, number, label)
            files[part][label], lines[part, label] = [], number
        files[part][label].append(place)
    if not files:
        raise InputError(f"list '{shown(path)}' names no image; a line for each is needed")
    lines = {(PARTS.get(part, part), label): number for (part, label), number in reversed(lines.items())}
    return Listed(path, _merged(files), lines), found


def write_rows(listed: Listed, home: str) -> Iterator[str]:
    """The list as JSON lines, with paths below `home`."""
    for part, labels in sorted(listed.files.items()):
        for label, places in sorted(labels.items()):
            for place in places:
                path = os.fsdecode(place)[len(home.rstrip("/")) + 1 :]
                yield json.dumps({"path": path, "label": label} | ({"split": part} if part else {})) + "\n"


def _merged(files: dict[str, dict[str, list[bytes]]]) -> dict[str, dict[str, list[bytes]]]:
    """The files with validation as val."""
    merged: dict[str, dict[str, list[bytes]]] = {}
    for part, labels in files.items():
        into = merged.setdefault(PARTS.get(part, part), {})
        for label, places in labels.items():
            into[label] = [*into.get(label, []), *places]
    return merged


def _place(path: str, home: str, number: int, text: str) -> bytes:
    """The absolute path of an image."""
    place = os.path.normpath(os.path.join(home, text))
    try:
        encoded = os.fsencode(place)
    except UnicodeEncodeError:
        encoded = b"\0"
    if not text or b"\0" in encoded:
        raise InputError(f"{_line(path, number)}: path {brief(ascii(text), 60)}; the name of an image file is needed")
    if not place.startswith(home.rstrip("/") + "/"):
        raise InputError(
            f"{_line(path, number)}: {brief(repr(text), 60)} leads out of the list's folder, {home}; "
            "put the list into a folder above all of its images"
        )
    return encoded


def _check_label(path: str, number: int, label: str) -> None:
    check_classes([label], _line(path, number))
    if label.startswith("/") or label != label.strip():
        raise InputError(f"{_line(path, number)}: label {label!r}; one without a slash or blanks at its ends is needed")


def _csv_rows(path: str) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(_lines(path), strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        _check_columns(path, columns)
        for row in reader:
            if len(row) != len(columns):
                raise InputError(
                    f"{_line(path, reader.line_num)}: {len(row)} values, and the first line names {len(columns)} "
                    "columns; put a value that holds a comma into quotes"
                )
            yield reader.line_num, dict(zip(columns, row, strict=True))
    except csv.Error as error:
        raise InputError(f"{_line(path, reader.line_num)}: no CSV ({error}); mend the line") from None


def _check_columns(path: str, columns: list[str]) -> None:
    if {"path", "label"} <= set(columns) and len(set(columns)) == len(columns):
        return
    text = ",".join(columns)
    for separator, name in _SEPARATORS.items():
        if {"path", "label"} <= {column.strip() for column in text.split(separator)}:
            raise InputError(f"{_line(path, 1)}: {name} between the columns; commas are needed: path,label")
    raise InputError(
        f"{_line(path, 1)}: the names of the columns are needed, each once: path,label or path,label,split; "
        f"found {brief(repr(text), 60)}"
    )


def _json_rows(path: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(_lines(path), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{_line(path, number)}: no JSON ({brief(error, 80)}); mend the line") from None
        if not isinstance(row, dict) or not {"path", "label"} <= row.keys():
            raise InputError(f'{_line(path, number)}: an object with path and label is needed: {{"path": "cat/1.jpg", '
                             f'"label": "cat"}}; found {brief(repr(row), 60)}')  # fmt: skip
        if type(row["label"]) is int:
            row["label"] = str(row["label"])
        for key in row.keys() & {"path", "label", "split"}:
            if not isinstance(row[key], str):
                raise InputError(f"{_line(path, number)}: {key} {brief(repr(row[key]), 60)}; text is needed")
        yield number, row


def _lines(path: str) -> Iterator[str]:
    """The lines of a file in UTF-8, none of them empty. Raises InputError."""
    with reading(path) as file:
        chunks: Iterable[bytes] = iter(lambda: file.readline(LONGEST_LINE), b"")
        for number, line in enumerate(chunks, 1):
            if number == 1:
                if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise InputError(f"{_line(path, 1)}: the list is in UTF-16; save it as UTF-8")
                line = line.removeprefix(codecs.BOM_UTF8)
            if len(line) == LONGEST_LINE or number > _MOST:
                raise InputError(f"{_line(path, number)}: at most {_MOST:,} lines of {LONGEST_LINE:,} bytes are taken")
            if not line.strip():
                raise InputError(f"{_line(path, number)}: the line is empty; remove it")
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{_line(path, number)}: no text in UTF-8; save the list as UTF-8") from None


def _line(path: str, number: int) -> str:
    return f"list '{shown(path)}', line {number}"


def _kind(path: bytes) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "not there"
    folder = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
    return "a file" if stat.S_ISREG(mode) else folder
