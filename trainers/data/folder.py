"""A folder of images, one subfolder a class, or a list of images."""

import functools
import hashlib
import os
import sys
import zlib

import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data.decoding.images import decode
from trainers.data.names import check_classes, shown
from trainers.data.splits import THREADS, Source, Split, as_written, in_order, indexed_split
from trainers.data.stored.listing import Files, Other, class_images, other_class
from trainers.data.stored.lists import list_of, open_list
from trainers.data.stored.shards import home_of, open_tree
from trainers.data.stored.trees import DISK, Tree

_HELD_OUT = {"validation": "val", "val": "val", "test": "test"}  # folders, and the parts that they are
_HASHED, _HASHED_BYTES = 4096, 2**18  # files whose contents a fingerprint covers, and bytes of each of them


def open_folder(name: str, *, val_split: float = 0.1, skip_corrupt: bool = False, test_is_val: bool = False) -> Source:
    """`train/` beside `val/` (or `validation/`) and `test/`, each with a folder a class; or the class folders alone; or
    a list of images (see `lists`), whose parts and labels stand for these folders.

    Without a part of its own, validation takes `val_split` of each class: the same files in every run, and nearly
    the same after others were added. `skip_corrupt` decodes everything once and leaves out what fails. With
    `test_is_val` it takes test/ where there is no val/, as runs of earlier versions did.
    """
    root, tree = existing(name, skip_corrupt)
    parts = parts_of(root, tree)
    train_root, val_root = parts.get("train", root), parts.get("val") or (parts.get("test") if test_is_val else None)
    classes = tree.subfolders(train_root)
    if len(classes) < 2:
        there = f"only {classes[0]!r}" if classes else "none"
        what = "two class folders or more, each with images" if tree.line is None else "training images of two labels"
        raise InputError(f"data folder {train_root!r} needs {what}; found {there}")
    check_classes(classes, f"data folder {train_root!r}")
    roots = [train_root] if val_root is None else [train_root, val_root]
    corrupt: list[str] = []
    other = other_class(roots, classes)
    train = class_images(train_root, classes, other, skip_corrupt, corrupt, tree.walk)
    if val_root:
        val = _held_out(tree, val_root, classes, other, skip_corrupt, corrupt)
    else:
        parted = [carve(files, tree.home or train_root, val_split) for files in train]
        train, val = [kept for kept, _ in parted], [held for _, held in parted]

    if skip_corrupt:
        train, val = (drop_corrupt(tree, files, corrupt) for files in (train, val))
        for label, files in zip(classes, train, strict=True):
            if not files:
                raise InputError(f"every training image of class {label!r} in {train_root!r} is corrupt; replace them")
    if not any(val):
        raise InputError(f"data folder {name!r} leaves no validation images; give two images or more per class")
    test, note = None, ""
    if "test" in parts:
        test = functools.partial(_whole, parts["test"], tree, tuple(classes), skip_corrupt)
    if "test" in parts and not val_root:
        count, of = sum(map(len, val)), sum(map(len, train + val))
        note = (
            f"validation: {count:,} of the {of:,} images of {train_root}, as there is no val part; the test part is "
            "left for kcnn evaluate RUN --split test"
        )
    train_part, val_part = (split_of(tree, files, root) for files in (train, val))
    title = tree.name or os.path.basename(root)
    return Source(title, tuple(classes), train_part, val_part, tuple(corrupt), test, note, test_is_val)


def parts_of(root: str, tree: Tree) -> dict[str, str]:
    """The parts that training sees in a data folder, as {"train" | "val" | "test": path}; none where it holds the
    class folders itself. Raises InputError for a list without training images."""
    if tree.parts is not None:
        if tree.parts and "train" not in tree.parts:
            raise InputError(f"list {root!r} has no line whose split is train, only {', '.join(tree.parts)}")
        return {part: os.path.join(root, part) for part in tree.parts}
    found = tree.subfolders(root)
    held_out = [part for part in _HELD_OUT if part in found]
    # A lone "train" full of images may be a class of that name.
    if "train" not in found or not (held_out or tree.subfolders(os.path.join(root, "train"))):
        return {}
    return {_HELD_OUT.get(part, part): os.path.join(root, part) for part in ["train", *held_out]}


def _held_out(tree: Tree, root: str, classes: list[str], other: Other, skip_corrupt: bool, corrupt: list[str]) -> Files:
    """The validation images of each class. A list need not name one of each, while a folder has all class folders."""
    found = tree.subfolders(root)
    if tree.line and (unknown := sorted(set(found) - set(classes))):
        raise InputError(f"{tree.line(root, unknown[0])}: label {unknown[0]!r}; no training image has it")
    if tree.line is None and found != classes:
        odd = sorted(set(found) ^ set(classes))
        raise InputError(f"{root!r} must have the class folders of 'train'; not in both: {_some(odd)}")
    images = dict(zip(found, class_images(root, found, other, skip_corrupt, corrupt, tree.walk), strict=True))
    return [images.get(label, []) for label in classes]


def open_whole(name: str, classes: tuple[str, ...], *, skip_corrupt: bool = False) -> Split:
    """All images of a folder with one subfolder per class; none is held out, as a network is tested on them.

    The subfolders may be only some of `classes`; labels are places in `classes`. Raises InputError for any other.
    """
    return _whole(*existing(name, skip_corrupt), classes, skip_corrupt)


