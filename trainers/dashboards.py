"""What TensorBoard shows of a run, and the pictures in its folder."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

LONGEST = 24  # characters of a class's name in a picture


class Dashboard:
    """Two event files as Keras names them, train and validation, so that TensorBoard lays their curves together."""

    def __init__(self, folder: Path | None):
        """Without a folder nothing is written."""
        self.train, self.validation = (
            tf.summary.create_file_writer(str(folder / part)) if folder else tf.summary.create_noop_writer()
            for part in ("train", "validation")
        )

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
    """The confusion matrix as a picture: each row shows what became of a class's images."""
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
