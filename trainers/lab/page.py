"""The page of a diagnosis: one file that opens offline, for a reader who has not read the papers."""

from typing import Any

from kcnn.diagnosis import Diagnosis
from trainers.lab.gradients import Field, Gradients
from trainers.lab.pipeline import Pace
from trainers.lab.timing import Timing
from trainers.reports import html

SLOWEST = 40  # layers of the table of times
ABOUT = {
    "effective": "As many directions as the features fill: exp of their spectrum's entropy (Roy and Vetterli, 2007).",
    "first tenth": "The share of the variance in the strongest tenth of the directions.",
    "ReLU loses": "The share of the variance that no affine map gives back after a ReLU at this place; a linear "
    "bottleneck avoids it (Sandler et al., 2018).",
    "probe": "The accuracy of a linear classifier on the means of these maps, on images that it has not seen (Alain "
    "and Bengio, 2016).",
    "linear CKA": "How alike the outputs of two blocks in a row are: 1 where the block between changes nothing "
    "(Kornblith et al., 2019).",
}  # fmt: skip


def page(found: Diagnosis, what: str, flow: Gradients, field: Field, spent: Timing, fed: Pace | None) -> str:
    """what: the images in words."""
    built, seen = found.architecture, found.representation
    ways = built.to_dict()["paths_log2"]
    return html.page(
        f"Diagnosis of {found.facts.name}",
        html.paragraph(f"{seen.images:,} {what}, {found.facts.resolution} pixels."),
        html.heading("What stands out"),
        *(advice(found) or [html.paragraph("Nothing stands out.")]),
        html.heading("What it makes of images"),
        html.picture(spans_picture(found), "effective rank by stage"),
        html.table(
            ["stage", "where", "layer", "channels", "effective", "first tenth", "ReLU loses", "activation", "probe"],
            [
                [s.stage, s.where, s.layer, s.channels, (s.effective, f"{s.effective:.1f}"), share(s.first_tenth),
                 share(s.relu_loses), s.activated or "-", share(s.probe)]
                for s in seen.spans
            ],
        ),
        *(html.paragraph(f"{name}: {text}") for name, text in list(ABOUT.items())[:4]),
        html.heading("What comes back"),
        html.paragraph(
            f"The norm of the loss's gradient at the end of each stage, of an image in the mean: {flow.verdict}; at "
            f"the first stage it is {flow.first_to_last:.3g} times that at the last. Below 0.01 the first layers "
            "hardly learn, above 100 they are thrown about."
        ),
        html.picture(gradients_picture(flow), "norms of gradients"),
        html.heading("What a place sees"),
        html.paragraph(
            f"By how much each pixel of the input moves the middle of {field.stage}'s map, in the mean over images. "
            f"In fact it sees about {field.size:.0f} x {field.size:.0f} pixels, in theory {field.theoretical} (Luo et "
            "al., 2016): pixels at the edge have fewer ways to the middle."
        ),
        html.picture(field_picture(field), "the effective receptive field"),
        html.heading("Where the time goes"),
        html.paragraph(
            f"A step of {spent.batch} images, forward and backward, takes {spent.step * 1e3:.3g} ms on this device; "
            f"its layers alone come to {1 - spent.rest / spent.step:.0%} of it. The machine does "
            f"{spent.product / 1e9:.3g} billion multiply-adds a second in a large product, and copies "
            f"{spent.copy / 1e9:.3g} GB a second. A layer is bound by what it reaches half of, or by being started "
            "where that takes a tenth of its time."
        ),
        *([html.paragraph(waiting(fed))] if fed else []),
        html.picture(roofline(spent), "multiply-adds a second against multiply-adds a byte"),
        html.table(
            ["layer", "kind", "time", "of the step", "multiply-adds a second", "bytes a second", "bound by"],
            [
                [row.layer, row.kind, (row.seconds, f"{row.seconds * 1e3:.3g} ms"), share(row.seconds / spent.step),
                 (row.macs / row.seconds, f"{row.macs / row.seconds / 1e9:.3g} G"),
                 (row.bytes / row.seconds, f"{row.bytes / row.seconds / 1e9:.3g} G"), row.bound or "-"]
                for row in sorted(spent.layers, key=lambda row: -row.seconds)[:SLOWEST] if row.seconds
            ],
        ),
        html.heading("Units"),
        html.paragraph("Dead units have the same value at every place of all images; saturated values are at a limit."),
        html.table(
            ["activation", "units", "dead", "saturated"],
            [[u.layer, u.units, u.dead, share(u.saturated)] for u in seen.units],
        ) if seen.units else html.paragraph("No layer has an activation."),
        html.heading("What it is made of"),
        html.paragraph(
            f"{len(built.blocks)} blocks; {built.shortest} to {built.longest} layers with weights on a way from input "
            f"to output, and 2^{ways:.3g} ways (Veit et al., 2016)."
        ),
        html.table(
            ["block", "kind", "in", "inner", "out", "expansion", "groups", "kernels", "shortcut", "on its last layer"],
            [
                [b.name, b.kind, b.inputs, b.inner, b.outputs, (b.expansion, f"{b.expansion:.3g}"), b.groups,
                 "-".join(map(str, b.kernels)), b.shortcut or "-", b.activated or "-"]
                for b in built.blocks
            ],
        ) if built.blocks else html.paragraph("It has no convolutions."),
        *likeness(found),
    )  # fmt: skip


