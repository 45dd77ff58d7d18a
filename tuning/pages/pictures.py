"""Pictures of searches: error distributions, errors against parameters, accuracy against costs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from kcnn.terminal.tables import short
from tuning.spaces.statistics import best_range, edf, edf_band

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # told apart by everyone
GREY = "#666666"
COSTS = {"macs": "multiply-adds", "params": "parameters", "latency_ms": "milliseconds an image"}
Row = Mapping[str, Any]


def color(i: int) -> str:
    return COLORS[i % len(COLORS)]


def distributions(errors: Mapping[str, Sequence[float]]) -> Figure:
    """The EDF of each space with its bootstrap band: higher and further left is better."""
    figure = Figure(figsize=(8, 4.5 + 0.25 * len(errors)), layout="constrained")
    axes = figure.subplots()
    every = np.concatenate([np.asarray(e) for e in errors.values()])
    room = 0.03 * (every.max() - every.min()) or 0.01
    grid = np.linspace(every.min() - room, every.max() + room, 400)
    for i, (space, values) in enumerate(errors.items()):
        low, high = edf_band(values, grid)
        axes.fill_between(100 * grid, low, high, step="post", color=color(i), alpha=0.18, linewidth=0)
        label = f"{space}: {len(values)} networks, {100 * min(values):.1f} | {100 * np.mean(values):.1f}"
        axes.step(100 * grid, edf(values, grid), where="post", color=color(i), label=label)
    axes.set(
        xlabel="validation error, %",
        ylabel="share of the networks with at most this error",
        ylim=(0, 1.02),
        xlim=(100 * grid[0], 100 * grid[-1]),
    )
    axes.grid(alpha=0.3)
    figure.legend(title="least error | mean error, %", loc="outside lower left", frameon=False)
    return figure


def against_parameters(parameters: Mapping[str, Sequence[float]], errors: Sequence[float], shade: str) -> Figure:
    """Error against each parameter, with the likely best range and its median."""
    figure = Figure(figsize=(11, 2.9 * math.ceil(len(parameters) / 3)), layout="constrained")
    panels = list(figure.subplots(math.ceil(len(parameters) / 3), 3, squeeze=False, sharey=True).flat)
    for panel, (name, values) in zip(panels, parameters.items(), strict=False):
        low, median, high = best_range(values, errors)
        panel.axvspan(low, high, color=shade, alpha=0.15, linewidth=0)
        panel.axvline(median, color=shade, linewidth=1.5)
        panel.scatter(values, [100 * e for e in errors], s=16, color="#333333", alpha=0.75, linewidth=0)
        title = f"{name}: {median:g}" + (f" ({low:g} to {high:g})" if high > low else "")
        panel.set_title(title, fontsize=10)
        if min(values) > 0 and max(values) / min(values) > 4:
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        panel.grid(alpha=0.3)
    for panel in panels[len(parameters) :]:
        panel.set_visible(False)
    figure.supylabel("validation error, %", fontsize=10)
    return figure


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
) -> Figure:
    """Accuracy against costs (keys of the rows, and what to call them), with the front of what none beats.

    apart: a front for each group, as where only the rows of one group are comparable. best: the row to encircle.
    """
    figure = Figure(figsize=(11, 3.4 + 0.25 * len(groups)), layout="constrained")
    every = [row for rows in groups.values() for row in rows]
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for panel, (key, label) in zip(panels, costs.items(), strict=True):
        for i, (name, rows) in enumerate(groups.items()):
            points = [row[key] for row in rows], [100 * row["val_accuracy"] for row in rows]
            panel.scatter(*points, s=16, color=color(i), alpha=0.8, linewidth=0, label=name)
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
