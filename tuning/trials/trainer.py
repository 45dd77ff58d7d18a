"""All that searches and sweeps know of the trainer's inner parts."""

from dataclasses import replace
from pathlib import Path

from trainers.config import TrainConfig
from trainers.data import Source, open_data
from trainers.distribute.strategy import visible_gpus
from trainers.runs import checkpoints, folders
from trainers.runs.asked import source_of, writable
from trainers.settings import resolve
from trainers.training import prepare


def open_source(config: TrainConfig) -> Source:
    """The images of a configuration. Raises InputError where there are none."""
    return source_of(config, open_data)


def check_run(config: TrainConfig) -> Source:
    """The images, once everything was looked at that would end a run before its first step. Raises InputError."""
    visible_gpus()  # a machine without a driver says so at the first look
    return prepare(resolve(config), Path()).source


def with_absolute_data(config: TrainConfig) -> TrainConfig:
    """A folder or a list of images must be found from wherever its runs go on."""
    there = config.data != "digits" and Path(config.data).exists()
    return replace(config, data=str(Path(config.data).absolute())) if there else config


def planned_folder(kind: str, config: TrainConfig) -> Path:
    """--run-dir, or else logs/KIND-DATA-TIME. Raises InputError where it cannot be written to."""
    folder = folders.folder_of(replace(config, arch=kind))
    writable(folder)
    return folder


def claimed(folder: Path, config: TrainConfig) -> Path:
    """The planned folder; with a number behind it, where another process has planned it in the same second."""
    return folder if config.run_dir else folders.claim(folder)


def newest_checkpoint(folder: Path) -> str | None:
    """The name of the last checkpoint in a run's folder."""
    return next((path.name for path in checkpoints.found(folder / "checkpoints")), None)


def class_count(folder: Path) -> int:
    """How many classes a run tells apart. Raises InputError where its folder was damaged."""
    return len(folders.read_classes(folder))
