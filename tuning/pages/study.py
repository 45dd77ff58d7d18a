"""What a study found: on a terminal, as a page, and as a section of docs/studies.md."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from kcnn.errors import InputError
from kcnn.terminal import tables
from kcnn.terminal.tables import short
from trainers.reports import html
from trainers.reports.fronts import GREY, color
from trainers.runs.files import write_text
from tuning.studies.rows import Study
from tuning.studies.verdicts import LEVEL, OPEN, advice

NAMES = {
    "val_accuracy": "validation accuracy", "val_loss": "validation loss", "train_loss": "training loss",
    "gap": "validation less training loss", "kept": "accuracy kept without a block",
}  # fmt: skip
SHARES = ("val_accuracy", "kept")  # told in percent


def show_list(studies: Mapping[str, Study]) -> None:
    for name, study in studies.items():
        print(f"{name}\n    {study.claim}\n    {study.paper}")


def show(result: dict[str, Any]) -> None:
    print(f"{result['claim']}\n{result['paper']}\n")
    heads, rows = arms_table(result)
    tables.table(heads, [[cell if isinstance(cell, str) else cell[1] for cell in row] for row in rows])
    print()
    for line in (*contrast_lines(result), conclusion(result), *notes(result)):
        print(line)
    print(f"page  {result['page']}")


def figures_of(result: dict[str, Any]) -> list[str]:
    """The figures that the contrasts are about, each once."""
    return list(dict.fromkeys(c["figure"] for c in result["contrasts"]))


def arms_table(result: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """A row for each of what is compared: its costs, and the mean of each figure with its 95 % interval."""
    figures = figures_of(result)
    heads = ["name", "multiply-adds", "parameters", "pixels", *(NAMES[f] for f in figures)]
    flow = all(of.get("flow") is not None for of in result["arms"].values())
    heads += ["gradient at the start, first over last stage"] if flow else []
    rows = []
    for arm, of in result["arms"].items():
        cells: list[Any] = [arm, *((of[what], short(of[what])) for what in ("macs", "params")), str(of["resolution"])]
        for figure in figures:
            mean, half = interval(of["figures"][figure])
            half = min(half, 1.0) if figure in SHARES else half  # of two seeds it may be anything
            cells.append((mean, f"{number(mean, figure)} +- {number(half, figure)}"))
        rows.append(cells + ([(of["flow"], f"{of['flow']:.2g}")] if flow else []))
    return heads, rows


def interval(values: list[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval (Student)."""
    x = np.asarray(values)
    return float(x.mean()), float(stats.t.ppf(1 - LEVEL / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))


def number(value: float, figure: str) -> str:
    return f"{value:.1%}" if figure in SHARES else f"{value:.3f}"


def contrast_lines(result: dict[str, Any]) -> list[str]:
    return [
        f"{c['what']}: by {number(c['mean'], c['figure'])} ({number(c['low'], c['figure'])} to "
        f"{number(c['high'], c['figure'])}), p {c['p']:.2g}"
        for c in result["contrasts"]
    ]


def conclusion(result: dict[str, Any]) -> str:
    text = f"{result['verdict']}, with {result['seeds']} seeds and {result['validation_images']:,} validation images"
    if result["verdict"] == OPEN:
        text += f": {advice(result['contrasts'])}"
    return f"{text[:1].upper()}{text[1:]}."


def notes(result: dict[str, Any]) -> list[str]:
    words = {"macs": "multiply-adds", "params": "parameters"}
    lines = [f"their {words[what]} differ by at most {share:.0%}" for what, share in result["equal"].items()]
    if result["quick"]:
        lines.append("a quick look: the smallest networks and few epochs")
    return [*lines, *(f"failed: {line}" for line in result["failed"])]


def as_page(result: dict[str, Any]) -> str:
    heads, rows = arms_table(result)
    return html.page(
        f"Study: {result['study']}",
        html.paragraph(result["claim"]),
        html.paragraph(result["paper"]),
        html.heading(conclusion(result)),
        *(html.paragraph(f"{line[:1].upper()}{line[1:]}.") for line in (*contrast_lines(result), *notes(result))),
        html.picture(picture(result), "the figures of what is compared"),
        html.table(heads, rows),
        html.paragraph(
            "Means over seeds with their 95 % intervals. The verdict is by Student's test of each contrast over seeds, "
            "two-sided at 5 %, fixed before anything was trained: a claim holds where all of its contrasts are above 0 "
            "beyond chance, and does not where one is below. Seeds tell how training varies; other validation images "
            "would vary the figures, too."
        ),
    )


def picture(result: dict[str, Any]) -> Figure:
    """Each seed as a dot, with the means and their intervals."""
    figures, arms = figures_of(result), result["arms"]
    figure = Figure(figsize=(1.5 + 4.2 * len(figures), 1.2 + 0.5 * len(arms)), layout="constrained")
    panels = figure.subplots(1, len(figures), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, figures, strict=True):
        by = 100 if name in SHARES else 1
        for k, (arm, of) in enumerate(arms.items()):
            values = of["figures"][name]
            mean, half = interval(values)
            dots = panel.scatter([by * v for v in values], [k] * len(values), s=18, color=color(k), alpha=0.5)
            html.tips(dots, [f"{arm}, seed {seed}: {number(v, name)}" for seed, v in enumerate(values)])
            panel.errorbar([by * mean], [k], xerr=[by * half], fmt="D", color=color(k), capsize=4, zorder=3)
        panel.set_xlabel(NAMES[name] + (", %" if name in SHARES else ""))
        panel.grid(alpha=0.3, axis="x", color=GREY)
        spread = [by * v for of in arms.values() for v in of["figures"][name]]
        room = 0.15 * (max(spread) - min(spread)) or 0.1
        panel.set_xlim(min(spread) - room, max(spread) + room)
    panels[0].set_yticks(range(len(arms)), list(arms), parse_math=False)
    panels[0].invert_yaxis()
    return figure


def section(result: dict[str, Any]) -> str:
    """What docs/studies.md tells of the study: the claim, the figures and the verdict."""
    heads, rows = arms_table(result)
    lines = [heads, ["---"] * len(heads), *([c if isinstance(c, str) else c[1] for c in row] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    told = "\n".join(f"- {line}" for line in (*contrast_lines(result), *notes(result)))
    day = time.strftime("%Y-%m-%d")
    return (
        f"{result['claim']} {result['paper']}.\n\n**{conclusion(result)}** (`kcnn study {result['study']}`, {day})\n\n"
        f"{table}\n\n{told}\n"
    )


def write_section(page: Path, result: dict[str, Any]) -> None:
    """Replaces what stands between the study's two markers. Raises InputError where page or markers are missing."""
    name = result["study"]
    try:
        old = page.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{page} cannot be read: {error.strerror}") from error
    place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    if not place.search(old):
        raise InputError(f"{page} has no lines '<!-- {name} -->' and '<!-- end of {name} -->' to write between")
    write_text(page, place.sub(lambda m: f"{m[1]}\n{section(result)}\n{m[2]}", old))
