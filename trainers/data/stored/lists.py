"""Lists of images with their labels, as CSV or JSON lines, found and read as if they were folders of class folders."""

import codecs
import csv
import itertools
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
BAR = "|"  # between the labels of an image
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


def members(key: str) -> list[str]:
    """The labels of a set, by the name under which `Listed` has it."""
    return key.split(BAR) if key else []


def key_of(labels: Iterable[str], where: str) -> str:
    """The name of a set of labels. Raises InputError for a label that it could not hold."""
    found = sorted(set(labels))
    for label in found:
        if BAR in label:
            raise InputError(f"{where}: label {label!r}; with several labels an image, one without {BAR!r} is needed")
    return BAR.join(found)


def open_list(path: str, skip: bool, multi_label: bool = False) -> Tree:
    """The images of a list, as a tree whose root is the path of the list. With `multi_label` its classes are sets of
    labels (see `members`).

    Raises InputError for a line that is wrong, and, unless `skip` is set, for a file that is missing or no file.
    """
    folder = os.path.dirname(path)
    listed, found = read_list(path, folder, multi_label)
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


def read_list(path: str, home: str, multi_label: bool = False) -> tuple[Listed, dict[bytes, int]]:
    """What a list says, and the line of each image. Raises InputError.

    Its paths must lead into `home`, the list's folder, or below it: then data is one folder, which can be moved and
    converted, and a stranger's list shows no file from anywhere else.
    """
    files: dict[str, dict[str, list[bytes]]] = {}
    lines: dict[tuple[str, str], int] = {}
    found: dict[bytes, int] = {}
    for number, row in _rows(path):
        if "labels" in row and not multi_label:
            raise InputError(f"{_line(path, number)}: labels, any number of them; --multi-label is needed")
        labels = row["labels"] if "labels" in row else [row["label"]]
        label = key_of(labels, _line(path, number)) if multi_label else labels[0]
        place, part = _place(path, home, number, row["path"]), row.get("split", "")
        if (first := found.setdefault(place, number)) != number:
            raise InputError(f"{_line(path, number)}: '{shown(place)}' is in line {first} already; list an image once")
        if part not in files:
            if "" in (part, *files) and files:
                raise InputError(f"{_line(path, number)}: all lines need a split, or none; mend the list")
            if "split" in row and part not in PARTS:
                raise InputError(f"{_line(path, number)}: split {brief(repr(part), 40)}; train, val or test is needed")
            files[part] = {}
        if label not in files[part]:
            _check_labels(path, number, members(label) if multi_label else [label])
            files[part][label], lines[part, label] = [], number
        files[part][label].append(place)
    if not files:
        raise InputError(f"list '{shown(path)}' names no image; a line for each is needed")
    lines = {(PARTS.get(part, part), label): number for (part, label), number in reversed(lines.items())}
    return Listed(path, _merged(files), lines), found


def write_rows(path: str, home: str) -> Iterator[str]:
    """A list as JSON lines, with paths below `home`, for `read_list`."""
    for number, row in _rows(path):
        place = os.fsdecode(_place(path, home, number, row["path"]))[len(home.rstrip("/")) + 1 :]
        kept = {key: row[key] for key in ("label", "labels", "split") if key in row}
        yield json.dumps({"path": place} | kept) + "\n"


def images_of(path: str) -> list[str]:
    """The images of a list, which need no labels here, below its folder. Raises InputError for a line that is wrong."""
    folder, home = os.path.dirname(path), os.path.dirname(os.path.abspath(path))
    found = []
    for number, row in _rows(path, labelled=False):
        _place(path, home, number, row["path"])
        found.append(os.path.normpath(os.path.join(folder, row["path"])))
    return found


def has_labels(path: str) -> bool:
    """Whether a list gives its images any number of labels."""
    return any("labels" in row for _, row in itertools.islice(_rows(path), 1))


def _rows(path: str, labelled: bool = True) -> Iterator[tuple[int, Row]]:
    return (_json_rows if path.lower().endswith(".jsonl") else _csv_rows)(path, labelled)


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


def _check_labels(path: str, number: int, labels: list[str]) -> None:
    for label in labels:
        if not _is_text(label):  # JSON can hold halves of characters
            raise InputError(f"{_line(path, number)}: label {label!r}; a name in UTF-8 is needed")
    check_classes(labels, _line(path, number))
    for label in labels:
        if label.startswith("/") or label != label.strip():
            raise InputError(f"{_line(path, number)}: label {label!r}; one without a slash or blanks around is needed")


def _is_text(label: str) -> bool:
    return label.encode("utf-8", "ignore").decode() == label


def _csv_rows(path: str, labelled: bool) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(_lines(path), strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        _check_columns(path, columns, labelled)
        for row in reader:
            if len(row) != len(columns):
                raise InputError(
                    f"{_line(path, reader.line_num)}: {len(row)} values, and the first line names {len(columns)} "
                    "columns; put a value that holds a comma into quotes"
                )
            values: Row = dict(zip(columns, row, strict=True))
            if "labels" in values:
                values["labels"] = [label.strip() for label in members(values["labels"].strip())]
            yield reader.line_num, values
    except csv.Error as error:
        raise InputError(f"{_line(path, reader.line_num)}: no CSV ({error}); mend the line") from None


def _check_columns(path: str, columns: list[str], labelled: bool) -> None:
    labels = not labelled or {"label", "labels"} & set(columns)
    if "path" in columns and labels and len(set(columns)) == len(columns):
        return
    text = ",".join(columns)
    for separator, name in _SEPARATORS.items():
        if "path" in text.split(separator):
            raise InputError(f"{_line(path, 1)}: {name} between the columns; commas are needed: path,label")
    raise InputError(
        f"{_line(path, 1)}: the names of the columns are needed, each once: path,label or path,label,split; "
        f"found {brief(repr(text), 60)}"
    )


def _json_rows(path: str, labelled: bool) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(_lines(path), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{_line(path, number)}: no JSON ({brief(error, 80)}); mend the line") from None
        labels = isinstance(row, dict) and (not labelled or {"label", "labels"} & row.keys())
        if not labels or "path" not in row:
            raise InputError(f'{_line(path, number)}: an object with path and label is needed: {{"path": "cat/1.jpg", '
                             f'"label": "cat"}}; found {brief(repr(row), 60)}')  # fmt: skip
        for key in row.keys() & {"path", "label", "split"}:
            if key == "label" and type(row[key]) is int:
                row[key] = str(row[key])
            if not isinstance(row[key], str):
                raise InputError(f"{_line(path, number)}: {key} {brief(repr(row[key]), 60)}; text is needed")
        labels = row.get("labels", [])
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise InputError(f"{_line(path, number)}: labels {brief(repr(labels), 60)}; a list of texts is needed")
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
