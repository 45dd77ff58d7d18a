"""Checks that values from a file have the types that the code expects."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from kcnn.arch import Arch
from kcnn.errors import InputError


def checked(values: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    """Raises InputError for a value that is not of the type annotated for its name, or is missing."""
    for name, kind in kinds.items():
        if name not in values:
            raise InputError(f"{where} has no {name}: it was cut off or changed by hand")
        if not fits(values[name], kind):
            raise InputError(f"{where}: {name} {brief(repr(values[name]))}: {spelled(kind)} is needed")


def fits(value: Any, kind: Any) -> bool:
    """Whether a value read from a file is of an annotated type. A whole number is a float, too; a bool is neither."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return fits(value, parts[0])
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is list:
        return isinstance(value, list) and all(fits(v, parts[0]) for v in value)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return kind is Any or isinstance(value, NoneType if kind is None else kind)


SPELLED = {int: ("a whole number", "whole numbers"), float: ("a number", "numbers"), str: ("text", "texts"),
           bool: ("true or false", "truth values"), dict: ("a mapping", "mappings"), list: ("a list", "lists"),
           Arch: ("an architecture's fields", "architectures"), NoneType: ("nothing", "nothing"),
           tuple: ("a list", "lists")}  # fmt: skip


def spelled(kind: Any) -> str:
    """An annotated type in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return spelled(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(map(spelled, parts))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin is list and parts[0] in SPELLED:
        return f"a list of {SPELLED[parts[0]][1]}"
    return SPELLED[origin or kind][0]


def brief(text: object, length: int = 200) -> str:
    """The text on one line, cut off after `length` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= length else f"{line[:length]}..."
