"""From the name of a data set to its source."""

import os
from typing import Literal

from kcnn.errors import InputError
from trainers.data import few
from trainers.data.digits import open_digits
from trainers.data.folder import open_folder
from trainers.data.label_sets import open_multi_label
from trainers.data.splits import Source
from trainers.data.stored.lists import is_list
from trainers.data.stored.shards import home_of
from trainers.data.tfds_source import open_tfds

_PATH_STARTS = ("/", "./", "../", "~")


def open_data(
    name: str,
    *,
    data_dir: str | None = None,
    val_split: float = 0.1,
    seed: int = 0,
    on_corrupt: Literal["error", "skip"] = "error",
    prepare: bool = True,
    test_is_val: bool = False,
    multi_label: bool = False,
    images_per_class: int | None = None,
) -> Source:
    """Opens "digits", a folder of class folders, a list of images, what either was converted to, or a TFDS data set
    such as "imagenette/320px-v2".

    `data_dir` is where TFDS keeps its data. `val_split` is held out of the training examples where the data set has
    no validation part. `seed` has no part in which examples those are: results stay comparable between seeds.
    `on_corrupt="skip"` decodes every file of a folder once and leaves out what fails. `prepare` allows TFDS to
    download and prepare what is not there yet. `test_is_val` is for runs of earlier versions (see `open_folder`).
    With `multi_label` images have any number of labels (see `open_multi_label`). `images_per_class` keeps so many
    training images of each class, which `seed` draws. Raises InputError.
    """
    if images_per_class is not None:
        whole = open_data(
            name, data_dir=data_dir, val_split=val_split, seed=seed, on_corrupt=on_corrupt, prepare=prepare,
            test_is_val=test_is_val, multi_label=multi_label,
        )  # fmt: skip
        return few.images_per_class(whole, images_per_class, seed)
    if not 0 < val_split < 1:
        raise InputError(f"val_split is {val_split!r}; give a fraction between 0 and 1, such as 0.1")
    if on_corrupt not in ("error", "skip"):
        raise InputError(f"on_corrupt is {on_corrupt!r}; give 'error' or 'skip'")
    if multi_label:
        if not is_folder(name):
            raise InputError(f"multi-label: {name!r} has one label an image; a list or a folder of images is needed")
        return open_multi_label(name, val_split=val_split, skip_corrupt=on_corrupt == "skip")
    if name == "digits":
        return open_digits()
    if is_folder(name):
        return open_folder(name, val_split=val_split, skip_corrupt=on_corrupt == "skip", test_is_val=test_is_val)
    if on_corrupt == "skip":
        raise InputError(f"on_corrupt='skip' is for folders; {name!r} is not one: give on_corrupt='error'")
    return open_tfds(name, data_dir=data_dir, val_split=val_split, prepare=prepare)


def is_folder(name: str) -> bool:
    """Whether a data set of this name is a folder or a list of images."""
    if name == "digits" or name.startswith("tfds:"):
        return False
    if is_list(name):
        return True
    # A part of a converted folder is no folder of its own.
    return name.startswith(_PATH_STARTS) or os.path.exists(name) or ("/" in name and home_of(name) is not None)
