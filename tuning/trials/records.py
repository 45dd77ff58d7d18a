"""The files of a search's folder: every name stays inside it, and what is read was checked.

A folder may come from a stranger, and a file may have been cut off or edited. Nothing in it is believed before it was
looked at, and what is wrong with it is told in one line that names the file.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from kcnn.errors import InputError

MOST_BYTES = 2**28  # of a file; the largest sweeps need some megabytes
MOST_WHOLE = 2**63
PLAIN = re.compile(r"\w[\w.+-]{0,199}")  # a name of one file, which cannot lead anywhere else
WORDS = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false", type(None): "nothing"}


def inside(folder: Path, *names: str) -> Path:
    """folder/name/..., for names that were read from a file and places that are about to be written.

    Raises InputError for a name that could lead out of the folder, and where a symbolic link does.
    """
    path = folder
    for name in names:
        if not PLAIN.fullmatch(name.removeprefix(".")):
            raise InputError(f"{folder} names {name!r}: a plain name of a file is needed, which leads nowhere else")
        path /= name
        if path.is_symlink():
            raise InputError(f"{path} is a symbolic link: nothing is written through it, so put a folder in its place")
    return path


def claimed(folder: Path) -> Path:
    """Makes a folder of this name, or with a number behind it where another process was faster."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        path = folder.with_name(f"{folder.name}-{number}") if number else folder
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            break
    return path


def of_all(error: BaseException) -> bool:
    """Whether what befell one training would befall every other, too: a full disk, a folder that is gone."""
    causes = [error]
    while cause := causes[-1].__cause__:
        causes.append(cause)
    full = "No space left on device"  # as TensorFlow's own errors have it
    return any(isinstance(cause, OSError) or full in str(cause) for cause in causes)


def need_whole(**flags: tuple[int, int, int]) -> None:
    """Raises InputError for a flag whose value is not from its least to its most: name=(value, least, most)."""
    for name, (value, least, most) in flags.items():
        if not least <= value <= most:
            shown = f"{name.replace('_', '-')} {brief(value)}"
            raise InputError(f"{shown}: a whole number of {least} or more is needed, at most {most:,}")


def read(path: Path, kind: Any) -> Any:
    """What a JSON file holds, as the type describes it (see `typed`). Raises InputError."""
    return typed(kind, parsed(content(path), str(path)), str(path))


def read_lines(path: Path, check: Callable[[Any, str], Any] = lambda row, place: row) -> list[Any]:
    """The values of a file of JSON lines, each passed through check(value, place). Raises InputError.

    A last line that was cut off while it was written does not count, and a file that is not there has none.
    """
    if not path.exists():
        return []
    lines = [line for line in content(path).splitlines(keepends=True) if line.endswith("\n")]
    places = [f"{path}, line {number}" for number in range(1, len(lines) + 1)]
    return [check(parsed(line, place), place) for line, place in zip(lines, places, strict=True)]


def content(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path} is not there, or no file")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise InputError(f"{path} has {size:,} bytes: at most {MOST_BYTES:,} are read")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: {error}") from None


def parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a whole number of 5,000 digits is a ValueError, too
        raise InputError(f"{place} is damaged: {error}") from None


def typed(kind: Any, value: Any, place: str) -> Any:
    """The value as a type describes it: dataclasses from their fields by name, tuples from lists, finite numbers.

    Raises InputError, which names the place, for a value of another type.
    """
    origin, args = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return made(kind, value, place)
    if origin is Annotated:
        return typed(args[0], value, place)
    if origin in (Union, types.UnionType):
        return one_of(args, value, place)
    if origin in (list, Sequence) and isinstance(value, list):
        return [typed(args[0], v, f"{place}: {i}") for i, v in enumerate(value)]
    if origin is tuple and isinstance(value, list | tuple):
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            return tuple(typed(k, v, f"{place}: {i}") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {typed(args[0], k, place): typed(args[1], v, f"{place}: {k}") for k, v in value.items()}
    if kind is Any or (origin is Literal and value in args) or (kind in WORDS and is_plain(kind, value)):
        return value
    needed = f"one of {', '.join(map(str, args))}" if origin is Literal else WORDS.get(kind, f"a {kind}")
    raise InputError(f"{place}: {brief(value)} is there, {needed} is needed")


def one_of(kinds: Sequence[Any], value: Any, place: str) -> Any:
    """The value as the first type that it is of; where it is of none, what the first one says against it."""
    objections = []
    for kind in sorted(kinds, key=lambda kind: kind is type(None)):
        try:
            return typed(kind, value, place)
        except InputError as error:
            objections.append(error)
    raise objections[0]


def named(kinds: Mapping[str, Any], value: Any, place: str, optional: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """An object whose values of these names are of these types; what else it holds is left as it is."""
    value = typed(dict[str, Any], value, place)
    for name in kinds:
        if name not in value:
            raise InputError(f"{place}: {name} is missing")
    checked = {n: typed(k, value[n], f"{place}: {n}") for n, k in {**kinds, **optional}.items() if n in value}
    return value | checked


def made(kind: Any, value: Any, place: str) -> Any:
    """A dataclass from its fields. A field whose default is None may be None, whatever its type says."""
    if not isinstance(value, dict):
        raise InputError(f"{place}: {brief(value)} is there, named values are needed")
    hints, given = hints_of(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            empty = value[field.name] is None and field.default is None
            given[field.name] = None if empty else typed(hints[field.name], value[field.name], f"{place}: {field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{place}: {field.name} is missing")
    if unknown := sorted(map(str, value.keys() - given.keys())):
        raise InputError(f"{place}: {unknown[0]!r} is not known there")
    return kind(**given)


@cache
def hints_of(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def is_plain(kind: type, value: Any) -> bool:
    if kind is float:
        return number(value)
    if kind is int:
        return number(value) and isinstance(value, int)
    if kind is str and isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)  # which cannot be written
    return isinstance(value, kind)


def number(value: Any) -> bool:
    """Whether it is a finite number that any computation takes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < MOST_WHOLE
    return isinstance(value, float) and math.isfinite(value)


def brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
