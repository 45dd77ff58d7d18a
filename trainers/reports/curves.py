"""Pictures of a run: its curves as a PNG, and the course of its settings as text for a terminal."""

import io
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainers.optim.schedules import make_schedule
from trainers.phases import phase_of
from trainers.reports.verdict import History, series, wilson
from trainers.settings import RunConfig

if TYPE_CHECKING:
    from trainers.optim.range_test import RangeTest

BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN = " .:#"  # where the terminal's encoding has no blocks


def gap(figures: Mapping[str, float]) -> dict[str, float]:
    """How much better an epoch's training figures are than its validation figures: above 0 where it is worse there.

    Training figures are measured on augmented images, at each step and with the training's own loss, and validation
    figures on plain images at the end of the epoch. Regularization therefore makes this gap too small, even negative.
    A run's verdict and card measure the gap on plain images of both (see evaluation.evaluate_train_sample).
    """
    return {
        "gap": figures["accuracy"] - figures["val_accuracy"],
        "loss_gap": figures["val_loss"] - figures["loss"],
    }


def curves_png(history: History, val_images: int, train_accuracy: float | None = None) -> bytes:
    """Loss and accuracy in training and validation, the gap between them, and the learning rate, by epoch.

    train_accuracy: of the final weights on training images without augmentation, which makes the gap a fair one.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs = np.arange(1, len(history) + 1)
    mark = {"marker": "."} if len(history) <= 50 else {}
    figure = Figure(figsize=(10, 7), dpi=100, layout="constrained")
    (loss, accuracy), (apart, rate) = figure.subplots(2, 2)
    for axes, train, validation in ((loss, "loss", "val_loss"), (accuracy, "accuracy", "val_accuracy")):
        axes.plot(epochs, finite(history, train), color="C0", label="training (augmented)", **mark)
        axes.plot(epochs, finite(history, validation), color="C1", label="validation", **mark)
    low, high = np.transpose([wilson(figures["val_accuracy"], val_images) for figures in history])
    accuracy.fill_between(epochs, low, high, color="C1", alpha=0.2, linewidth=0, label="its 95% interval")
    gaps = 100 * (series(history, "accuracy") - series(history, "val_accuracy"))
    apart.axhline(0, color="grey", linewidth=0.8)
    apart.plot(epochs, gaps, color="C2", label="training (augmented) - validation", **mark)
    if train_accuracy is not None:
        fair = 100 * (train_accuracy - history[-1]["val_accuracy"])
        accuracy.plot(epochs[-1:], [train_accuracy], "D", color="C0", label="training, not augmented")
        apart.plot(epochs[-1:], [fair], "D", color="C2", label=f"not augmented: {fair:.1f} points")
    rate.plot(epochs, finite(history, "lr"), color="C3", **mark)
    rate.set_ylim(bottom=0)
    loss.set(title="loss", ylabel="nats")
    accuracy.set(title=f"accuracy: {history[-1]['val_accuracy']:.2%} in validation")
    apart.set(title="accuracy gap", ylabel="points")
    rate.set(title="learning rate")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (loss, accuracy, apart):
        axes.legend()
    for axes in (loss, accuracy, apart, rate):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def range_png(test: "RangeTest") -> bytes:
    """The losses of a range test over its rates, as they were and smoothed, with the suggested rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(test.rates, np.ma.masked_invalid(test.losses), ".", color="C0", alpha=0.5, label="a step")
    axes.plot(test.rates[: len(test.smoothed)], test.smoothed, color="C0", label="smoothed")
    if test.suggested:
        axes.axvline(test.suggested, color="C2", label=f"suggested: {test.suggested:g}")
    if test.rises:
        axes.axvline(test.rises, color="C3", linestyle="--", label=f"rises from {test.rises:.2g}")
    if test.smoothed:  # what blows up would flatten all the rest
        low, first = min(test.smoothed), test.smoothed[0]
        axes.set_ylim(max(0.0, low - 0.2 * first), 2 * max(first, low) - low + 0.2 * first)
    axes.set(title="learning rate range test", xlabel="learning rate", ylabel="loss in nats", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def finite(history: History, name: str) -> np.ndarray:
    """A curve with holes where it is NaN or infinite."""
    values = series(history, name)
    return np.where(np.isfinite(values), values, np.nan)


def plan_text(config: RunConfig, steps_per_epoch: int, width: int = 60) -> str:
    """The learning rate and the resolution over the epochs of a run, as text to look at."""
    ramp = BLOCKS if encodable(BLOCKS) else PLAIN
    steps = np.linspace(0, config.epochs * steps_per_epoch - 1, width).round().astype(int)
    rates = np.asarray(make_schedule(config, steps_per_epoch)(steps)).tolist()
    sides = [resolution(config, int(step) // steps_per_epoch) for step in steps]
    parts = [chart("learning rate", rates, ramp, 5)]
    parts += [chart("resolution", sides, ramp, 3)] if len(set(sides)) > 1 else []
    axis = f"{'epoch':>10} 0{config.epochs:>{width}}"
    return "\n".join([*parts, axis] + ([] if len(set(sides)) > 1 else [f"{'resolution':>10} {sides[0]} throughout"]))


def resolution(config: RunConfig, epoch: int) -> int:
    """The side of the training images in an epoch, counted from 0, in pixels."""
    return phase_of(config, epoch).resolution


def chart(title: str, values: Sequence[float], ramp: str, rows: int) -> str:
    """Values above 0 as columns, the highest `rows` lines high, under a title and with the top's value at the left.

    ramp: the characters of a cell from empty to full.
    """
    top, full = max(values), len(ramp) - 1
    filled = [round(value / top * rows * full) for value in values]
    if min(values) > 0:  # what is small is not nothing
        filled = [max(1, n) for n in filled]
    lines = []
    for row in reversed(range(rows)):
        cells = "".join(ramp[min(max(n - row * full, 0), full)] for n in filled)
        label = f"{top:.4g}" if row == rows - 1 else ""
        lines.append(f"{label:>10} {cells}".rstrip())
    return "\n".join([f"{'':>10} {title}", *lines])


def encodable(text: str, stream: Any = None) -> bool:
    """Whether standard output can show the text."""
    try:
        text.encode((stream or sys.stdout).encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
