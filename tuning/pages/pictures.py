"""Pictures of design spaces: error distributions, and errors against parameters."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from trainers.reports.fronts import color
from tuning.spaces.statistics import best_range, edf, edf_band


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