def advice(found: Diagnosis) -> list[str]:
    return [html.subheading(f.what) + html.paragraph(f"{f.evidence}. To try: {f.change}.") for f in found.findings]


def likeness(found: Diagnosis) -> list[str]:
    rows = found.representation.likeness
    if not rows:
        return []
    return [
        html.heading("Blocks that do little"),
        html.table(["before", "after", "linear CKA"], [[r.before, r.after, (r.cka, f"{r.cka:.4f}")] for r in rows]),
        html.paragraph(ABOUT["linear CKA"]),
    ]


def gradients_picture(flow: Gradients) -> Any:
    """The norms at the ends of stages, and for each layer by which share of itself a step of rate 1 would change it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(range(len(flow.stages)), [*flow.stages.values()], "o-")
    left.set_xticks(range(len(flow.stages)), [*flow.stages], rotation=45, ha="right", parse_math=False)
    left.set(yscale="log", ylabel="gradient at the end of a stage")
    right.plot([row.ratio for row in flow.layers], ".-", color="C1")
    right.set(yscale="log", xlabel="layer", ylabel="gradient / weight")
    return figure


def waiting(fed: Pace) -> str:
    return (
        f"In training on one device a batch of images takes {fed.images * 1e3:.3g} ms to make, "
        f"{fed.network * 1e3:.3g} ms to train on once it is there, and {fed.both * 1e3:.3g} ms in all: training is "
        f"bound by {fed.bound}."
    )


def roofline(spent: Timing) -> Any:
    """Each layer's rate against its multiply-adds a byte, below the roofs of the machine. Williams et al., 2009."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in spent.layers if row.macs and row.seconds]
    intensity = [row.macs / row.bytes for row in rows]
    rates = [row.macs / row.seconds / 1e9 for row in rows]
    sizes = [5 + 400 * row.seconds / spent.step for row in rows]
    axes.scatter(intensity, rates, sizes, alpha=0.6, label="layers, as large as their time")
    ends = [min([*intensity, 0.5]), max([*intensity, 100.0])]
    steps = [ends[0] * (ends[1] / ends[0]) ** (k / 50) for k in range(51)]
    roof = [min(spent.product, spent.copy * x) / 1e9 for x in steps]
    axes.plot(steps, roof, color="black", label="the machine: copy, then matrix product")
    axes.set(xscale="log", yscale="log", xlabel="multiply-adds a byte", ylabel="billion multiply-adds a second")
    axes.legend(loc="lower right")
    return figure


def field_picture(field: Field) -> Any:
    """The picture, with the squares that are seen in fact and in theory."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

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


def share(value: float | None) -> tuple[float, str]:
    return (-1.0, "-") if value is None else (value, f"{value:.1%}")


def spans_picture(found: Diagnosis) -> Any:
    """Channels and the directions that are filled, at each place that is looked at."""
    from matplotlib.figure import Figure

    spans = found.representation.spans
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    places = range(len(spans))
    axes.plot(places, [s.channels for s in spans], "o--", color="grey", label="channels")
    axes.plot(places, [s.effective for s in spans], "o-", label="directions that are filled (effective rank)")
    names = [f"{s.stage} {'narrow' if s.where == 'narrow' else ''}".strip() for s in spans]
    axes.set_xticks(places, names, rotation=45, ha="right", parse_math=False)
    axes.set_yscale("log")
    axes.legend()
    return figure
