"""What a search shows: a line as a trial ends, a table, a Pareto picture, a page."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kcnn.terminal.tables import short, table
from trainers.reports import html
from trainers.reports.fronts import COSTS, front, pareto, side_by_side
from trainers.runs.files import write_bytes

Row = Mapping[str, Any]
NAMES = ("trial", "width", "depth", "resolution", "lr", "weight_decay", "drop_path", "recipe")
COLUMNS = ("macs", "params", "memory", "latency_ms")
DPI = 160


def line(row: Row, names: Sequence[str], ended: str) -> str:
    """A trial that has ended. names: of what was searched; ended: how many have."""
    text = f"trial {row['trial']} ({ended}): " + ", ".join(f"{name} {row[name]}" for name in names)
    if row["score"] is None:
        text += f": failed: {row['error']}"
    else:
        text += f": {short(row['macs'])} multiply-adds, {row['epochs']} epochs"
        text += f", val_accuracy {row['val_accuracy']:.2%}, score {row['score']:.4g}"
    return f"{text}, {row['seconds']:.0f} s ({lost_share(row)} building and compiling)"


def lost_share(row: Row) -> str:
    return f"{row['lost_seconds'] / max(1e-9, row['seconds']):.0%}"


def show_trials(rows: Sequence[Row], best: Row) -> None:
    """Prints all trials, the best first. A star marks those that no other of as many epochs beats at the same cost."""
    names = [name for name in NAMES if name in rows[0]]
    costs = [name for name in COLUMNS if name in best]
    fronts = [pareto_front(rows, "macs", rung) for rung in range(best["rung"] + 1)]
    lines = []
    for r in sorted(rows, key=lambda r: (r is not best, r["score"] is None, -r["rung"], -(r["val_accuracy"] or 0))):
        star = "*" if r["score"] is not None and r in fronts[r["rung"]] else ""
        values = [r["trial"], *(f"{r[n]:g}" if isinstance(r[n], float) else str(r[n]) for n in names[1:])]
        values += [short(r[c]) if c in r else "-" for c in costs] + [str(r["epochs"] or "-")]
        values += [r["status"], "-"] if r["score"] is None else [f"{r['val_accuracy']:.2%}", f"{r['score']:.4f}"]
        lines.append([star, *values, f"{r['seconds']:.0f}"])
    table(["", *names, *costs, "epochs", "val_accuracy", "score", "seconds"], lines)


def reached(row: Row, rung: int) -> float | None:
    """The validation accuracy of a trial on a rung, if it came there. A trial without rungs is on rung 0."""
    return next((past["val_accuracy"] for past in row["rungs"] if past["rung"] == rung), None)


def pareto_front(rows: Sequence[Row], cost: str, rung: int) -> list[Row]:
    """The rows that came to a rung and that no other beats there in accuracy without costing more."""
    there = [(row, accuracy) for row in rows if (accuracy := reached(row, rung)) is not None]
    return [there[i][0] for i in front([row[cost] for row, _ in there], [accuracy for _, accuracy in there])]


def recommendation(result: Mapping[str, Any]) -> str:
    """Which network to take, and why, in a sentence."""
    best, choice, equals = result["best"], result["choice"], result["equals"]
    if len(equals) == 1:
        return f"trial {best['trial']}: the validation images tell it apart from all others"
    others = len(equals) - 1
    text = f"trial {best['trial']} is no better than {others} other{'s' * (others > 1)} beyond chance "
    text += f"({', '.join(name for name in equals if name != best['trial'])})"
    if choice["trial"] == best["trial"]:
        return f"trial {best['trial']}, the cheapest of {len(equals)} that the validation images do not tell apart"
    share = choice["macs"] / best["macs"]
    return f"trial {choice['trial']}, the cheapest ({share:.0%} of the multiply-adds): {text}"


def by_rung(rows: Sequence[Row], best: Row) -> dict[str, list[Row]]:
    """The rows that came to each rung, with their accuracies there; only those of one rung are comparable."""
    groups: dict[str, list[Row]] = {}
    for rung in reversed(range(best["rung"] + 1)):
        there = [(row, accuracy) for row in rows if (accuracy := reached(row, rung)) is not None]
        epochs = sorted(past["epochs"] for row, _ in there for past in row["rungs"] if past["rung"] == rung)
        if there:
            span = " to ".join(str(e) for e in dict.fromkeys((epochs[0], epochs[-1])))
            groups[f"{len(there)} trials of {span} epochs"] = [
                {**row, "val_accuracy": accuracy} for row, accuracy in there
            ]
    return groups


def draw_pareto(rows: Sequence[Row], best: Row, path: Path) -> None:
    """Accuracy against each cost, with a front for each rung."""
    buffer = io.BytesIO()
    figure = pareto(by_rung(rows, best), COSTS, apart=True, log=True, best=best, name="trial")
    figure.savefig(buffer, format="png", dpi=DPI)
    write_bytes(path, buffer.getvalue())


def as_page(result: Mapping[str, Any], images: int) -> str:
    """The outcome as HTML, in the search's folder. images: of validation."""
    best, rows = result["best"], result["trials"]
    told = recommendation(result)
    done = [row for row in rows if row["rungs"]]
    named = [{**row, "trial": f"trial {row['trial']}"} for row in done]
    failed = [f"trial {row['trial']}: {row['error']}" for row in rows if row["error"]]
    return html.page(
        "Search",
        html.paragraph(f"Take {told}."),
        html.paragraph(
            f"The best of {len(done)} trials has {best['val_accuracy']:.2%} on {images:,} validation images. Which "
            "others it does not beat is told by Tukey's test of the range at 1 %, which counts in that it was looked "
            "for among all; the images tell nothing of how training varies from seed to seed."
        ),
        html.paragraph("To train the choice in full:"),
        html.code(result["command"]),
        html.heading("Accuracy against cost"),
        side_by_side(by_rung(named, best), COSTS, apart=True, log=True, best=best, name="trial"),
        html.heading("Trials"),
        html.table(*trial_table(done, result["equals"], Path(result["folder"]))),
        *([html.heading("Failed"), html.lines(failed)] if failed else []),
    )


def trial_table(rows: Sequence[Row], equals: Sequence[str], folder: Path) -> tuple[list[str], list[list[Any]]]:
    """Heads and rows, the most accurate first, each with a link to its run's card."""
    names = [name for name in NAMES if name in rows[0]][1:]
    costs = [name for name in COLUMNS if all(row.get(name) for row in rows)]
    heads = ["trial", *names, *(COSTS.get(c, c) for c in costs), "epochs", "accuracy", "score", "seconds", "not beaten"]
    lines = []
    for r in sorted(rows, key=lambda r: (-r["rung"], -r["val_accuracy"])):
        name = f"trial {r['trial']}"
        place = r["run_dir"] and os.path.relpath(Path(r["run_dir"]) / "card.md", folder)
        card = html.Link(name, place) if place else name
        values = [(r[n], f"{r[n]:g}") if isinstance(r[n], int | float) else str(r[n]) for n in names]
        figures = [(r["val_accuracy"], f"{r['val_accuracy']:.2%}"), (r["score"] or 0.0, f"{r['score'] or 0.0:.4f}")]
        lines.append([card, *values, *((r[c], short(r[c])) for c in costs), (r["epochs"], str(r["epochs"])), *figures,
                      (r["seconds"], f"{r['seconds']:.0f}"), "yes" if r["trial"] in equals else ""])  # fmt: skip
    return heads, lines
