"""Folders that `convert` turned into a few large files, found and read as if they still were folders of images.

kcnn-data.json says which subfolders there were, or kcnn-list.jsonl which image has which label, where a list of images
was converted; kcnn-names.bin holds the paths of all images below the folder, sorted.
Images follow each other in that order in kcnn-00000.tfrecord and so on, TFRecord files of their encoded bytes; beside
each of these kcnn-00000.index has three numbers an image, of 64 bits: where it begins, its length, its CRC-32.
"""

import bisect
import itertools
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data.names import shown
from trainers.data.stored.listing import Other
from trainers.data.stored.lists import over, read_list
from trainers.data.stored.trees import Tree
from trainers.runs.files import read_json, reading
from trainers.runs.typed import checked

DATA, BEGUN, NAMES, LIST = "kcnn-data.json", "kcnn-data-begun.json", "kcnn-names.bin", "kcnn-list.jsonl"
VERSION = 1
ROW = np.dtype("<i8")  # of an index: three a row
_MOST = 2**31 - 1  # bytes of an index and of an image
_KINDS = {"version": int, "name": str, "source": str, "folders": dict[str, list[str]], "odd": list[str]}
_KINDS |= {"images": int, "shards": int, "listing": str}


def shard(folder: Path, number: int) -> Path:
    return folder / f"kcnn-{number:05d}.tfrecord"


def home_of(path: str) -> Path | None:
    """The converted folder that a path names, or one part of which it names; None where it names none.

    Raises InputError where the conversion did not end.
    """
    home = path if os.path.lexists(path) else os.path.dirname(path)
    if os.path.lexists(os.path.join(home, DATA)):
        return Path(home)
    if os.path.lexists(os.path.join(home, BEGUN)):
        raise InputError(f"'{shown(home)}' is a conversion that did not end: start the same `kcnn data convert` again")
    return None


def origin(path: str) -> str:
    """The real path of a folder of images, or, for a converted one, of the folder that it was made from."""
    real = os.path.realpath(os.path.expanduser(path))
    home = home_of(real)
    return os.path.join(read_about(home)["source"], os.path.relpath(real, home)).removesuffix("/.") if home else real


def read_about(folder: Path, name: str = DATA) -> dict[str, Any]:
    """What the JSON file of a conversion says. Raises InputError."""
    _plain(folder / name)
    about: dict[str, Any] = read_json(folder / name, dict)
    checked(about, _KINDS, str(folder / name))
    checked({"list": False} | about, {"list": bool}, str(folder / name))  # the first conversions had no lists
    if about["version"] != VERSION:
        raise InputError(f"{folder / name} has version {about['version']}, where {VERSION} is needed: convert anew")
    return about


