"""Decisions of trials, kept for later runs of the same kind: one small JSON file each in the user's cache folder.

What is read there may be damaged, or a stranger's: a decision counts only where it is one of those that are asked for.
Where the folder cannot be read or written to, runs are as they would be without it.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kcnn.errors import InputError
from kcnn.notation import to_data
from trainers.auto.devices import Devices
from trainers.auto.table import Choice
from trainers.run import Run
from trainers.runs.files import parse_json, read_text, write_json

LARGEST = 2**16  # bytes of a decision
PACKAGES = ("tensorflow", "keras", "kcnn")
# The settings on which a step's work depends, besides the network and the devices.
WORK = ("drop", "drop_path", "freeze", "batch_size", "accumulate_steps", "optimizer", "weight_decay", "layer_decay",
        "loss", "label_smoothing", "mixup", "cutmix", "ema", "clip_norm", "sam", "sync_bn", "strategy")  # fmt: skip


def folder() -> Path:
    """XDG_CACHE_HOME/kcnn/auto, by default ~/.cache/kcnn/auto: see the XDG Base Directory Specification."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path("~/.cache").expanduser()) / "kcnn" / "auto"


def key(run: Run, devices: Devices, choices: Sequence[Choice]) -> str:
    """A digest of all that the decision may depend on."""
    config = run.config
    parts = {
        "devices": [devices.kind, devices.name, run.strategy.num_replicas_in_sync],
        "versions": [installed(package) for package in PACKAGES],
        "network": config.own_network or to_data(config.arch),
        "classes": len(run.source.classes),
        "settings": {name: getattr(config, name) for name in WORK},
        "choices": [str(choice) for choice in choices],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def read(name: str, choices: Sequence[Choice]) -> tuple[Choice, str] | None:
    """The kept decision, one of the choices, and the figures it was made by; None where there is none."""
    with contextlib.suppress(InputError, OSError):
        found: Any = parse_json(read_text(folder() / f"{name}.json", LARGEST), name, dict)
        why = found.get("why")
        if isinstance(why, str) and why.isprintable() and len(why) < 500:
            return next(((c, why) for c in choices if str(c) == found.get("choice")), None)
    return None


def write(name: str, choice: Choice, why: str) -> None:
    """Keeps a decision for `read`."""
    with contextlib.suppress(InputError, OSError):
        folder().mkdir(parents=True, exist_ok=True)
        write_json(folder() / f"{name}.json", {"choice": str(choice), "why": why})
