"""What makes a search the one it is: kept in its folder, compared when it goes on, and said as a command."""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.runs.files import read_yaml

DEFAULT = "the default"


def values_of_file(typed: Mapping[str, str]) -> tuple[Path, dict[str, Any]] | None:
    """The YAML file that --config names, and its values by flag. Raises InputError."""
    if "--config" not in typed:
        return None
    path = Path(typed["--config"])
    if not path.exists():
        raise InputError(f"no configuration at {str(path)!r}: a YAML file of flags is needed")
    return path, {name.replace("-", "_"): value for name, value in read_yaml(path).items()}


def changed_flags(config: TrainConfig) -> dict[str, Any]:
    """The values of a configuration that are not the defaults."""
    return {f.name: value for f in fields(TrainConfig) if (value := getattr(config, f.name)) != f.default}


def not_given(config: TrainConfig, *names: str) -> TrainConfig:
    """The configuration as if these flags had not been given."""
    defaults = {f.name: f.default for f in fields(TrainConfig) if f.name in names}
    return replace(config, **defaults)  # type: ignore[arg-type]


def words(values: Mapping[str, Any]) -> list[str]:
    """Flags by name as words of a command line."""
    found = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            found.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list | tuple):
            found += [flag, *map(plain, value)]
        elif value is not None:
            found += [flag, plain(value)]
    return found


def plain(value: Any) -> str:
    """2.0 -> "2"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def train_command(values: Mapping[str, Any]) -> str:
    """The `kcnn train` with these flags."""
    return shlex.join(["kcnn", "train", *words(values)])


def check_same(folder: Path, had: Mapping[str, Any], wanted: Mapping[str, Any], free: Collection[str] = ()) -> None:
    """Raises InputError where a folder was begun with other settings, and says what differs; `free` ones may."""
    had, wanted = flat(had), flat(wanted)
    names = [name for name in sorted(had.keys() | wanted.keys()) if name not in {"run_dir", *free}]
    changed = [
        f"{name.replace('_', '-')} is {had.get(name, DEFAULT)} there, {wanted.get(name, DEFAULT)} here"
        for name in names
        if had.get(name, DEFAULT) != wanted.get(name, DEFAULT)
    ]
    if changed:
        raise InputError(f"{folder} holds another search: {'; '.join(changed)}: name another --run-dir")


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with those of their groups beside them, as they are written to a file."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value) if isinstance(value, dict) else {name: list(value) if isinstance(value, tuple) else value}
    return found
