"""A folder of images, one subfolder a class."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import PurePath

import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data.images import decode
from trainers.data.names import check_classes, shown
from trainers.data.splits import THREADS, Source, Split, in_order, indexed_split

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_HELD_OUT = ("val", "validation", "test")

_Files = list[list[bytes]]  # per class, the sorted paths
_Other = Callable[[str, str], str | None]


def open_folder(name: str, *, val_split: float = 0.1, skip_corrupt: bool = False) -> Source:
    """`train/` beside `val/`, `validation/` or `test/`, each with a folder a class; or the class folders alone.

    Without a folder of its own, validation takes `val_split` of each class: the same files in every run, and nearly
    the same after others were added. `skip_corrupt` decodes everything once and leaves out what fails.
    """
    root = os.path.abspath(os.path.expanduser(name))
    if not os.path.exists(root):
        raise InputError(f"data folder {name!r} does not exist; give a folder with one subfolder per class")
    if not os.path.isdir(root):
        raise InputError(f"data folder {name!r} is a file; give a folder with one subfolder per class")
    parts = _subfolders(root)
    held_out = next((part for part in _HELD_OUT if part in parts), None)
    # A lone "train" full of images may be a class of that name.
    split_already = "train" in parts and (held_out or _subfolders(os.path.join(root, "train")))

    train_root = os.path.join(root, "train") if split_already else root
    classes = _subfolders(train_root)
    if len(classes) < 2:
        there = f"only {classes[0]!r}" if classes else "none"
        raise InputError(f"data folder {train_root!r} needs two class folders or more, each with images; found {there}")
    check_classes(classes, f"data folder {train_root!r}")
    roots = [train_root]
    if split_already and held_out:
        roots.append(os.path.join(root, held_out))
        others = _subfolders(roots[1])
        if others != classes:
            odd = sorted(set(others) ^ set(classes))
            raise InputError(f"{roots[1]!r} must have the class folders of 'train'; not in both: {_some(odd)}")
    corrupt: list[str] = []
    other = other_class(roots, classes)
    found = [_images(part, classes, other, skip_corrupt, corrupt) for part in roots]
    if len(found) == 2:
        train, val = found
    else:
        parted = [_carve(files, train_root, val_split) for files in found[0]]
        train, val = [kept for kept, _ in parted], [held for _, held in parted]

    if skip_corrupt:
        train, val = (_drop_corrupt(files, corrupt) for files in (train, val))
        for label, files in zip(classes, train, strict=True):
            if not files:
                raise InputError(f"every training image of class {label!r} in {train_root!r} is corrupt; replace them")
    if not any(val):
        raise InputError(f"data folder {name!r} leaves no validation images; give two images or more per class")
    return Source(os.path.basename(root), tuple(classes), _split(train, root), _split(val, root), tuple(corrupt))


def _split(files: _Files, root: str) -> Split:
    paths = [path for members in files for path in members]
    labels = np.repeat(np.arange(len(files)), [len(members) for members in files])

    def covered(path: bytes) -> bytes:  # name and size: to read all files would take as long as an epoch
        size = os.path.getsize(path) if os.path.exists(path) else -1
        return path[len(os.fsencode(root)) :].replace(os.fsencode(os.sep), b"/") + b" %d" % size

    return indexed_split(paths, labels, len(files), lambda _, path: shown(path), tf.io.read_file, covered)


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except PermissionError:
        raise InputError(f"data folder {folder!r} may not be read; grant permission to list it") from None


def _subfolders(folder: str) -> list[str]:
    return sorted(entry.name for entry in _scan(folder) if _kind(entry) == "folder")


def _kind(entry: os.DirEntry[str]) -> str:
    """folder, file or other: a pipe, a socket, a device. Links are what they lead to."""
    try:
        if entry.is_dir():
            return "folder"
        # A link that leads nowhere counts as a file: reading it then names it, where dropping it would hide it.
        return "file" if entry.is_file() or not os.path.exists(entry.path) else "other"
    except OSError:  # a link to itself
        return "file"


def _images(root: str, classes: list[str], other: _Other, skip: bool, corrupt: list[str]) -> _Files:
    """The images of each class. What is named like one and is no file is added to `corrupt`, or not to be skipped."""
    images: _Files = []
    for label in classes:
        folder = os.path.join(root, label)
        found = sorted(_walk(folder, label, other))
        odd = [shown(path) for path, kind in found if kind == "other"]
        if odd and not skip:
            raise InputError(f"'{odd[0]}' is a pipe, a socket or a device, not an image: remove it, or use "
                             "--on-corrupt skip")  # fmt: skip
        corrupt += odd
        images.append([path for path, kind in found if kind == "file"])
        if not images[-1]:
            files = " ".join(_SUFFIXES)
            raise InputError(f"class folder {folder!r} has no images; put {files} files there or remove it")
    return images


def _walk(folder: str, label: str, other: _Other) -> Iterator[tuple[bytes, str]]:
    """What is named like an image in a class's folder and below, and its kind. Links to folders are followed, each
    folder once. Raises InputError where one leads to images of another class.
    """
    ahead, links, seen = [folder], list[str](), set[str]()
    while ahead or links:
        place = (ahead or links).pop()  # links last: what can be reached without one has its name from there
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        if stranger := other(real, label):
            raise InputError(f"'{shown(place)}' of class {label!r} leads to images of class {stranger!r}: one image "
                             "can have one class; remove the link")  # fmt: skip
        for entry in sorted(_scan(place), key=lambda entry: entry.name, reverse=True):
            kind = _kind(entry)
            if kind == "folder":
                (links if entry.is_symlink() else ahead).append(entry.path)
            elif entry.name.lower().endswith(_SUFFIXES):
                yield os.fsencode(entry.path), kind


def other_class(roots: list[str], classes: list[str]) -> _Other:
    """A function other(folder, label): another class whose folder is this one, lies in it or around it, if any.

    Of the folders that it is asked for it remembers the class, too. Folders are given by their real paths.
    """
    inside: dict[str, str] = {}
    below: dict[str, set[str]] = {}

    def up(folder: str) -> list[str]:
        return [folder, *map(str, PurePath(folder).parents)]

    def other(folder: str, label: str) -> str | None:
        labels = {inside[place] for place in up(folder) if place in inside} | below.get(folder, set())
        inside[folder] = label
        return min(labels - {label}, default=None)

    for root in roots:
        for label in classes:
            home = os.path.realpath(os.path.join(root, label))
            inside[home] = label
            for place in up(home):
                below.setdefault(place, set()).add(label)
    return other


def _carve(files: list[bytes], root: str, fraction: float) -> tuple[list[bytes], list[bytes]]:
    """Training and validation files of one class, chosen by a hash of the path below `root`."""
    count = min(max(round(len(files) * fraction), 1), len(files) - 1)
    start = len(os.fsencode(root))
    chosen = set(sorted(files, key=lambda path: hashlib.blake2b(path[start:], digest_size=8).digest())[:count])
    return [path for path in files if path not in chosen], [path for path in files if path in chosen]


def _drop_corrupt(files: _Files, corrupt: list[str]) -> _Files:
    """The files that can be decoded; the names of the others are added to `corrupt`."""
    from rich.console import Console
    from rich.progress import track

    paths = [path for members in files for path in members]

    def check(index: tf.Tensor, path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return index, tf.shape(decode(tf.io.read_file(path)))  # what nobody receives is not computed

    indices = tf.data.Dataset.from_tensor_slices((np.arange(len(paths)), tf.constant(paths, tf.string)))
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
