"""What TensorBoard shows of a run, and the pictures in its folder."""

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from trainers.runs.files import reading, replacing

PARTS = ("train", "validation")

LONGEST = 24  # characters of a class's name in a picture


class Dashboard:
    """Two event files as Keras names them, train and validation, so that TensorBoard lays their curves together."""

    def __init__(self, folder: Path | None, step: int = 0):
        """Opens the event files of a run that stands at this step. Without a folder nothing is written."""
        self.folder = folder
        self.open(step or -1)  # a run that starts anew shows its first images once more

    def open(self, last: int) -> None:
        if self.folder:
            rewind_events(self.folder, last)
        self.train, self.validation = (
            tf.summary.create_file_writer(str(self.folder / part)) if self.folder else tf.summary.create_noop_writer()
            for part in PARTS
        )

    def rewind(self, step: int) -> None:
        """Removes what was written after a step."""
        self.close()
        self.open(step)

    def scalars(self, writer: Any, step: int, values: dict[str, float]) -> None:
        with writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def strip(self, images: np.ndarray, step: int) -> None:
        """Training images (n, height, width, 3), uint8, side by side as the network sees them."""
        times = max(1, 96 // images.shape[1])  # small ones could hardly be seen
        images = images.repeat(times, 1).repeat(times, 2)
        with self.train.as_default(step):
            tf.summary.image("augmented", np.concatenate(list(images), axis=1)[None])

    def confusion(self, counts: np.ndarray, classes: tuple[str, ...], step: int) -> None:
        with self.validation.as_default(step):
            png = tf.io.decode_png(confusion_png(counts, classes), channels=3)
            tf.summary.image("confusion matrix", png[None])

    def flush(self) -> None:
        self.train.flush()
        self.validation.flush()

    def close(self) -> None:
        self.train.close()
        self.validation.close()


def confusion_png(counts: np.ndarray, classes: tuple[str, ...]) -> bytes:
    """The confusion matrix as a PNG: each row shows how the images of a class were classified."""
    from matplotlib.figure import Figure

    n = len(classes)
    names = [name if len(name) <= LONGEST else name[: LONGEST - 1] + "…" for name in classes]
    longest = max(map(len, names))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(0.42 * n + 1.5 + 0.2 * max(0, longest - 12), 4, 18))
    figure = Figure(figsize=(side, side), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="label", title=f"accuracy {np.trace(counts) / max(1, counts.sum()):.2%}")
    if n <= 40:  # more names and numbers than these could not be read
        axes.set_xticks(
            range(n),
            names,
            parse_math=False,
            rotation=45 if longest > 2 else 0,
            ha="right" if longest > 2 else "center",
        )
        axes.set_yticks(range(n), names, parse_math=False)
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=color, fontsize=8)
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # names may be in letters that the font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def rewind_events(folder: Path, last: int) -> None:
    """Removes the events after a step from a run's event files, as the steps after it are repeated.

    TensorBoard would show the points of both times.
    """
    for path in (path for part in PARTS for path in (folder / part).glob("events.out.tfevents.*")):
        if path.is_symlink() or not path.is_file():
            continue
        steps = [step for step, _ in events(path)]
        if min(steps, default=0) > last:
            path.unlink()
        elif max(steps, default=0) > last:
            with replacing(path) as partial, open(partial, "xb") as file:
                file.writelines(record for step, record in events(path) if step <= last)


def events(path: Path) -> Iterator[tuple[int, bytes]]:
    """The steps and records of an event file, up to where it was cut off, if it was.

    A record of TensorFlow's is its length, that length's checksum, an Event, and its checksum.
    """
    with reading(path) as file:
        left = os.fstat(file.fileno()).st_size
        while len(head := file.read(12)) == 12:
            size = 4 + int.from_bytes(head[:8], "little")
            left -= len(head) + size
            if left < 0:
                return
            body = file.read(size)
            try:
                yield tf.compat.v1.Event.FromString(body[:-4]).step, head + body
            except DecodeError:
                return
