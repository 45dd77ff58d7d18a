"""Small pictures of a data set's images, as a page shows them."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from trainers.data import Order, Split, eval_image, train_batches
from trainers.data.augment import Augmentation
from trainers.data.sampling import only
from trainers.data.splits import THREADS, as_written, in_order

SIDE, GAP = 96, 2  # pixels of a picture, and between two


def thumbnails(split: Split, indices: Iterable[int], side: int = SIDE) -> dict[int, np.ndarray]:
    """The central squares of images that can be decoded, uint8 (side, side, 3), by their indices."""
    chosen = np.zeros(split.size, bool)
    chosen[list(indices)] = True
    if not chosen.any():
        return {}

    @as_written
    def small(record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return record["index"], eval_image(split.load(record["image"]), side, crop=1.0)

    pictures = in_order(only(split, chosen).once().map(small, num_parallel_calls=THREADS).ignore_errors())
    return {int(index): picture for index, picture in pictures.as_numpy_iterator()}


def augmented(split: Split, indices: list[int], times: int, seed: int, side: int, how: Augmentation) -> np.ndarray:
    """The images of these indices as training sees them in its first epochs: uint8 (indices, times, side, side, 3)."""
    chosen = np.zeros(split.size, bool)
    chosen[indices] = True
    records = only(split, chosen)

    def stream(seed: int, epoch_size: int, start: int) -> tf.data.Dataset:
        epochs = tf.data.Dataset.range(times)
        return epochs.flat_map(
            as_written(lambda epoch: records.once().map(as_written(lambda record: record | {"epoch": epoch})))
        ).repeat()

    shown = replace(records, stream=stream)
    batches = train_batches(shown, Order(seed, records.size, records.size * times), side, how)
    images = next(iter(batches))["image"].numpy()
    return images.reshape(times, records.size, side, side, 3).swapaxes(0, 1)


def jpeg(rows: Sequence[Sequence[np.ndarray]], side: int = SIDE) -> bytes:
    """Rows of pictures, uint8 (k, side, side, 3) each, side by side and one below the other, as a JPEG."""
    from PIL import Image

    step = side + GAP
    sheet = np.full((len(rows) * step - GAP, max(map(len, rows)) * step - GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            sheet[i * step : i * step + side, j * step : j * step + side] = picture
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
