"""One pass over a split: what is known of each image afterwards is a kilobyte of numbers."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import tensorflow as tf

from trainers.auto.glance import COLOURLESS, SIDE
from trainers.data import READ_ERRORS, reason
from trainers.data.decoding.headers import checked
from trainers.data.decoding.images import decode, train_image
from trainers.data.splits import THREADS, Split, as_written, in_order

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WebP", "WebP", "WebP")  # by the kinds of headers
_BATCH = 64


@dataclass(frozen=True)
class Scan:
    """What is known of the images of a part, by index. Of those that are not `intact` only the label is.

    sides: heights and widths as they are looked at, int32 (n, 2). formats: places in FORMATS. turned: whether EXIF
    turns them. grey: whether they have no colours. content: a hash of their bytes, int64. small: all of each in grey,
    squeezed into a square, uint8 (n, SIDE, SIDE); on the disk.
    """

    part: str
    split: Split
    labels: np.ndarray
    intact: np.ndarray
    sides: np.ndarray
    formats: np.ndarray
    turned: np.ndarray
    grey: np.ndarray
    content: np.ndarray
    small: np.ndarray


def scan(part: str, split: Split, advance: Callable[[int], None] = lambda images: None) -> Scan:
    """Decodes every image once; `advance` hears of how many were looked at since it was last called."""
    n = split.size

    @as_written
    def look(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        data = split.load(record["image"])
        header = checked(data)
        image = train_image(data, SIDE, tf.constant([0, 0]), crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False)
        pixels = tf.cast(image, tf.float32)
        light = tf.reduce_mean(pixels, -1)
        return {
            "index": record["index"],
            "sides": tf.where(header.turn > 4, tf.reverse(header.sizes[:2], [0]), header.sizes[:2]),
            "formats": header.kind,
            "turned": header.turn > 1,
            "grey": tf.reduce_mean(tf.abs(pixels - light[..., None])) < COLOURLESS,
            "content": tf.strings.to_hash_bucket_fast(data, 2**62),
            "small": tf.cast(tf.round(light), tf.uint8),
        }

    labels, intact = np.zeros(n, np.int32), np.zeros(n, bool)
    found: dict[str, np.ndarray] = {
        "sides": np.zeros((n, 2), np.int32),
        "formats": np.zeros(n, np.int8),
        "turned": np.zeros(n, bool),
        "grey": np.zeros(n, bool),
        "content": np.zeros(n, np.int64),
    }
    with tempfile.TemporaryFile() as file:
        found["small"] = np.memmap(cast(IO[Any], file), np.uint8, "w+", shape=(n, SIDE, SIDE))
    for batch in split.once().map(as_written(lambda r: (r["index"], r["label"]))).batch(4096).as_numpy_iterator():
        labels[batch[0]] = batch[1]
    images = split.once().map(look, num_parallel_calls=THREADS).ignore_errors()
    for batch in in_order(images.batch(_BATCH).prefetch(2)).as_numpy_iterator():
        index = batch.pop("index")
        intact[index] = True
        for name, values in batch.items():
            found[name][index] = values
        advance(len(index))
    advance(int(n - intact.sum()))
    return Scan(part, split, labels, intact, **found)


def broken(scan: Scan) -> dict[str, str]:
    """The reasons why images of the part cannot be read or decoded, by their names."""
    reasons = {}
    missing = tf.constant(~scan.intact)
    for record in scan.split.once().filter(as_written(lambda record: tf.gather(missing, record["index"]))):
        try:
            decode(scan.split.load(record["image"]))
            why = "it was read at the second try only"
        except READ_ERRORS as error:
            why = reason(error)
        reasons[scan.split.describe(int(record["index"]))] = why
    return reasons


def progress(total: int) -> tuple[Any, Callable[[int], None]]:
    """A progress bar on the terminal, to be entered, and the function that moves it on."""
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task("looking at images", total=total)
    return bar, lambda images: bar.advance(task, images)
