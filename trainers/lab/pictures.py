"""The pictures of a diagnosis, as matplotlib figures."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kcnn.diagnosis import Diagnosis
from trainers.lab.gradients import Field, Gradients
from trainers.lab.timing import Timing
from trainers.reports.html import tips


def spans_picture(found: Diagnosis) -> Any:
    """Channels and the directions that are filled, at each place that is looked at."""
    spans = found.representation.spans
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    places = range(len(spans))
    axes.plot(places, [s.channels for s in spans], "o--", color="grey", label="channels")
    (filled,) = axes.plot(places, [s.effective for s in spans], "o-", label="directions that are filled")
    tips(filled, [f"{s.layer}: {s.effective:.1f} of {s.channels} directions" for s in spans])
    names = [f"{s.stage} {'narrow' if s.where == 'narrow' else ''}".strip() for s in spans]
    axes.set_xticks(places, names, rotation=45, ha="right", parse_math=False)
    axes.set_yscale("log")
    axes.legend()
    return figure


def gradients_picture(flow: Gradients) -> Any:
    """The norms at the ends of stages, and for each layer by which share of itself a step of rate 1 would change it."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    (ends,) = left.plot(range(len(flow.stages)), [*flow.stages.values()], "o-")
    tips(ends, [f"{stage}: {norm:.3g}" for stage, norm in flow.stages.items()])
    left.set_xticks(range(len(flow.stages)), [*flow.stages], rotation=45, ha="right", parse_math=False)
    left.set(yscale="log", ylabel="gradient at the end of a stage")
    (layers,) = right.plot([row.ratio for row in flow.layers], ".-", color="C1")
    tips(layers, [f"{row.layer}: {row.ratio:.3g}" for row in flow.layers])
    right.set(yscale="log", xlabel="layer", ylabel="gradient / weight")
    return figure


def roofline(spent: Timing) -> Any:
    """Each layer's rate against its multiply-adds a byte, below the roofs of the machine. Williams et al., 2009."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in spent.layers if row.macs and row.seconds]
    intensity = [row.macs / row.bytes for row in rows]
    rates = [row.macs / row.seconds / 1e9 for row in rows]
    sizes = [5 + 400 * row.seconds / spent.step for row in rows]
    dots = axes.scatter(intensity, rates, sizes, alpha=0.6, label="layers, as large as their time")
    tips(
        dots,
        [
            f"{row.layer} ({row.kind}): {row.seconds * 1e3:.3g} ms, {rate:.3g} billion multiply-adds a second, "
            f"bound by {row.bound or 'none of these'}"
            for row, rate in zip(rows, rates, strict=True)
        ],
    )
    ends = [min([*intensity, 0.5]), max([*intensity, 100.0])]
    steps = [ends[0] * (ends[1] / ends[0]) ** (k / 50) for k in range(51)]
    roof = [min(spent.product, spent.copy * x) / 1e9 for x in steps]
    axes.plot(steps, roof, color="black", label="the machine: copy, then matrix product")
    axes.set(xscale="log", yscale="log", xlabel="multiply-adds a byte", ylabel="billion multiply-adds a second")
    axes.legend(loc="lower right")
    return figure


def field_picture(field: Field) -> Any:
    """The picture, with the squares that are seen in fact and in theory."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(field.picture**0.5, cmap="magma")
    height, width = field.picture.shape
    for side, color, name in ((field.size, "cyan", "in fact"), (field.theoretical or 0, "white", "in theory")):
        if 0 < side < max(height, width):
            corner = (width / 2 - side / 2, height / 2 - side / 2)
            axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=color, label=name))
    if axes.patches:
        axes.legend(loc="lower right")
    axes.set_axis_off()
    return figure
