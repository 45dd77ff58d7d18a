"""A folder of images, one subfolder a class."""

import hashlib
import os
import stat
import sys
import zlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data.images import decode
from trainers.data.splits import THREADS, Source, Split, in_order, indexed_split

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_HELD_OUT = ("val", "validation", "test")
_HASHED, _HASHED_BYTES = 4096, 2**18  # files whose contents a fingerprint covers, and bytes of each of them

_Files = list[list[bytes]]  # per class, the sorted paths


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
        found = f"only {classes[0]!r}" if classes else "none"
        raise InputError(f"data folder {train_root!r} needs two class folders or more, each with images; found {found}")
    train = [_images(os.path.join(train_root, label)) for label in classes]
    if split_already and held_out:
        val_root = os.path.join(root, held_out)
        others = _subfolders(val_root)
        if others != classes:
            odd = sorted(set(others) ^ set(classes))
            raise InputError(f"{val_root!r} must have the class folders of 'train'; not in both: {_some(odd)}")
        val = [_images(os.path.join(val_root, label)) for label in classes]
    else:
        parted = [_carve(files, train_root, val_split) for files in train]
        train, val = [kept for kept, _ in parted], [held for _, held in parted]

    corrupt: list[str] = []
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
    every = 1 << max(0, (len(paths) - 1) // _HASHED).bit_length()

    def described(path: bytes) -> tuple[str, int, str]:
        return _described(path, root, every)

    return indexed_split(
        paths, labels, len(files), lambda _, path: os.fsdecode(path), tf.io.read_file,
        covered=lambda path: repr(described(path)).encode(), files=lambda: [described(path) for path in paths],
    )  # fmt: skip


def _described(path: bytes, root: str, every: int) -> tuple[str, int, str]:
    """A file's path below `root`, its bytes, and of one in `every` a hash of what is in it.

    To read all files of a large data set would take as long as an epoch. Which are read hangs on their names, so
    that it is the same when others come or go.
    """
    name = os.fsdecode(path)[len(root) + 1 :].replace(os.sep, "/")
    try:
        status = os.stat(path)
        size = status.st_size
        if zlib.crc32(os.fsencode(name)) % every or not stat.S_ISREG(status.st_mode):
            return name, size, ""
        with open(path, "rb") as file:
            return name, size, hashlib.blake2b(file.read(_HASHED_BYTES), digest_size=8).hexdigest()
    except OSError:  # a file that cannot be read is named when it is needed
        return name, -1, ""


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except PermissionError:
        raise InputError(f"data folder {folder!r} may not be read; grant permission to list it") from None


def _subfolders(folder: str) -> list[str]:
    return sorted(entry.name for entry in _scan(folder) if entry.is_dir())


def _images(folder: str) -> list[bytes]:
    files = sorted(_walk(folder, {os.path.realpath(folder)}))
    if not files:
        raise InputError(f"class folder {folder!r} has no images; put {' '.join(_SUFFIXES)} files there or remove it")
    return files


def _walk(folder: str, seen: set[str]) -> Iterator[bytes]:
    for entry in _scan(folder):
        # A link that points nowhere counts as a file: reading it then names it, where dropping it would hide it.
        if not entry.is_dir():
            if entry.name.lower().endswith(_SUFFIXES):
                yield os.fsencode(entry.path)
        elif (real := os.path.realpath(entry.path)) not in seen:
            seen.add(real)
            yield from _walk(entry.path, seen)


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
    corrupt += [os.fsdecode(path) for path, good in zip(paths, intact, strict=True) if not good]
    good = {path for path, fine in zip(paths, intact, strict=True) if fine}
    return [[path for path in members if path in good] for members in files]


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (" ..." if len(names) > 5 else "")
