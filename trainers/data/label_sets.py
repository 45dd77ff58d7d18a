"""Images with any number of labels: lists that name them, and folders in folders, whose names an image's labels are.

A record's label is the number of a set of labels, and `Split.label_sets` says which labels are in it.
"""

import os
from dataclasses import replace

import numpy as np

from kcnn.errors import InputError
from trainers.data.folder import carve, drop_corrupt, existing, parts_of, split_of
from trainers.data.names import check_classes
from trainers.data.splits import Source, Split, digest
from trainers.data.stored import lists
from trainers.data.stored.listing import Files, class_images, other_class
from trainers.data.stored.lists import Listed, key_of, members
from trainers.data.stored.trees import Tree

_LARGEST = 2**28  # cells of a table of label sets


def open_multi_label(name: str, *, val_split: float = 0.1, skip_corrupt: bool = False) -> Source:
    """A list with the column `labels`, or a folder, in which an image has the names of all folders on its way as
    labels; both may be in parts, as in `open_folder`. Without a part of its own, validation takes `val_split` of all
    images. Classes are the labels of training images; classes of other parts must be among them. Raises InputError.
    """
    root, tree = _opened(name, skip_corrupt)
    parts = parts_of(root, tree)
    train_root, corrupt = parts.get("train", root), list[str]()
    classes = tuple(sorted({label for key in tree.subfolders(train_root) for label in members(key)}))
    if len(classes) < 2:
        raise InputError(f"data {train_root!r} needs images of two labels or more; found {list(classes)}")
    check_classes(classes, f"data {train_root!r}")
    sets, files = _found(tree, train_root, classes, skip_corrupt, corrupt)
    note = ""
    if val_root := parts.get("val"):
        val_sets, val = _found(tree, val_root, classes, skip_corrupt, corrupt)
    else:
        val_sets, of = sets, sum(map(len, files))
        chosen = _chosen(sets, files, tree.home or train_root, val_split)
        val = [[path for path in paths if path in chosen] for paths in files]
        files = [[path for path in paths if path not in chosen] for paths in files]
        if "test" in parts:
            note = (
                f"validation: {len(chosen):,} of the {of:,} images of {train_root}, as there is no val part; the test "
                "part is left for kcnn evaluate RUN --split test"
            )
    if skip_corrupt:
        files, val = drop_corrupt(tree, files, corrupt), drop_corrupt(tree, val, corrupt)
    train_part = _split(tree, files, root, sets, classes)
    assert train_part.class_counts
    for label, count in zip(classes, train_part.class_counts, strict=True):
        if not count:
            raise InputError(f"no training image of {train_root!r} that can be read has the label {label!r}")
    if not any(val):
        raise InputError(f"data {name!r} leaves no validation images; give more images, or a part val")
    test = None
    if "test" in parts:

        def test() -> Split:
            return _whole(parts["test"], tree, classes, skip_corrupt)

    val_part = _split(tree, val, root, val_sets, classes)
    return Source(tree.name or os.path.basename(root), classes, train_part, val_part, tuple(corrupt), test, note)


def open_whole_multi_label(name: str, classes: tuple[str, ...], *, skip_corrupt: bool = False) -> Split:
    """All images of a list or folder, as `open_multi_label` finds them; labels must be among `classes`."""
    return _whole(*_opened(name, skip_corrupt), classes, skip_corrupt)


def _opened(name: str, skip_corrupt: bool) -> tuple[str, Tree]:
    root, tree = existing(name, skip_corrupt, multi_label=True)
    return root, nested(tree, root) if tree.parts is None else tree


def _whole(root: str, tree: Tree, classes: tuple[str, ...], skip_corrupt: bool) -> Split:
    corrupt: list[str] = []
    sets, files = _found(tree, root, classes, skip_corrupt, corrupt)
    files = drop_corrupt(tree, files, corrupt) if skip_corrupt else files
    if not any(files):
        raise InputError(f"data {root!r} has no images that can be read; give others")
    return _split(tree, files, root, sets, classes)


def _chosen(sets: list[str], files: Files, root: str, fraction: float) -> set[bytes]:
    """The images that validation takes; training keeps those of labels of which it would keep none."""
    chosen = set(carve([path for paths in files for path in paths], root, fraction)[1])
    kept = {label for key, paths in zip(sets, files, strict=True) if set(paths) - chosen for label in members(key)}
    rare = [paths for key, paths in zip(sets, files, strict=True) if set(members(key)) - kept]
    return chosen - {path for paths in rare for path in paths}


def _found(
    tree: Tree, root: str, classes: tuple[str, ...], skip_corrupt: bool, corrupt: list[str]
) -> tuple[list[str], Files]:
    """The sets of labels in a part, and the images of each."""
    sets = tree.subfolders(root)
    for key in sets:
        if unknown := sorted(set(members(key)) - set(classes)):
            where = tree.line(root, key) if tree.line else repr(root)
            some = ", ".join(map(repr, classes[:5])) + (" ..." if len(classes) > 5 else "")
            raise InputError(f"{where}: label {unknown[0]!r}; the labels of the training are {some}")
    return sets, class_images(root, sets, other_class([], []), skip_corrupt, corrupt, tree.walk)


def _split(tree: Tree, files: Files, root: str, sets: list[str], classes: tuple[str, ...]) -> Split:
    """The split of these images; only its labels are those of sets."""
    kept = [i for i, paths in enumerate(files) if paths]
    if len(kept) * len(classes) > _LARGEST:
        raise InputError(f"{len(kept):,} different sets of {len(classes):,} labels are too many; leave out rare labels")
    numbers = {label: i for i, label in enumerate(classes)}
    table = np.zeros((len(kept), len(classes)), np.uint8)
    for row, i in enumerate(kept):
        table[row, [numbers[label] for label in members(sets[i])]] = 1
    split = split_of(tree, [files[i] for i in kept], root)
    counts = np.array([len(files[i]) for i in kept]) @ table.astype(np.int64)

    def fingerprint() -> str:
        return digest([split.fingerprint().encode(), table.tobytes()])

    return replace(split, class_counts=tuple(map(int, counts)), label_sets=table, fingerprint=fingerprint)


def nested(tree: Tree, root: str) -> Tree:
    """A folder's tree, as that of a list whose images have the names of all folders on their way as labels."""
    files: dict[str, dict[str, list[bytes]]] = {}
    parts = parts_of(root, tree)
    odd: set[bytes] = set()
    for part, place in (parts or {"": root}).items():
        labels = files.setdefault(part, {})
        for folder in tree.subfolders(place):
            for path, kind in tree.walk(os.path.join(place, folder), folder, lambda *_: None):
                on_the_way = os.path.dirname(os.fsdecode(path)[len(place) + 1 :]).split("/")
                check_classes(on_the_way, f"data folder {place!r}")
                labels.setdefault(key_of(on_the_way, f"data folder {place!r}"), []).append(path)
                odd |= {path} if kind == "other" else set()
    title = tree.name or os.path.basename(root)
    made = lists.over(tree, Listed("", files, {}), root, root, lambda path: path not in odd)
    return replace(made, name=title, line=None)
