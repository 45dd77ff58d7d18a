"""What TensorBoard shows of a run, and the pictures in its folder."""

import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from kcnn.analysis.graph import LayerFacts
from trainers.runs.files import reading, replacing

PARTS = ("", "train", "validation")  # where event files lie; runs of earlier versions had one in each of two folders
# What a figure of a run is called there: the part before the slash is its group.
TAGS = {
    "loss": "train/loss", "accuracy": "train/accuracy", "lr": "optimizer/lr", "grad_norm": "optimizer/grad_norm",
    "images_per_second": "speed/images_per_second", "val_loss": "val/loss", "val_accuracy": "val/accuracy",
    "val_top5": "val/top5", "val_map": "val/mAP", "gap": "gap/accuracy", "loss_gap": "gap/loss",
}  # fmt: skip
# The charts of the tab "Custom Scalars": training and validation in one.
CHARTS = {
    "loss": ("train/loss", "val/loss"), "accuracy": ("train/accuracy", "val/accuracy", "val/mAP"),
    "gap": ("gap/accuracy", "gap/loss"), "learning rate": ("optimizer/lr",),
}  # fmt: skip
LONGEST = 24  # characters of a class's name in a picture


class Dashboard:
    """The event file in a run's folder, so that TensorBoard calls the run by the folder's name."""

    def __init__(self, folder: Path | None, step: int = 0):
        """Opens the event file of a run that stands at this step. Without a folder nothing is written."""
        self.folder = folder
        self.open(step or -1)  # a run that starts anew shows its first images once more

    def open(self, last: int) -> None:
        if self.folder:
            rewind_events(self.folder, last)
            self.writer = tf.summary.create_file_writer(str(self.folder))
        else:
            self.writer = tf.summary.create_noop_writer()

    def rewind(self, step: int) -> None:
        """Removes what was written after a step."""
        self.close()
        self.open(step)

    def begin(self, layers: Sequence[LayerFacts], settings: Mapping[str, Any] | None) -> None:
        """Writes the layout of the custom scalars, the network's graph and, where there are any, the settings for the
        page HParams."""
        from tensorboard.plugins.custom_scalar import layout_pb2, summary
        from tensorboard.plugins.hparams import api

        charts = [
            layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{t}$" for t in tags]))
            for title, tags in CHARTS.items()
        ]
        layout = layout_pb2.Layout(category=[layout_pb2.Category(title="training and validation", chart=charts)])
        with self.writer.as_default(0):
            tf.summary.experimental.write_raw_pb(summary.pb(layout).SerializeToString())
            tf.summary.graph(graph_of(layers))
            if settings and self.folder:
                api.hparams(dict(settings), trial_id=str(self.folder.absolute()))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Figures by their names in a run, or by tags of their own."""
        with self.writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(TAGS.get(name, name), value)

    def samples(self, images: np.ndarray, labels: Sequence[str], step: int) -> None:
        """Training images (n, height, width, 3), uint8, as the network sees them, with their labels."""
        self.picture("augmented", samples_png(images, labels, across=4), step)

    def confusion(self, counts: np.ndarray, classes: tuple[str, ...], step: int) -> None:
        self.picture("confusion matrix", confusion_png(counts, classes), step)

    def filters(self, kernel: np.ndarray, step: int) -> None:
        """The kernels of the first convolution (height, width, 3, n) as small pictures, each with its own contrast."""
        with self.writer.as_default(step):
            tf.summary.image("filters of the first layer", filters_image(kernel)[None])

    def histograms(self, weights: Mapping[str, np.ndarray], step: int) -> None:
        with self.writer.as_default(step):
            for path, values in weights.items():
                tf.summary.histogram(f"weights/{path}", values)

    def picture(self, name: str, png: bytes, step: int) -> None:
        with self.writer.as_default(step):
            tf.summary.image(name, tf.io.decode_png(png, channels=3)[None])

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def graph_of(layers: Sequence[LayerFacts]) -> Any:
    """The layers as a GraphDef, blocks within stages, with the shapes of what they make."""
    graph, makers = tf.compat.v1.GraphDef(), dict[int, str]()
    for call in layers:
        node = graph.node.add(name=re.sub(r"^(stage\d+)_(block\d+)_", r"\1/\2/", call.name), op=call.kind)
        for tensor in call.inputs:
            if tensor not in makers:  # that is what goes in
                makers[tensor] = graph.node.add(name="image", op="Placeholder").name
            node.input.append(makers[tensor])
        shape = node.attr["_output_shapes"].list.shape.add()
        for size in (-1, *call.shape):
            shape.dim.add(size=size)
        makers |= dict.fromkeys(call.outputs, node.name)
    return graph


def show_card(folder: Path, card: str, curves: bytes, step: int) -> None:
    """Shows a finished run's card as a text, and the picture that it has, a PNG, among the images."""
    dashboard = Dashboard(folder, step)
    with dashboard.writer.as_default(step):
        tf.summary.text("card", re.sub(r"!\[[^]]*\]\([^)]*\)\n*", "", card))
    dashboard.picture("curves", curves, step)
    dashboard.close()


def samples_png(images: np.ndarray, labels: Sequence[str], across: int = 8) -> bytes:
    """Images in rows as a PNG, each under its label."""
    from matplotlib.figure import Figure

    rows, columns = -(-len(images) // across), min(across, len(images))
    figure = Figure(figsize=(1.3 * columns, 1.7 * rows), dpi=100, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    for axes, image, label in zip(panels, images, labels, strict=False):
        axes.imshow(image, interpolation="nearest")
        axes.set_title("\n".join(cut(line, 16) for line in label.split("\n")), fontsize=8, parse_math=False)
    return png_of(figure)


def filters_image(kernel: np.ndarray) -> np.ndarray:
    """uint8 (rows, columns, 3): each kernel between its least and its largest weight, in a grid with a rim."""
    low, high = kernel.min((0, 1, 2)), kernel.max((0, 1, 2))
    shown = (255 * (kernel - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    scale, count = max(1, 24 // kernel.shape[0]), kernel.shape[-1]
    across = int(np.ceil(np.sqrt(count)))
    cells = [np.pad(shown[..., i].repeat(scale, 0).repeat(scale, 1), ((1, 1), (1, 1), (0, 0))) for i in range(count)]
    cells += [np.zeros_like(cells[0])] * (-count % across)
    rows = [np.concatenate(cells[i : i + across], 1) for i in range(0, len(cells), across)]
    return np.concatenate(rows)


def cut(name: str, longest: int = LONGEST) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def png_of(figure: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # names may be in letters that the font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def confusion_png(counts: np.ndarray, classes: tuple[str, ...]) -> bytes:
    """The confusion matrix as a PNG: each row shows how the images of a class were classified."""
    from matplotlib.figure import Figure

    n = len(classes)
    names = [cut(name) for name in classes]
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
    return png_of(figure)


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
