"""What a search shows: a line as a trial ends, a table, a Pareto picture."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kcnn.terminal.tables import short, table
from trainers.runs.files import write_bytes
from tuning.pages.pictures import COSTS, front, pareto

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


def draw_pareto(rows: Sequence[Row], best: Row, path: Path) -> None:
    """Accuracy against each cost, with a front for each rung on its own, as only its runs are comparable."""
    groups: dict[str, list[Row]] = {}
    for rung in reversed(range(best["rung"] + 1)):
        there = [(row, accuracy) for row in rows if (accuracy := reached(row, rung)) is not None]
        epochs = sorted(past["epochs"] for row, _ in there for past in row["rungs"] if past["rung"] == rung)
        if there:
            span = " to ".join(str(e) for e in dict.fromkeys((epochs[0], epochs[-1])))
            groups[f"{len(there)} trials of {span} epochs"] = [
                {**row, "val_accuracy": accuracy} for row, accuracy in there
            ]
    buffer = io.BytesIO()
    pareto(groups, COSTS, apart=True, log=True, best=best).savefig(buffer, format="png", dpi=DPI)
    write_bytes(path, buffer.getvalue())
