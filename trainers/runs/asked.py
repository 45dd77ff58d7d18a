"""From what is asked to the settled run: one that starts, with what `--recipe auto` chooses, or one that goes on."""

import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import keras

from kcnn.errors import InputError
from trainers.auto import recipe as auto_recipe
from trainers.auto.glance import glance
from trainers.config import TrainConfig
from trainers.data import Source, open_data
from trainers.runs import folders
from trainers.settings import RunConfig, resolve
from trainers.transfer.pretrained import as_expected

Opening = Callable[..., Source]  # open_data, or a copy of it that remembers what it has opened


def new_or_resumed(
    config: TrainConfig, model: keras.Model | None = None, opening: Opening = open_data
) -> tuple[RunConfig, Path]:
    """The settled configuration and the folder of the run to start or to go on with."""
    config = placed(config)
    own = model.to_json() if model is not None else None
    wanted = config.resume
    if wanted == "auto" and config.run_dir:
        wanted = config.run_dir if folders.is_run(Path(config.run_dir)) else None
    if wanted in (None, "auto"):
        if config.time and config.epochs:
            raise InputError(f"time {config.time!r}: give it or --epochs {config.epochs}, not both")
        run = resolve(as_expected(chosen(config, own, opening)), own)
        wanted = folders.unfinished(run, left_open(config)) if wanted else None
        if wanted is None:
            folder = folders.folder_of(run.flags)
            folders.refuse_run(folder)
            writable(folder)
            return run, folder
    folder, saved, _ = folders.open_run(wanted)
    asked = folders.as_asked(saved.flags, replace(config, run_dir=str(folder), resume=None))
    return resolve(folders.same_run(saved.flags, asked), saved.own_network), folder


def chosen(config: TrainConfig, own: str | None, opening: Opening) -> TrainConfig:
    """The configuration with what --recipe auto chooses, which is said in three lines once its length is known. own:
    see `resolve`."""
    if not auto_recipe.undecided(config):
        return config
    resolve(config, own)  # what is wrong with the flags is sooner found than the data is opened
    config, lines = auto_recipe.decided(config, glance(source_of(config, opening)), own)
    if not config.time:
        print("\n".join(lines), flush=True)
    return config


def left_open(config: TrainConfig) -> set[str]:
    """The settings in which a run of the same flags may differ, as a clock decides them."""
    names = {f.name for f in fields(TrainConfig) if getattr(config, f.name) is None}
    return {"time", *names} if config.time else set()


def source_of(config: TrainConfig | RunConfig, opening: Opening, test_is_val: bool = False) -> Source:
    """The images of a configuration. test_is_val: see `provenance.test_is_val`."""
    return opening(
        config.data,
        data_dir=config.data_dir,
        val_split=config.val_split,
        seed=config.seed,
        on_corrupt=config.on_corrupt,
        multi_label=config.multi_label,
        test_is_val=test_is_val,
        images_per_class=config.images_per_class,
    )


def placed(config: TrainConfig) -> TrainConfig:
    """The configuration with absolute paths of what it reads: a resumed run may start in another working directory."""
    places: dict[str, Any] = {
        key: str(Path(value).absolute())
        for key in ("data", "data_dir", "weights")
        if (value := getattr(config, key)) and value != "digits" and Path(value).exists()
    }
    return replace(config, **places)


def writable(folder: Path) -> None:
    """Raises InputError where the folder cannot be made or written to."""
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {parent}: name a folder of yours with --run-dir")
