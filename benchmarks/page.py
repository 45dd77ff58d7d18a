"""The figures as tables, on the terminal and in docs/performance.md, where each topic has its place between markers."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import markdown, seconds, spread_text, totals
from kcnn.errors import InputError
from kcnn.terminal.tables import short

Row = Mapping[str, Any]


def ratio(figure: str) -> Callable[[Row], str]:
    return lambda row: spread_text(row["ratio"][figure]) if "ratio" in row and not row["ceiling"] else ""


def rate(row: Row) -> str:
    for key, unit in (("macs_per_second", "MAC/s"), ("bytes_per_second", "B/s"), ("images_per_second", "images/s")):
        if key in row:
            return short(row[key], unit)
    return ""


COLUMNS: dict[str, Callable[[Row], str]] = {
    "network": lambda row: row["case"],
    "name": lambda row: f"{row['side']} ({row['way']})" if row["way"] else row["side"],
    "wall": lambda row: seconds(row["wall"]["median"]),
    "CPU": lambda row: seconds(row["cpu"]["median"]),
    "peak memory": lambda row: short(row["peak"]["median"], "B"),
    "wall ratio": ratio("wall"),
    "CPU ratio": ratio("cpu"),
    "memory ratio": ratio("peak"),
    "rate": rate,
    "of the product": lambda row: f"{row['share']:.2f}" if "share" in row else "",
}
LEFT_OUT = {
    "infer": ("of the product", "memory ratio", "peak memory"),
    "start": ("of the product", "rate", "memory ratio", "peak memory"),
    "memory": ("of the product", "rate", "CPU", "CPU ratio"),
    "input": ("of the product", "memory ratio", "peak memory"),
    "scaling": ("of the product", "rate", "memory ratio", "peak memory"),
    "kernels": ("of the product", "rate", "memory ratio", "peak memory"),
    "train": ("memory ratio", "peak memory"),
    "train-young": ("memory ratio", "peak memory"),
}


def drawn(what: str, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Returns the heads and the cells of a topic's table."""
    columns = {head: cell for head, cell in COLUMNS.items() if head not in LEFT_OUT[what]}
    return list(columns), [[cell(row) for cell in columns.values()] for row in rows]


def sentences(rows: Sequence[Row], figure: str) -> list[str]:
    """Returns a line for each side: the geometric mean of its ratios to the first side, the lowest and the highest."""
    word = {"wall": "wall time", "peak": "peak memory"}[figure]
    return [
        f"{word}, {total['side']} / {rows[0]['side']}: {total['mean']:.2f} in the geometric mean; lowest "
        f"{ends(total['lowest'])}, highest {ends(total['highest'])}"
        for total in totals(rows, figure)
    ]


def ends(found: tuple[float, str]) -> str:
    return f"{found[0]:.2f} ({found[1]})"


def write(page: Path, what: str, result: Mapping[str, Any]) -> None:
    """Replaces what stands between a topic's two markers. Raises InputError where page or markers are missing."""
    found = result["topics"][what]
    try:
        old = page.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{page} cannot be read: {error.strerror}") from error
    place = re.compile(rf"(<!-- {what}: .*?-->\n).*?(<!-- end of {what} -->)", re.DOTALL)
    if not place.search(old):
        raise InputError(f"{page} has no lines '<!-- {what}: ... -->' and '<!-- end of {what} -->' to write between")
    lines = [f"- {line}" for line in sentences(found["rows"], found["figure"])]
    lines += [f"- not measured: {line}" for line in found["failed"]]
    content = "\n\n".join(
        part for part in (about(result), markdown(*drawn(what, found["rows"])), "\n".join(lines)) if part
    )
    page.write_text(place.sub(lambda m: f"{m[1]}\n{content}\n\n{m[2]}", old), encoding="utf-8")


def about(result: Mapping[str, Any]) -> str:
    """Returns a sentence on when and where it was measured."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rounds = "round" if result["rounds"] == 1 else "rounds"
    return (
        f"{result['date']}, {machine['processor']}, {machine['cores']} cores, load {machine['load']:.1f} at the start, "
        f"{versions}; medians of {result['rounds']} {rounds}."
    )
