"""model_card.json: what an exported network is, where it comes from, and how its input has to look."""

import hashlib
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from trainers.runs import folders
from trainers.runs.files import read_json
from trainers.settings import RunConfig, plain

METRICS = ("loss", "accuracy", "top5", "map", "images", "split", "data", "place", "checkpoint")
PACKAGES = ("kcnn", "tensorflow", "keras", "numpy")
NETWORK = ("arch", "width", "depth", "phi", "resolution", "stem")


def model_card(config: RunConfig, classes: tuple[str, ...], content: Path, export: dict[str, Any]) -> dict[str, Any]:
    """The card of the model in the folder `content`; its hash covers all files there."""
    files = {str(p.relative_to(content)): sha256(p) for p in sorted(content.rglob("*")) if p.is_file()}
    flags = plain(config.flags)
    lines = "".join(f"{digest}  {name}\n" for name, digest in files.items())
    return {
        "name": config.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "architecture": {key: flags[key] for key in NETWORK},
        "data": config.data,
        "classes": list(classes),
        "preprocessing": preprocessing(config),
        "export": export,
        "training": flags,
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        "files": files,
        "hash": hashlib.sha256(lines.encode()).hexdigest(),
    }


def preprocessing(config: RunConfig) -> dict[str, Any]:
    """The preprocessing that a SavedModel contains, and that an app must do before it calls the other formats."""
    style = config.arch.style
    return {
        "steps": [
            "decode to RGB, 8 bits a channel; turn a JPEG as its EXIF orientation says",
            f"cut out the central square whose side is {config.eval_crop:g} of the shorter side",
            f"resize to {config.resolution} x {config.resolution}: {config.interpolation} with antialiasing, "
            "rounded to whole values",
        ],
        "crop": config.eval_crop,
        "interpolation": config.interpolation,
        "resolution": config.resolution,
        "range": [0, 255],
        "inside_the_network": {"mean": list(style.mean), "std": list(style.std)},
    }


def about_run(folder: Path) -> dict[str, Any]:
    """The facts of a run's network and the figures of training and evaluation, where its folder has them."""
    about: dict[str, Any] = {"run": folder.name}
    if (folder / folders.FACTS).exists():
        about["facts"] = read_json(folder / folders.FACTS, dict)
    metrics = {}
    if (folder / folders.RESULT).exists():
        metrics["training"] = read_json(folder / folders.RESULT, dict)
    if (folder / "evaluation.json").exists():
        evaluation = read_json(folder / "evaluation.json", dict)
        metrics["evaluation"] = {key: evaluation[key] for key in METRICS if key in evaluation}
    return about | {"metrics": metrics}


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
