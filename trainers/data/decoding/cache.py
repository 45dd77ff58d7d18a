"""Decoded images, kept in memory or in a file: an epoch then reads and decodes nothing."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
import psutil
import tensorflow as tf
from rich.console import Console
from rich.progress import track

from kcnn.errors import InputError
from trainers.data.decoding.headers import checked
from trainers.data.decoding.images import Box, Cut, all_sizes, halvings, most_halvings
from trainers.data.decoding.orientation import sides, stored, upright
from trainers.data.splits import THREADS, Split, as_written, in_order

Place = Literal["ram", "disk"]
ROOM = 0.8  # of the memory that is available, which the images may take
_JPEG = 0  # in headers.KINDS


@dataclass(frozen=True)
class Kept:
    """The images of a split, decoded as they are stored.

    pixels: uint8, all images one after the other, each as it is and, of JPEGs, at the halves of its size that training
    may take crops of. sizes: int64 (n, 2), their heights and widths. turns: their orientations, int32 (n,). halved: how
    often each is there at half of its sides, int64 (n,). starts: where each begins.
    """

    pixels: np.ndarray
    sizes: np.ndarray
    turns: np.ndarray
    halved: np.ndarray
    starts: np.ndarray

    def cut(self, index: tf.Tensor) -> Cut:
        """A picture, of which `train_image` and `eval_image` take what they need. The index is an int64 scalar."""

        def pixels(box: Box, enough: int | None) -> tf.Tensor:
            turn = tf.gather(self.turns, index)
            seen = sides(tf.cast(tf.gather(self.sizes, index), tf.int32), turn)
            inner = stored(box(seen[0], seen[1]), seen, turn)
            times = tf.minimum(halvings(inner, enough), tf.cast(tf.gather(self.halved, index), tf.int32))
            found = tf.numpy_function(self.window, [index, times, inner], tf.uint8, stateful=False)
            return upright(tf.ensure_shape(found, (None, None, 3)), turn)

        return pixels

    def window(self, index: int, times: int, box: np.ndarray) -> np.ndarray:
        """The pixels of an image inside a box of its own, after so many halvings."""
        start, (height, width) = self.starts[index], self.sizes[index]
        start += sum(3 * area(height, width, earlier) for earlier in range(times))
        rows, columns = half(height, times), half(width, times)
        image = self.pixels[start : start + 3 * rows * columns].reshape(rows, columns, 3)
        top, left, high, wide = box // 2**times
        return np.array(image[top : top + high, left : left + wide])


def half(side: Any, times: int) -> Any:
    """A side of a JPEG that is decoded at half of its size so many times."""
    return -(-side // 2**times)


def area(height: Any, width: Any, times: int) -> Any:
    return half(height, times) * half(width, times)


def kept(split: Split, place: Place, folder: Path, smallest: int) -> Split:
    """The split with its images decoded beside it, for crops of `smallest` pixels or more: pipelines give the same
    pixels to the bit.

    On the disk they are a file without a name in the folder, which goes with the process. Raises InputError where they
    do not fit, and what the reading of a broken image raises.
    """
    sizes, turns, jpeg = measured(split)
    halved = np.where(jpeg, most_halvings(sizes.min(1), smallest), 0)
    height, width = sizes.T
    lengths = 3 * np.sum([np.where(halved >= times, area(height, width, times), 0) for times in range(4)], 0)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    pixels = room(int(starts[-1]), place, folder, split.size)

    @as_written
    def decode(record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        index = record["index"]
        return index, all_sizes(checked(split.load(record["image"])), tf.gather(halved, index))

    for index, content in listed(split, decode, "decoding images"):
        if len(content) != lengths[index]:
            raise InputError(f"cache: {split.describe(int(index))} changed while it was read; start again")
        pixels[starts[index] : starts[index + 1]] = content
    return replace(split, cut=Kept(pixels, sizes, turns, halved, starts).cut)


def measured(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The heights and widths of all images, int64 (n, 2), their orientations, and which of them are JPEGs."""
    n = split.size
    sizes, turns, jpeg = np.zeros((n, 2), np.int64), np.zeros(n, np.int32), np.zeros(n, bool)

    @as_written
    def read(record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        header = checked(split.load(record["image"]))
        return record["index"], header.sizes[:2], header.turn, header.kind == _JPEG

    for index, *values in listed(split, read, "reading headers"):
        sizes[index], turns[index], jpeg[index] = values
    return sizes, turns, jpeg


def listed(split: Split, function: Callable[[Any], Any], doing: str) -> Iterable[Any]:
    """What a graph function makes of every record, with a bar that shows how far it is."""
    results = in_order(split.once().map(function, num_parallel_calls=THREADS).prefetch(2 * THREADS))
    hidden = not sys.stderr.isatty()
    console = Console(stderr=True)
    return track(results.as_numpy_iterator(), doing, split.size, console=console, transient=True, disable=hidden)


def room(size: int, place: Place, folder: Path, images: int) -> np.ndarray:
    """So many bytes of memory, or of a file without a name in the folder. Raises InputError where there are fewer."""
    free = int(ROOM * psutil.virtual_memory().available) if place == "ram" else shutil.disk_usage(folder).free
    if size > free:
        where = "memory has" if place == "ram" else f"the disk of {folder} has"
        other = "--cache disk takes the disk instead" if place == "ram" else "another --run-dir is needed"
        raise InputError(
            f"cache {place}: {images:,} decoded images take {size / 1e9:,.1f} GB, and {where} room for "
            f"{free / 1e9:,.1f} GB: {other}, or no --cache"
        )
    if place == "ram":
        return np.empty(size, np.uint8)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a disk that is full later would kill the process
        except OSError as error:
            raise InputError(f"cache disk: {folder} has no room for {size / 1e9:,.1f} GB: {error.strerror}") from error
        return np.memmap(cast(IO[Any], file), np.uint8, "r+", shape=(size,))
