"""The images that a finished network is tested on: a part of the run's data, or other data with the same classes."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kcnn.errors import InputError
from trainers.data import Split, open_data
from trainers.data.folder import folder_parts, open_whole
from trainers.data.label_sets import open_whole_multi_label
from trainers.data.sources import is_folder
from trainers.data.stored.shards import origin
from trainers.runs import provenance
from trainers.runs.folders import same_classes
from trainers.settings import RunConfig

Part = Literal["val", "test", "train"]
WHOLE = "all"  # the name of the whole of a folder without parts


@dataclass(frozen=True)
class HeldOut:
    """Images whose labels are places among the run's classes. part: "val", "test", "train", or "all" of a folder.

    place: the data and its part in words.
    """

    split: Split
    data: str
    part: str
    place: str


def open_held_out(
    config: RunConfig, classes: tuple[str, ...], run: str, data: str | None = None, part: Part | None = None
) -> HeldOut:
    """A part of the run's data (by default its validation split), or of other data.

    A folder other than the run's is taken whole if it holds the class folders itself; with parts, its val/ or else its
    test/ is the default. If a part of such a folder is asked for by name, it is the part that training would make.
    Raises InputError.
    """
    name = config.data if data is None else data
    if is_folder(name) and not same_folder(name, config.data):
        parts = folder_parts(name, classes, config.multi_label)
        chosen: str = part or next((p for p in ("val", "test", "train") if p in parts), WHOLE)
        if parts and chosen not in parts:
            raise InputError(f"split {part}: {name} has no such part, only {', '.join(sorted(parts))}")
        if parts or chosen == WHOLE:
            folder = parts.get(chosen, name)
            whole = open_whole_multi_label if config.multi_label else open_whole
            split = whole(folder, classes, skip_corrupt=config.on_corrupt == "skip")
            return HeldOut(split, name, chosen, f"all of {os.path.abspath(os.path.expanduser(folder))}")
    # The run may be a stranger's, and so the archives in a folder that it names.
    source = open_data(
        name,
        data_dir=config.data_dir,
        val_split=config.val_split,
        seed=config.seed,
        on_corrupt=config.on_corrupt if is_folder(name) else "error",
        prepare=config.data_dir is None,
        multi_label=config.multi_label,
        test_is_val=provenance.test_is_val(Path(run)) and same_data(name, config.data),
    )
    same_classes(classes, source.classes, run)
    chosen = part or "val"
    if chosen == "test" and source.test is None:
        raise InputError(f"split test: {name} has no part of that name, only train and val")
    split = source.test() if chosen == "test" and source.test else source.train if chosen == "train" else source.val
    return HeldOut(split, name, chosen, f"the {chosen} split of {name}")


def same_data(name: str, other: str) -> bool:
    return name == other or (is_folder(name) and same_folder(name, other))


def same_folder(name: str, other: str) -> bool:
    """Tells whether two names are of one folder; what was converted from a folder counts as it."""
    return is_folder(other) and origin(name) == origin(other)
