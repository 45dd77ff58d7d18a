"""Pictures of searches: error distributions, errors against parameters, accuracy against costs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kcnn.scaling import short
from tuning.spaces.statistics import best_range, edf, edf_band

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # told apart by everyone
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
    axes.set(xlabel="validation error, %", ylabel="share of the networks with at most this error", ylim=(0, 1.02),
             xlim=(100 * grid[0], 100 * grid[-1]))  # fmt: skip
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


def pareto(groups: Mapping[str, Sequence[Row]], costs: Mapping[str, str]) -> Figure:
    """Accuracy against costs (keys of the rows, and what to call them), with the front over all groups."""
    figure = Figure(figsize=(11, 3.4 + 0.25 * len(groups)), layout="constrained")
    every = [row for rows in groups.values() for row in rows]
    for panel, (key, label) in zip(figure.subplots(1, len(costs), sharey=True, squeeze=False)[0], costs.items(),
                                   strict=True):  # fmt: skip
        for i, (name, rows) in enumerate(groups.items()):
            panel.scatter([row[key] for row in rows], [100 * row["val_accuracy"] for row in rows], s=16,
                          color=color(i), alpha=0.8, linewidth=0, label=name)  # fmt: skip
        best = front([row[key] for row in every], [row["val_accuracy"] for row in every])
        panel.step([every[i][key] for i in best], [100 * every[i]["val_accuracy"] for i in best], where="post",
                   color="#666666", linewidth=1, zorder=0)  # fmt: skip
        panel.set_xlabel(label)
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.xaxis.set_major_formatter(lambda x, _: short(x))
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("validation accuracy, %")
    if len(groups) > 1:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower left", frameon=False)
    return figure
