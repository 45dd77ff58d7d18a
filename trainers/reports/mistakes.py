"""mistakes.html: which images a network gets wrong and which only just right, and how sure it is of them."""

from typing import Any

import numpy as np

from trainers.data import Split
from trainers.reports import html
from trainers.reports.pictures import jpeg, thumbnails

SHOWN = 60  # mistakes as pictures, and as many hits
PAIRS = 20  # of classes that are taken for each other
ROWS = 1000  # of the table of classes


def confused(confusion: np.ndarray, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The pairs of classes that are most often taken for each other, as {label, taken_for, images, share of label}."""
    counts = confusion.astype(np.int64).copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:PAIRS]
    places = zip(*np.unravel_index(order, counts.shape), strict=True)
    return [
        {"label": classes[i], "taken_for": classes[j], "images": int(counts[i, j]),
         "share": float(counts[i, j] / confusion[i].sum())}
        for i, j in places if counts[i, j]
    ]  # fmt: skip


def surest(answers: Any) -> np.ndarray:
    """The indices of the mistakes, those first of which the network is surest; answers: an `evaluation.Answers`."""
    wrong = np.flatnonzero(answers.likely[:, 0] != answers.labels)
    return wrong[np.argsort(-answers.shares[wrong, 0], kind="stable")]


def page(figures: dict[str, Any], split: Split, answers: Any, classes: tuple[str, ...]) -> str:
    """The page of an evaluation; answers: an `evaluation.Answers`."""
    wrong = answers.likely[:, 0] != answers.labels
    mistakes, hits = surest(answers)[:SHOWN], np.flatnonzero(~wrong)
    hits = hits[np.argsort(answers.own[hits], kind="stable")][:SHOWN]
    small = thumbnails(split, [*mistakes, *hits])
    accuracy = f"{figures['accuracy']:.2%} ({spread(figures['accuracy_interval'])})"
    found = figures["calibration"]

    def tile(i: int) -> tuple[bytes, str]:
        best = f"{classes[answers.likely[i, 0]]} {answers.shares[i, 0]:.1%}"
        label = f"{classes[answers.labels[i]]} {answers.own[i]:.1%}"
        second = f"then {classes[answers.likely[i, 1]]} {answers.shares[i, 1]:.1%}"
        return jpeg([[small[i]]]), f"{split.describe(i)}\n" + (
            f"label {label}\nanswer {best}" if wrong[i] else f"{label}\n{second}"
        )

    def tiles(places: np.ndarray) -> str:
        return html.tiles([tile(int(i)) for i in places if int(i) in small])

    return html.page(
        f"Mistakes of {figures['run']}",
        html.paragraph(
            f"{figures['images']:,} images of {figures['place']}: accuracy {accuracy}, {int(wrong.sum()):,} mistakes. "
            "Ranges in brackets hold the true value in 95 of 100 such measurements."
        ),
        html.heading("The most confident mistakes"),
        html.paragraph("The network is surest of these, so look here for wrong labels first."),
        tiles(mistakes) if len(mistakes) else html.paragraph("There are none."),
        html.heading("The least certain hits"),
        tiles(hits) if len(hits) else html.paragraph("There are none."),
        html.heading("Classes taken for each other"),
        html.table(
            ["class", "taken for", "images", "of the class"],
            [
                [row["label"], row["taken_for"], row["images"], (row["share"], f"{row['share']:.1%}")]
                for row in figures["most_confused"]
            ],
        )
        if figures["most_confused"]
        else html.paragraph("None are."),
        html.heading("Each class"),
        html.table(
            ["class", "images", "recall", "precision", "F1"],
            [
                [row["class"], row["count"], *(measured(row, name) for name in ("recall", "precision", "f1"))]
                for row in figures["per_class"][:ROWS]
            ],
        ),
        html.heading("How sure it is, and how often right"),
        html.paragraph(
            f"The expected calibration error is {found['ece']:.2%}: by so much confidence and accuracy differ in the "
            f"mean (Guo et al., 2017). " + advice(found)
        ),
        html.picture(reliability_picture(found["reliability"]), "accuracy against confidence"),
    )


def advice(found: dict[str, Any]) -> str:
    """What the temperature says."""
    if found["ece_with_temperature"] is None:
        return ""
    way = "too sure" if found["temperature"] > 1 else "not sure enough"
    return (
        f"The temperature {found['temperature']:.3g} fits best, so it is {way}; with it the error is "
        f"{found['ece_with_temperature']:.2%} on images from which it was not found. It changes no answer. "
        f"kcnn export --temperature {found['temperature']:.3g} builds it in."
    )


def measured(row: dict[str, Any], name: str) -> tuple[float, str]:
    value = row[name]
    return (-1.0, "-") if value is None else (value, f"{value:.1%} ({spread(row[f'{name}_interval'])})")


def spread(interval: list[float] | None) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}" if interval else "-"


def reliability_picture(rows: list[dict[str, Any]]) -> Any:
    """Bars of accuracy by confidence, the line on which both are equal, and how many images each bar stands for."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left, width = [row["from"] for row in rows], [row["to"] - row["from"] for row in rows]
    upper.bar(left, [row["accuracy"] for row in rows], width, align="edge", edgecolor="white", label="accuracy")
    upper.plot([row["confidence"] for row in rows], [row["accuracy"] for row in rows], "o", color="C1", markersize=4)
    upper.plot([0, 1], [0, 1], "--", color="grey", label="as sure as right")
    upper.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    upper.legend(loc="upper left")
    lower.bar(left, [row["images"] for row in rows], width, align="edge", edgecolor="white", color="C2")
    lower.set(xlabel="confidence, the probability of the answer", ylabel="images")
    return figure
