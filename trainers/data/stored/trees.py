"""How the images of a data folder are found and read: as files on the disk here, in shards in `shards`."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from trainers.data.stored import listing


@dataclass(frozen=True)
class Tree:
    """A folder's subfolders and images. A key is what a record holds in the place of an image's path."""

    name: str
    """The name of the data; "" for that of its folder."""
    subfolders: Callable[[str], list[str]]
    walk: listing.Walk
    keys: Callable[[Sequence[bytes]], Sequence[bytes]]
    """The keys of paths."""
    path: Callable[[bytes], bytes]
    """The path of a key."""
    load: Callable[[tf.Tensor], tf.Tensor]
    """A key to the image's encoded bytes, both scalar strings; a graph function."""
    start: Callable[[bytes, int], tuple[int, bytes | None]]
    """start(key, count): an image's size in bytes, and the first `count` of them; None for none. Raises OSError."""
    parts: tuple[str, ...] | None = None
    """The parts that a list names, by which its folders are called; None where the folders tell."""
    home: str | None = None
    """The folder below which images have their names; None for the folder that was asked for."""
    line: Callable[[str, str], str] | None = None
    """line(part's folder, label): where a list first names a label, in words; None for what is no list."""


def _start(path: bytes, count: int) -> tuple[int, bytes | None]:
    status = os.stat(path)
    if not count or not stat.S_ISREG(status.st_mode):
        return status.st_size, None
    with open(path, "rb") as file:
        return status.st_size, file.read(count)


DISK = Tree(
    name="",
    subfolders=listing.subfolders,
    walk=listing.walk,
    keys=lambda paths: paths,
    path=bytes,
    load=tf.io.read_file,
    start=_start,
)
