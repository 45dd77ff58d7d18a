"""The page of a diagnosis: one file that opens offline, for a reader who has not read the papers."""

from collections.abc import Sequence

from kcnn.diagnosis import Diagnosis
from kcnn.diagnosis.advice import Finding
from trainers.lab import pictures
from trainers.lab.gradients import Field, Gradients
from trainers.lab.measured import Measured
from trainers.lab.pipeline import Pace
from trainers.lab.timing import Timing
from trainers.lab.updates import Updates
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


def page(found: Measured) -> str:
    seen, facts = found.diagnosis.representation, found.diagnosis.facts
    return html.page(
        f"Diagnosis of {facts.name}",
        html.paragraph(f"{seen.images:,} {found.what}, {facts.resolution} pixels."),
        *(html.paragraph(f"Not measured: {note}") for note in found.notes),
        *advice(found.findings),
        *features(found.diagnosis),
        *(backwards(found.gradients, found.updates) if found.gradients else []),
        *(sight(found.field) if found.field else []),
        *(times(found.timing, found.pace) if found.timing else []),
        *units(found.diagnosis),
        *blocks(found.diagnosis),
        *likeness(found.diagnosis),
    )


def advice(findings: Sequence[Finding]) -> list[str]:
    lines = [html.subheading(f.what) + html.paragraph(f"{f.evidence}. To try: {f.change}.") for f in findings]
    return [html.heading("What stands out"), *(lines or [html.paragraph("Nothing stands out.")])]


def features(found: Diagnosis) -> list[str]:
    rows = [
        [s.stage, s.where, s.layer, s.channels, (s.effective, f"{s.effective:.1f}"), share(s.first_tenth),
         share(s.relu_loses), s.activated or "-", share(s.probe)]
        for s in found.representation.spans
    ]  # fmt: skip
    return [
        html.heading("What it makes of images"),
        html.picture(pictures.spans_picture(found), "effective rank by stage"),
        html.table(["stage", "where", "layer", "channels", *list(ABOUT)[:3], "activation", "probe"], rows),
        *(html.paragraph(f"{name}: {text}") for name, text in list(ABOUT.items())[:4]),
    ]


def backwards(flow: Gradients, changed: Updates | None) -> list[str]:
    steps = changed and (
        f"At the peak of its learning rate, {changed.lr:g}, one of the first steps of this run changes the weights by "
        f"these shares of themselves: {', '.join(f'{stage} {v:.2g}' for stage, v in changed.stages.items())}. A "
        "thousandth to a tenth is usual."
    )
    return [
        html.heading("What comes back"),
        html.paragraph(
            f"The norm of the loss's gradient at the end of each stage, of an image in the mean: {flow.verdict}; at "
            f"the first stage it is {flow.first_to_last:.3g} times that at the last. Below 0.01 the first layers "
            "hardly learn, above 100 they are thrown about."
        ),
        *([html.paragraph(steps)] if steps else []),
        html.picture(pictures.gradients_picture(flow), "norms of gradients"),
    ]


def sight(field: Field) -> list[str]:
    return [
        html.heading("What a place sees"),
        html.paragraph(
            f"By how much each pixel of the input moves the middle of {field.stage}'s map, in the mean over images. "
            f"In fact it sees about {field.size:.0f} x {field.size:.0f} pixels, in theory {field.theoretical} (Luo et "
            "al., 2016): pixels at the edge have fewer ways to the middle."
        ),
        html.picture(pictures.field_picture(field), "the effective receptive field"),
    ]


def times(spent: Timing, fed: Pace | None) -> list[str]:
    rows = [
        [row.layer, row.kind, (row.seconds, f"{row.seconds * 1e3:.3g} ms"), share(row.seconds / spent.step),
         giga(row.macs / row.seconds), giga(row.bytes / row.seconds), row.bound or "-"]
        for row in sorted(spent.layers, key=lambda row: -row.seconds)[:SLOWEST] if row.seconds
    ]  # fmt: skip
    waiting = fed and (
        f"In training on one device a batch of images takes {fed.images * 1e3:.3g} ms to make, "
        f"{fed.network * 1e3:.3g} ms to train on once it is there, and {fed.both * 1e3:.3g} ms in all: training is "
        f"bound by {fed.bound}."
    )
    return [
        html.heading("Where the time goes"),
        html.paragraph(
            f"A step of {spent.batch} images, forward and backward, takes {spent.step * 1e3:.3g} ms on this device; "
            f"its layers alone come to {1 - spent.rest / spent.step:.0%} of it. The machine does "
            f"{spent.product / 1e9:.3g} billion multiply-adds a second in a large product, and copies "
            f"{spent.copy / 1e9:.3g} GB a second. A layer is bound by what it reaches half of, or by being started "
            "where that takes a tenth of its time."
        ),
        *([html.paragraph(waiting)] if waiting else []),
        html.picture(pictures.roofline(spent), "multiply-adds a second against multiply-adds a byte"),
        html.table(
            ["layer", "kind", "time", "of the step", "multiply-adds a second", "bytes a second", "bound by"], rows
        ),
    ]


def units(found: Diagnosis) -> list[str]:
    rows = [[u.layer, u.units, u.dead, share(u.saturated)] for u in found.representation.units]
    return [
        html.heading("Units"),
        html.paragraph("Dead units have the same value at every place of all images; saturated values are at a limit."),
        html.table(["activation", "units", "dead", "saturated"], rows)
        if rows
        else html.paragraph("No layer has an activation."),
    ]


def blocks(found: Diagnosis) -> list[str]:
    built = found.architecture
    rows = [
        [b.name, b.kind, b.inputs, b.inner, b.outputs, (b.expansion, f"{b.expansion:.3g}"), b.groups,
         "-".join(map(str, b.kernels)), b.shortcut or "-", b.activated or "-"]
        for b in built.blocks
    ]  # fmt: skip
    heads = ["block", "kind", "in", "inner", "out", "expansion", "groups", "kernels", "shortcut", "on its last layer"]
    return [
        html.heading("What it is made of"),
        html.paragraph(
            f"{len(built.blocks)} blocks; {built.shortest} to {built.longest} layers with weights on a way from input "
            f"to output, and 2^{built.to_dict()['paths_log2']:.3g} ways (Veit et al., 2016)."
        ),
        html.table(heads, rows) if rows else html.paragraph("It has no convolutions."),
    ]


def likeness(found: Diagnosis) -> list[str]:
    rows = found.representation.likeness
    if not rows:
        return []
    return [
        html.heading("Blocks that do little"),
        html.table(["before", "after", "linear CKA"], [[r.before, r.after, (r.cka, f"{r.cka:.4f}")] for r in rows]),
        html.paragraph(ABOUT["linear CKA"]),
    ]


def share(value: float | None) -> tuple[float, str]:
    return (-1.0, "-") if value is None else (value, f"{value:.1%}")


def giga(value: float) -> tuple[float, str]:
    return value, f"{value / 1e9:.3g} G"
