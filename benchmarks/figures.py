"""What many turns come to: medians and quartiles, ratios round by round, and their text."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.turns import Turn

FIGURES = ("wall", "cpu", "peak")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns the median and the quartiles: {"median", "low", "high"}. The quartiles of one value are that value."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * list(values)
    return {"median": middle, "low": low, "high": high}


def ratios(ours: Sequence[Turn], theirs: Sequence[Turn], figure: str) -> dict[str, float]:
    """Returns the spread of theirs / ours, round by round: above 1, ours takes less."""
    return spread([b[figure] / a[figure] for a, b in zip(ours, theirs, strict=True)])


def summary(turns: Mapping[str, Sequence[Turn]], first: str) -> dict[str, dict[str, Any]]:
    """Returns of each side the spread of each figure, and for all but `first` the ratios to it, where `first` ran."""
    table: dict[str, dict[str, Any]] = {}
    for name, mine in turns.items():
        table[name] = {figure: spread([turn[figure] for turn in mine]) for figure in FIGURES}
        if name != first and first in turns:
            table[name]["ratio"] = {figure: ratios(turns[first], mine, figure) for figure in FIGURES}
    return table


def geometric_mean(values: Iterable[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def totals(rows: Sequence[Mapping[str, Any]], figure: str) -> list[dict[str, Any]]:
    """Returns of each side that has ratios their geometric mean, and the lowest and the highest with its case."""
    by_side: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        if "ratio" in row and not row.get("ceiling"):
            by_side.setdefault(row["side"], []).append((row["ratio"][figure]["median"], row["case"]))
    return [
        {"side": side, "mean": geometric_mean(r for r, _ in found), "lowest": min(found), "highest": max(found)}
        for side, found in by_side.items()
    ]


def seconds(value: float) -> str:
    """0.01234 -> "12.3 ms", 1.5 -> "1.50 s"."""
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def spread_text(ratio: Mapping[str, float]) -> str:
    """Returns the median and, where they differ from it, the quartiles: "1.32 (1.29 to 1.40)"."""
    if f"{ratio['low']:.2f}" == f"{ratio['high']:.2f}":
        return f"{ratio['median']:.2f}"
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
