"""What a search for alpha, beta and gamma found, for a terminal and as a page."""

from typing import Any

from kcnn.scaling import short
from tuning.pages.html import code, heading, page, paragraph, picture, table
from tuning.pages.pictures import COSTS, pareto

HEADS = ("phi", "pixels", "depth", "width", "parameters", "multiply-adds", "times", "2^phi", "activations", "memory")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (str(row["phi"]), str(row["resolution"]), f"{row['depth']:.2f}", f"{row['width']:.2f}", short(row["params"]),
            short(row["macs"]), f"{row['times']:.2f}", f"{2 ** row['phi']}", short(row["activations"]),
            short(row["memory"]) + "B")  # fmt: skip


def spoken(figures: dict[str, Any]) -> str:
    """For a terminal."""
    lines = [HEADS, *map(cells, figures["family"])]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADS))]
    told = ["  ".join(f"{text:>{width}}" for text, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([judged(figures), "", *told, "", f"page  {figures['page']}", f"file  {figures['file']}",
                      f"next  {figures['family'][1]['command']}"])  # fmt: skip


def judged(figures: dict[str, Any]) -> str:
    best, count = figures["best"], len(figures["candidates"])
    text = (f"alpha {figures['alpha']:g}, beta {figures['beta']:g}, gamma {figures['gamma']:g} "
            f"(alpha * beta^2 * gamma^2 = {figures['product']:.4f}): validation accuracy {best['val_accuracy']:.2%}, "
            f"the best of {count} candidates")  # fmt: skip
    if (base := figures["base"]["val_accuracy"]) is not None:
        text += f"; the small network has {base:.2%}"
    if figures["within_error"] > 1:
        text += (f". {figures['within_error']} of them are within one standard error ({figures['standard_error']:.2%}) "
                 "of it: more epochs, validation images or --seeds would tell them apart")  # fmt: skip
    return text


def drawn(figures: dict[str, Any]) -> str:
    """The page."""
    candidates = figures["candidates"]
    heads = (
        "alpha (depth)",
        "beta (width)",
        "gamma (resolution)",
        "accuracy",
        "multiply-adds",
        "parameters",
        "seconds",
    )
    rows = [(f"{c['alpha']:g}", f"{c['beta']:g}", f"{c['gamma']:g}", (c["val_accuracy"], f"{c['val_accuracy']:.2%}"),
             (c["macs"], short(c["macs"])), (c["params"], short(c["params"])), f"{c['seconds']:.0f}")
            for c in candidates]  # fmt: skip
    return page(
        f"Compound scaling of {figures['base']['arch']}",
        paragraph(judged(figures)[:1].upper() + judged(figures)[1:] + "."),
        heading("The family"),
        table(HEADS, [cells(row) for row in figures["family"]]),
        paragraph("Memory is that of a training step at the search's batch size. To train one in full, of any phi:"),
        code(figures["family"][1]["command"]),
        heading("Candidates"),
        paragraph("Versions of the small network that cost twice as much, to the rounding of widths and depths."),
        table(heads, rows),
        picture(pareto({"candidates": candidates}, COSTS), "accuracy against costs"),
    )
