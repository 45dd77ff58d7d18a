"""Accuracy against costs: the networks that none beats at their cost or less, and their picture."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from kcnn.terminal.tables import short
from trainers.reports import html

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # told apart by everyone
GREY = "#666666"
COSTS = {"macs": "multiply-adds", "params": "parameters", "latency_ms": "milliseconds an image"}
Row = Mapping[str, Any]


def color(i: int) -> str:
    return COLORS[i % len(COLORS)]


def front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """The networks that none beats at their cost or less, by rising cost."""
    best, kept = -math.inf, []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i])):
        if accuracies[i] > best:
            best = accuracies[i]
            kept.append(i)
    return kept


def pareto(
    groups: Mapping[str, Sequence[Row]],
    costs: Mapping[str, str],
    *,
    apart: bool = False,
    log: bool = False,
    best: Row | None = None,
    name: str = "arch",
) -> Figure:
    """Accuracy against costs (keys of the rows, and what to call them), with the front of what none beats.

    apart: a front for each group, as where only the rows of one group are comparable. best: the row to encircle. name:
    the key of what a row is called, which a point tells in a page.
    """
    figure = Figure(figsize=(0.8 + 3.4 * len(costs), 3.4 + 0.25 * len(groups)), layout="constrained")
    every = [row for rows in groups.values() for row in rows]
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for panel, (key, label) in zip(panels, costs.items(), strict=True):
        for i, (group, rows) in enumerate(groups.items()):
            points = [row[key] for row in rows], [100 * row["val_accuracy"] for row in rows]
            dots = panel.scatter(*points, s=22, color=color(i), alpha=0.8, linewidth=0, label=group)
            told = (f"{row[name]}: {row['val_accuracy']:.2%}, {short(row[key])} {label}" for row in rows)
            html.tips(dots, list(told))
        for rows, shade in [(rows, color(i)) for i, rows in enumerate(groups.values())] if apart else [(every, GREY)]:
            kept = front([row[key] for row in rows], [row["val_accuracy"] for row in rows])
            steps = [rows[i][key] for i in kept], [100 * rows[i]["val_accuracy"] for i in kept]
            panel.step(*steps, where="post", color=shade, linewidth=1, zorder=0)
        if best:
            panel.scatter(
                [best[key]],
                [100 * best["val_accuracy"]],
                s=120,
                facecolors="none",
                edgecolors="black",
                linewidths=1.5,
                label="best",
            )
        panel.set_xlabel(label)
        if log:
            panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(LogLocator(base=2, numticks=6) if log else MaxNLocator(5))
        panel.xaxis.set_major_formatter(lambda x, _: short(x))
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("validation accuracy, %")
    if len(groups) > 1 or best:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower left", frameon=False)
    return figure


def side_by_side(groups: Mapping[str, Sequence[Row]], costs: Mapping[str, str], **options: Any) -> str:
    """The pictures of `pareto`, one for each cost that all rows have, for a page; below each other on a phone."""
    every = [row for rows in groups.values() for row in rows]
    known = {key: label for key, label in costs.items() if all(row.get(key) for row in every)}
    return html.row(
        html.picture(pareto(groups, {key: label}, **options), f"accuracy against {label}")
        for key, label in known.items()
    )
