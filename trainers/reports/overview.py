"""One page over any number of runs: a table, their curves, what each costs, and which differences chance explains."""

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kcnn.terminal.tables import short
from trainers.reports import html
from trainers.reports.fronts import COSTS, GREY, color, side_by_side
from trainers.reports.many import comparisons, differing, groups, value_of
from trainers.runs.listing import Entry

MOST_CURVES = 40  # that can be told apart by pointing at them
TEST = (
    "Runs that differ in their seed alone count together: where both sides have two seeds or more, Welch's test "
    "compares their means. Else the accuracies are compared as shares of the validation images, by Tukey's test of the "
    "range, which counts in that the best run was looked for among all. Up to 0.05 is called beyond chance."
)


def as_page(runs: Sequence[Entry], page: Path) -> str:
    """The page, whose links lead from the folder that it lies in."""
    finished = [run for run in runs if run.state == "finished"]
    parts = [html.paragraph(summary(runs)), html.table(*table(runs, page.parent))]
    if found := comparisons(groups(runs)):
        parts += [html.heading("What is better than what"), html.lines(found), html.paragraph(TEST)]
    trained = [run for run in runs if run.history]
    if trained:
        parts += [html.heading("Curves"), html.row(curves(trained[:MOST_CURVES]))]
        if len(trained) > MOST_CURVES:
            parts.append(html.paragraph(f"Shown are the {MOST_CURVES} newest of {len(trained)} runs."))
    rows = [{"run": name, **run.result} for name, run in zip(names(finished), finished, strict=True)]
    if len(rows) > 1:
        parts += [html.heading("Accuracy against cost"), side_by_side({"runs": rows}, COSTS, name="run")]
    if damaged := [run for run in runs if run.state == "damaged"]:
        parts += [html.heading("Damaged"), html.lines([run.problem for run in damaged])]
    if lines := commands(runs):
        parts += [html.heading("How to go on"), html.lines(lines)]
    return html.page("Runs", *parts)


def summary(runs: Sequence[Entry]) -> str:
    counts = {state: sum(run.state == state for run in runs) for state in dict.fromkeys(run.state for run in runs)}
    told = ", ".join(f"{count:,} {state}" for state, count in counts.items())
    return f"{len(runs):,} run{'s' * (len(runs) > 1)}: {told}. A click on a column's head sorts by it."


def table(runs: Sequence[Entry], place: Path) -> tuple[list[str], list[list[Any]]]:
    """Heads and rows: each run with its figures and the settings that differ."""
    settings = differing([run for run in runs if run.settings])
    heads = ["run", "network", "data", "state", "epochs", "accuracy", "95 % interval", "multiply-adds", "parameters",
             "images/s", "time", *(name.replace("_", "-") for name in settings)]  # fmt: skip
    told = zip(names(runs), runs, strict=True)
    return heads, [[*figures(name, run, place), *(value_of(run, key) for key in settings)] for name, run in told]


def names(runs: Sequence[Entry]) -> list[str]:
    """What tells the runs apart of where they lie."""
    places = [run.folder.absolute() for run in runs]
    above = os.path.commonpath(places) if len(places) > 1 else places[0].parent
    return [printable(os.path.relpath(place, above)) for place in places]


def printable(path: Path | str) -> str:
    """A path as text: names of files may be bytes that are none."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def figures(name: str, run: Entry, place: Path) -> list[Any]:
    found = run.result
    card = run.folder / "card.md"
    link = html.Link(name, os.path.relpath(card if card.is_file() else run.folder, place))
    accuracy = found.get("val_accuracy", run.best)
    low, high = interval(found)
    return [
        link, run.arch, os.path.basename(run.data), run.state, (run.epoch, f"{run.epoch} of {run.epochs}"),
        cell(accuracy, lambda v: f"{v:.2%}"), (low, f"{low:.1%} to {high:.1%}") if high else "",
        *(cell(found.get(name), short) for name in ("macs", "params", "images_per_second")),
        cell(found.get("seconds"), duration),
    ]  # fmt: skip


def interval(found: dict[str, Any]) -> tuple[float, float]:
    """The accuracy's, or nothing twice where the run does not tell."""
    match found.get("val_accuracy_interval"):
        case [int() | float() as low, int() | float() as high]:
            return low, high
    return 0.0, 0.0


def cell(value: Any, spelled: Any) -> Any:
    return (value, spelled(value)) if isinstance(value, int | float) else ""


def duration(seconds: float) -> str:
    """A time in its largest two units: 75 -> "1 min 15 s"."""
    for size, unit, part, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = int(seconds % size // part)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds:.0f} s"


def curves(runs: Sequence[Entry]) -> list[str]:
    """Validation accuracy and loss, and training loss, by epoch, of all runs laid over each other."""
    drawn, called = [], names(runs)
    kinds = {id(run): i for i, group in enumerate(groups(runs)) for run in group.runs}  # a color for each setting
    for name, title, by in (
        ("val_accuracy", "validation accuracy, %", 100), ("val_loss", "validation loss, nats", 1),
        ("train_loss", "training loss (augmented), nats", 1),
    ):  # fmt: skip
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axes = figure.subplots()
        for i, (label, run) in enumerate(zip(called, runs, strict=True)):
            shade = color(kinds.get(id(run), len(kinds) + i))
            values = by * np.array([line.get(name, np.nan) for line in run.history], float)
            epochs = np.arange(1, len(values) + 1)
            seen = np.isfinite(values)
            axes.plot(epochs[seen], values[seen], color=shade, linewidth=1)
            dots = axes.scatter(epochs[seen], values[seen], s=14, color=shade, label=label)
            html.tips(
                dots,
                [f"{label}, epoch {e}: {v:.4g}" for e, v in zip(epochs[seen], values[seen], strict=True)],
            )
        axes.set(xlabel="epoch", ylabel=title)
        axes.grid(alpha=0.3, color=GREY)
        if len(runs) <= 6:
            axes.legend(fontsize=8)
        drawn.append(html.picture(figure, title))
    return drawn


def commands(runs: Sequence[Entry]) -> list[str]:
    """What one would do next with these runs."""
    finished = [run for run in runs if run.state == "finished"]
    lines = [f"kcnn train --resume {quoted(run)}" for run in runs if run.state == "stopped"][:5]
    if finished:
        best = quoted(max(finished, key=lambda run: run.result["val_accuracy"]))
        lines += [f"kcnn evaluate {best}", f"kcnn export {best}"]
    return lines


def quoted(run: Entry) -> str:
    """A run's folder as a shell takes it."""
    return shlex.quote(printable(run.folder))


def ago(then: float) -> str:
    """How long ago something was, in its largest unit."""
    return " ".join(duration(max(0.0, time.time() - then)).split()[:2])