def open_tree(folder: Path, multi_label: bool = False) -> Tree:
    """The images of a converted folder. Their paths are those that they would have if they lay in it. multi_label: as
    in `lists.open_list`.

    Raises InputError for anything that is missing, damaged or no plain file.
    """
    about = read_about(folder)
    root = os.fsencode(folder) + b"/"
    names = read_names(folder, about["images"])
    indices = [read_index(folder, number) for number in range(about["shards"])]
    rows = np.concatenate([np.empty((0, 3), ROW), *indices])
    paths = [str(shard(folder, number)) for number in range(len(indices))]
    shards = np.repeat(np.arange(len(indices)), [len(index) for index in indices])
    if len(rows) != len(names):
        raise InputError(f"'{shown(str(folder))}' has {len(rows)} images and {len(names)} names: convert the data anew")

    def image(row: int, count: int | None = None) -> bytes:
        begin, length, crc = rows[row].tolist()
        descriptor = os.open(paths[shards[row]], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, length if count is None else min(count, length), begin)
        finally:
            os.close(descriptor)
        if count is None and (len(data) != length or zlib.crc32(data) != crc):
            raise OSError(None, f"is damaged at byte {begin}: convert the data anew")
        return data

    def read(key: bytes) -> bytes:
        try:
            return image(int(key))
        except OSError as error:
            where = shown(paths[shards[int(key)]])
            raise tf.errors.DataLossError(None, None, f"'{where}' {error.strerror}") from None

    def walk(path: str, _: str, __: Other) -> Iterator[tuple[bytes, str]]:
        start = os.fsencode(path) + b"/"
        for found, kind in (names, "file"), (odd, "other"):
            for name in itertools.islice(found, *_below(found, start[len(root) :])):
                yield root + name, kind

    odd = sorted(map(os.fsencode, about["odd"]))

    def row_of(path: bytes) -> bytes:
        return b"%d" % bisect.bisect_left(names, path[len(root) :])

    tree = Tree(
        name=about["name"],
        subfolders=lambda path: list(about["folders"].get(path[len(str(folder)) + 1 :], [])),
        walk=walk,
        keys=lambda paths: list(map(row_of, paths)),
        path=lambda key: root + names[int(key)],
        # One call an image costs what opening, reading and checking it cost: 55 us, where a file of its own costs 28.
        load=lambda key: tf.ensure_shape(tf.numpy_function(read, [key], tf.string, stateful=False), ()),
        start=lambda key, count: (int(rows[int(key), 1]), image(int(key), count) if count else None),
    )
    return _with_list(tree, folder, {*names, *odd}, set(odd), multi_label) if about.get("list") else tree


def _with_list(tree: Tree, folder: Path, known: set[bytes], odd: set[bytes], multi_label: bool) -> Tree:
    """The tree with the parts and classes of the list that was converted. Raises InputError for a damaged one."""
    _plain(folder / LIST)
    home = str(folder)
    start = len(os.fsencode(home)) + 1
    listed, places = read_list(str(folder / LIST), home, multi_label)
    for place, number in places.items():
        if place[start:] not in known:
            raise InputError(f"'{shown(str(folder / LIST))}', line {number}, names no image of the data: convert anew")
    return over(tree, listed, home, home, lambda place: place[start:] not in odd)


def _below(names: Sequence[bytes], start: bytes) -> tuple[int, int]:
    """Where the names that begin with `start`, which ends in a slash, stand among sorted names."""
    return bisect.bisect_left(names, start), bisect.bisect_left(names, start[:-1] + b"0")


def read_names(folder: Path, count: int) -> list[bytes]:
    """The sorted paths of all images, each once. Raises InputError."""
    names = _content(folder / NAMES).split(b"\0")[:-1]
    if len(names) != count or any(a >= b for a, b in itertools.pairwise(names)):
        raise InputError(f"'{shown(str(folder / NAMES))}' is damaged: convert the data anew")
    return names


def read_index(folder: Path, number: int) -> np.ndarray:
    """Where the images of a shard begin, their lengths and checksums, int64 (images, 3). Raises InputError."""
    path = shard(folder, number)
    size = _plain(path)
    content = _content(path.with_suffix(".index"))
    rows = np.frombuffer(content[: len(content) // 24 * 24], ROW).reshape(-1, 3)
    begin, length, _ = rows.T
    if len(content) % 24 or len(rows) == 0 or rows.min() < 0 or length.max() > _MOST:
        raise InputError(f"'{shown(str(path.with_suffix('.index')))}' is damaged: convert the data anew")
    if (begin > size).any() or (length > size - begin).any():
        raise InputError(f"'{shown(str(path))}' is shorter than its index says: convert the data anew")
    return rows


def _plain(path: Path) -> int:
    """The size in bytes of a plain file. Raises InputError for a link, a pipe or a device, and for what is missing."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise InputError(f"cannot read '{shown(str(path))}': {error.strerror}; convert the data anew") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"'{shown(str(path))}' is a link or no file: convert the data anew")
    return status.st_size


def _content(path: Path) -> bytes:
    if _plain(path) > _MOST:
        raise InputError(f"'{shown(str(path))}' has more than {_MOST:,} bytes, and no such file of kcnn has")
    with reading(path) as file:
        return file.read(_MOST)
