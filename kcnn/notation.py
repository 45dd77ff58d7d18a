"""An architecture as plain data (what JSON and YAML can hold), and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from kcnn.arch import Arch, Aux, Each, Stage, Style
from kcnn.errors import InputError

_EACH = "each"  # the key of a mapping that stands for a value a block


def to_data(value: Any) -> Any:
    """Turns dataclasses into mappings, tuples into lists, and an `Each` into a mapping of its own."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_data(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_data(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        items = [to_data(v) for v in value]
        return {_EACH: items} if isinstance(value, Each) else items
    return value


def from_data(data: Any) -> Arch:
    """Returns the Arch that `to_data` made the data of. Raises InputError for anything else."""
    try:
        made: dict[str, Any] = {"style": Style(**{key: plain(value) for key, value in data["style"].items()})}
        made |= {key: tuple(map(row, data[key])) for key in ("stem", "stages", "head")}
        made |= {"aux": tuple(Aux(**(a | {"head": tuple(map(row, a["head"]))})) for a in data["aux"])}
        usual = vars(Arch("", "", 1, (), (), ()))
        for key, value in ((key, value) for key, value in data.items() if key not in made):
            kind = type(usual[key])
            if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
                raise TypeError(f"{key} {value!r} should be {kind.__name__}")
            made[key] = value
        return Arch(**made)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"this is no architecture, which needs the fields of kcnn.Arch ({type(error).__name__}: {error})"
        ) from error


def row(data: Mapping[str, Any]) -> Stage:
    options = {key: plain(value) for key, value in data["options"].items()}
    return Stage(**{key: plain(value) for key, value in data.items()} | {"options": options})


def plain(value: Any) -> Any:
    """Turns lists into tuples again, which widths and options are."""
    if isinstance(value, Mapping) and set(value) == {_EACH}:
        return Each(plain(v) for v in value[_EACH])
    return tuple(plain(v) for v in value) if isinstance(value, list) else value