def _whole(root: str, tree: Tree, classes: tuple[str, ...], skip_corrupt: bool) -> Split:
    found = tree.subfolders(root)
    unknown = sorted(set(found) - set(classes))
    if unknown and tree.line:
        raise InputError(f"{tree.line(root, unknown[0])}: label {unknown[0]!r}; the run's are {_some(list(classes))}")
    if unknown:
        raise InputError(
            f"the data's {len(found)} classes are not the {len(classes)} of the run: {root!r} has class "
            f"folders that the run does not know, {_some(unknown)}"
        )
    if not found:
        raise InputError(f"data folder {root!r} has no class folders; give a folder with one subfolder per class")
    corrupt: list[str] = []
    listed = class_images(root, found, other_class([root], found), skip_corrupt, corrupt, tree.walk)
    images = dict(zip(found, listed, strict=True))
    files = [images.get(label, []) for label in classes]
    if skip_corrupt:
        files = drop_corrupt(tree, files, corrupt)
        if not any(files):
            raise InputError(f"all {len(corrupt)} images in {root!r} are corrupt; replace them")
    return split_of(tree, files, root)


def folder_parts(name: str, classes: tuple[str, ...], multi_label: bool = False) -> dict[str, str]:
    """The parts of a data folder as {"train" | "val" | "test": path}; none where it holds the class folders itself."""
    root, tree = existing(name, True, multi_label)
    if tree.parts is not None:
        return {part: os.path.join(root, part) for part in tree.parts}
    found = set(tree.subfolders(root))
    parts = {}
    for folder in ("train", "validation", "val", "test"):
        below = set(tree.subfolders(os.path.join(root, folder))) if folder in found else set()
        # A class may be called "train": then its folder holds images, or none of its subfolders is a class.
        if below & set(classes) or (below and not found <= set(classes)):
            parts[_HELD_OUT.get(folder, folder)] = os.path.join(root, folder)
    return parts


def existing(name: str, skip_corrupt: bool, multi_label: bool = False) -> tuple[str, Tree]:
    """The absolute path of a data folder or list, and how what is in it is found and read."""
    root = os.path.abspath(os.path.expanduser(name))
    if home := home_of(root):
        return root, open_tree(home, multi_label)
    if place := list_of(root):
        return root, open_list(place, skip_corrupt, multi_label)
    if not os.path.exists(root):
        raise InputError(f"data folder {name!r} does not exist; give a folder with one subfolder per class, or a list")
    if not os.path.isdir(root):
        raise InputError(
            f"data folder {name!r} is a file; give a folder with one subfolder per class, or a list of images whose "
            "name ends with .csv or .jsonl"
        )
    return root, DISK


def split_of(tree: Tree, files: Files, root: str) -> Split:
    paths = [path for members in files for path in members]
    labels = np.repeat(np.arange(len(files)), [len(members) for members in files])
    every = 1 << max(0, (len(paths) - 1) // _HASHED).bit_length()

    def described(key: bytes) -> tuple[str, int, str]:
        return _described(tree, key, tree.home or root, every)

    keys = tree.keys(paths)
    return indexed_split(
        keys,
        labels,
        len(files),
        lambda _, key: shown(tree.path(key)),
        tree.load,
        covered=lambda key: repr(described(key)).encode(),
        files=lambda: [described(key) for key in keys],
    )


def _described(tree: Tree, key: bytes, root: str, every: int) -> tuple[str, int, str]:
    """A file's path below `root`, its size in bytes, and for one file in `every` a hash of its content, else "".

    Reading all files of a large data set would take as long as an epoch. The names decide which files are read, so
    that the choice stays the same when others come or go.
    """
    name = os.fsdecode(tree.path(key))[len(root) + 1 :].replace(os.sep, "/")
    hashed = zlib.crc32(os.fsencode(name)) % every == 0
    try:
        size, start = tree.start(key, _HASHED_BYTES if hashed else 0)
    except OSError:  # a file that cannot be read is named when it is needed
        return name, -1, ""
    return name, size, hashlib.blake2b(start, digest_size=8).hexdigest() if start is not None else ""


def carve(files: list[bytes], root: str, fraction: float) -> tuple[list[bytes], list[bytes]]:
    """Training and validation files of one class, chosen by a hash of the path below `root`."""
    count = min(max(round(len(files) * fraction), 1), len(files) - 1)
    start = len(os.fsencode(root))
    chosen = set(sorted(files, key=lambda path: hashlib.blake2b(path[start:], digest_size=8).digest())[:count])
    return [path for path in files if path not in chosen], [path for path in files if path in chosen]


def drop_corrupt(tree: Tree, files: Files, corrupt: list[str]) -> Files:
    """The files that can be decoded; the names of the others are added to `corrupt`."""
    from rich.console import Console
    from rich.progress import track

    paths = [path for members in files for path in members]

    @as_written
    def check(index: tf.Tensor, path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return index, tf.shape(decode(tree.load(path)))  # what nobody receives is not computed

    indices = tf.data.Dataset.from_tensor_slices((np.arange(len(paths)), tf.constant(tree.keys(paths), tf.string)))
    intact = np.zeros(len(paths), bool)
    checked = in_order(indices.map(check, num_parallel_calls=THREADS).ignore_errors())
    console = Console(stderr=True)
    hidden = not sys.stderr.isatty()
    for index, _ in track(checked, "checking images", len(paths), console=console, transient=True, disable=hidden):
        intact[index.numpy()] = True
    corrupt += [shown(path) for path, good in zip(paths, intact, strict=True) if not good]
    good = {path for path, fine in zip(paths, intact, strict=True) if fine}
    return [[path for path in members if path in good] for members in files]


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (" ..." if len(names) > 5 else "")
