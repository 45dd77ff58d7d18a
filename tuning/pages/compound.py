"""What a search for alpha, beta and gamma found, on a terminal and as a page."""

from typing import Any

from kcnn.terminal.tables import short, table
from trainers.reports import html
from trainers.reports.fronts import COSTS, side_by_side

FAMILY = ("phi", "pixels", "depth", "width", "parameters", "multiply-adds", "times", "2^phi", "activations", "memory")
CANDIDATES = ("alpha (depth)", "beta (width)", "gamma (resolution)", "accuracy", "multiply-adds", "parameters",
              "seconds")  # fmt: skip


def family_row(row: dict[str, Any]) -> list[str]:
    scale = [str(row["phi"]), str(row["resolution"]), f"{row['depth']:.2f}", f"{row['width']:.2f}"]
    costs = [short(row["params"]), short(row["macs"]), f"{row['times']:.2f}", f"{2 ** row['phi']}"]
    return [*scale, *costs, short(row["activations"]), short(row["memory"], "B")]


def candidate_row(row: dict[str, Any]) -> list[Any]:
    growth = [f"{row[name]:g}" for name in ("alpha", "beta", "gamma")]
    accuracy = row["val_accuracy"], f"{row['val_accuracy']:.2%}"
    return [*growth, accuracy, *((row[cost], short(row[cost])) for cost in ("macs", "params")), f"{row['seconds']:.0f}"]


def show(figures: dict[str, Any]) -> None:
    """Prints the outcome."""
    print(f"{verdict(figures)}\n")
    table(FAMILY, [family_row(row) for row in figures["family"]])
    print(f"\npage  {figures['page']}\nfile  {figures['file']}\nnext  {figures['family'][1]['command']}")


def verdict(figures: dict[str, Any]) -> str:
    best, count = figures["best"], len(figures["candidates"])
    text = (
        f"alpha {figures['alpha']:g}, beta {figures['beta']:g}, gamma {figures['gamma']:g} "
        f"(alpha * beta^2 * gamma^2 = {figures['product']:.4f}): validation accuracy {best['val_accuracy']:.2%}, "
        f"the best of {count} candidates"
    )
    if (base := figures["base"]["val_accuracy"]) is not None:
        text += f"; the small network has {base:.2%}"
        if not figures["paid"]:
            text += (
                ", which none of them beats beyond chance: here twice the cost did not pay, so stay with the small "
                "network, or give the candidates more epochs, images or --seeds before the family below is worth it"
            )
    if figures["within_error"] > 1:
        text += (
            f". {figures['within_error']} of them are within one standard error ({figures['standard_error']:.2%}) "
            "of it: more epochs, validation images or --seeds would tell them apart"
        )
    return text


def as_page(figures: dict[str, Any]) -> str:
    """The outcome as HTML."""
    sentence, candidates = verdict(figures), figures["candidates"]
    return html.page(
        f"Compound scaling of {figures['base']['arch']}",
        html.paragraph(f"{sentence[:1].upper()}{sentence[1:]}."),
        html.heading("The family"),
        html.table(FAMILY, [family_row(row) for row in figures["family"]]),
        html.paragraph(
            "Memory is that of a training step at the search's batch size. To train one in full, of any phi:"
        ),
        html.code(figures["family"][1]["command"]),
        html.heading("Candidates"),
        html.paragraph("Versions of the small network that cost twice as much, to the rounding of widths and depths."),
        html.table(CANDIDATES, [candidate_row(row) for row in candidates]),
        side_by_side({"candidates": candidates}, COSTS, name="candidate"),
    )
