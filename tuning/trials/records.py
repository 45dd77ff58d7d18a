"""The files of a search's folder: every name stays inside it, and what is read was checked.

A folder may come from a stranger, and a file may have been cut off or edited. Nothing in it is believed before it was
looked at, and what is wrong with it is told in one line that names the file.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from kcnn.arch import Arch, number
from kcnn.errors import InputError, shown
from kcnn.notation import from_data
from trainers.runs.files import read_json, read_json_lines
from trainers.runs.typed import checked

PLAIN = re.compile(r"\w[\w.+-]{0,199}")  # a name of one file, which cannot lead anywhere else
NONE: Mapping[str, Any] = MappingProxyType({})
T = TypeVar("T")


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


def read(path: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The object of a JSON file, whose values of these names are of these types. Raises InputError."""
    return named(read_json(path, dict), kinds, str(path))


def read_lines(path: Path, check: Callable[[dict[str, Any], str], Any] = lambda row, place: row) -> list[Any]:
    """What check(object, place) makes of each line of a file of JSON lines; of none, where there is no file."""
    if not path.exists():
        return []
    return [check(row, f"{path}, line {number}") for number, row in enumerate(read_json_lines(path), 1)]


def named(values: Any, kinds: Mapping[str, Any], place: str, optional: Mapping[str, Any] = NONE) -> dict[str, Any]:
    """The values as they are, once those of these names are known to be of these types. Raises InputError."""
    if not isinstance(values, dict):
        raise InputError(f"{place}: {shown(values)} is there, named values are needed")
    sound(values, place)
    checked(values, {**kinds, **{name: kind for name, kind in optional.items() if name in values}}, place)
    return values


def made(kind: type[T], values: Any, place: str) -> T:
    """A dataclass from its fields by name. Raises InputError for one that is missing, unknown or of another type.

    A field whose default is None may be None, whatever its type says; lists become tuples where it says so.
    """
    kinds = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    needed = [name for name, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    values = named(values, dict.fromkeys(needed, Any), place)
    given = {}
    for name, value in values.items():
        if name not in fields:
            raise InputError(f"{place}: {shown(name)} is not known there")
        if dataclasses.is_dataclass(kinds[name]):
            value = made(kinds[name], value, f"{place}: {name}")  # type: ignore[arg-type]
        elif isinstance(value, dict) and Arch in get_args(kinds[name]):
            value = architecture(value, f"{place}: {name}")
        elif value is not None or fields[name].default is not None:
            value = tuple(value) if isinstance(value, list) and holds_tuple(kinds[name]) else value
            checked({name: value}, {name: kinds[name]}, place)
        given[name] = value
    return kind(**given)


def architecture(value: dict[str, Any], place: str) -> Arch:
    try:
        return from_data(value)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def holds_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple or any(holds_tuple(part) for part in get_args(kind))


def sound(value: Any, place: str) -> None:
    """Raises InputError for a number that is not finite, and for a text that cannot be written."""
    if isinstance(value, dict):
        for name, each in value.items():
            sound(name, place)
            sound(each, f"{place}: {name}")
    elif isinstance(value, list):
        for each in value:
            sound(each, place)
    elif isinstance(value, int | float) and not isinstance(value, bool) and not number(value):
        raise InputError(f"{place}: {shown(value)} is there, a finite number is needed")
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(f"{place}: {shown(value)} is not text")
