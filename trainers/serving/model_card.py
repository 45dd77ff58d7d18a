"""model_card.json: what an exported network is, where it comes from, and how its input has to look."""

import hashlib
import platform
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from kcnn.errors import InputError
from trainers.evaluation import FIGURES
from trainers.runs import folders
from trainers.settings import RunConfig

METRICS = ("loss", "accuracy", "top5", "images", "split", "data", "place", "checkpoint")
PACKAGES = ("kcnn", "tensorflow", "keras", "numpy")
NETWORK = ("arch", "width", "depth", "phi", "resolution", "stem")


def model_card(config: RunConfig, classes: tuple[str, ...], content: Path, export: dict[str, Any]) -> dict[str, Any]:
    """All that is known of the model in the folder `content`; the hash is over all files that are there."""
    files = {str(p.relative_to(content)): sha256(p) for p in sorted(content.rglob("*")) if p.is_file()}
    lines = "".join(f"{digest}  {name}\n" for name, digest in files.items())
    return {
        "name": config.arch,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "architecture": {key: getattr(config, key) for key in NETWORK},
        "data": config.data,
        "classes": list(classes),
        "preprocessing": preprocessing(config),
        "export": export,
        "training": asdict(config),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        "files": files,
        "hash": hashlib.sha256(lines.encode()).hexdigest(),
    }


def preprocessing(config: RunConfig) -> dict[str, Any]:
    """What a SavedModel does by itself, and an app must do in front of the other formats."""
    style = config.arch.style
    return {
        "steps": [
            "decode to RGB, 8 bits a channel; EXIF orientation is not applied",
            f"cut out the central square whose side is {config.eval_crop:g} of the shorter side",
            f"resize to {config.resolution} x {config.resolution}: bilinear with antialiasing, rounded to whole values",
        ],
        "crop": config.eval_crop,
        "resolution": config.resolution,
        "range": [0, 255],
        "inside_the_network": {"mean": list(style.mean), "std": list(style.std)},
    }


def about_run(folder: Path) -> dict[str, Any]:
    """What a run's folder tells of its network: facts, and the figures of training and evaluation, if any.

    Raises InputError for a damaged file.
    """
    found = {
        name: value for name in (folders.FACTS, folders.RESULT, FIGURES) if (value := read(folder / name)) is not None
    }
    metrics = {}
    if folders.RESULT in found:
        metrics["training"] = found[folders.RESULT]
    if FIGURES in found:
        metrics["evaluation"] = {key: found[FIGURES][key] for key in METRICS if key in found[FIGURES]}
    facts = {"facts": found[folders.FACTS]} if folders.FACTS in found else {}
    return {"run": folder.name} | facts | {"metrics": metrics}


def read(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, None without the file. Raises InputError for anything else."""
    try:
        value = folders.read_json(path)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged, it is no JSON ({error}): restore or remove it") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged, it holds no JSON object: restore or remove it")
    return value


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
