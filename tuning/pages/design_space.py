"""What a sweep of design spaces found: its figures, on a terminal and as a page."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, mean, median
from typing import Any

from kcnn.errors import InputError
from kcnn.terminal.tables import short, table
from trainers.reports import html
from trainers.reports.chance import LEVEL
from trainers.reports.fronts import COSTS, color, side_by_side
from tuning.pages.pictures import against_parameters, distributions
from tuning.spaces.statistics import best_range, compare, narrows

SYMBOLS = {"d": "depth", "w": "w0", "a": "wa", "m": "wm", "g": "group width", "b": "bottleneck ratio"}
COLUMNS = ("macs", "params", "activations", "latency_ms", "epochs", "seconds")  # of the table of networks
ERRORS = {"least_error": "least error", "smallest_errors": "mean of {k} least", "median_error": "median",
          "mean_error": "mean"}  # fmt: skip
NARROWS_NOTHING = (
    "no parameter's likely best range is narrower than chance makes one: more networks would narrow a space"
)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """The results of a sweep: those of each space, and those without an accuracy. k: see `compare`."""

    groups: Mapping[str, Sequence[Row]]
    failed: Sequence[Row]
    k: int

    @property
    def errors(self) -> dict[str, list[float]]:
        return {name: [1 - row["val_accuracy"] for row in rows] for name, rows in self.groups.items()}


def grouped(rows: Sequence[Row], k: int) -> Results:
    """Raises InputError where no network was trained."""
    trained = [row for row in rows if "error" not in row and row.get("val_accuracy") is not None]
    failed = [row for row in rows if row not in trained]
    if not trained:
        raise InputError(f"all {len(rows)} networks failed, the first: {failed[0].get('error', 'no val_accuracy')}")
    names = dict.fromkeys(row["space"] for row in rows)
    groups = {name: found for name in names if (found := [row for row in trained if row["space"] == name])}
    return Results(groups, failed, k)


def figures_of(results: Results) -> dict[str, Any]:
    """The spaces, their comparisons and the best network, as summary.json has them."""
    trained = [row for rows in results.groups.values() for row in rows]
    best = min(trained, key=lambda row: (-row["val_accuracy"], row.get("val_loss") or 0))
    return {
        "spaces": [summary(name, results) for name in results.groups],
        "comparisons": [c.to_dict() for c in compare(results.errors, results.k)],
        "best": dict(best),
        "networks": len(trained),
        "failed": len(results.failed),
    }


def summary(name: str, results: Results) -> dict[str, Any]:
    """A space in figures. ranges: (low, median, high) of each parameter in the best network, to 95 %. narrowed: the
    parameters whose range is narrower than chance makes one, each at 5 % over their number."""
    errors, k = results.errors[name], results.k
    found = parameters(results.groups[name])
    ranges = {what: best_range(values, errors) for what, values in found.items()}
    varied = [what for what, values in found.items() if len(set(values)) > 1]
    narrowed = [what for what in varied if narrows(found[what], errors) <= LEVEL / len(varied)]
    return {
        "space": name,
        "networks": len(errors),
        "failed": sum(row["space"] == name for row in results.failed),
        "least_error": min(errors),
        "k": min(k, len(errors)),
        "smallest_errors": mean(sorted(errors)[:k]),
        "median_error": median(errors),
        "mean_error": mean(errors),
        "ranges": ranges,
        "narrowed": narrowed,
    }


def parameters(rows: Sequence[Row]) -> dict[str, list[float]]:
    """What errors are drawn against, network by network; nothing, where the networks have different parameters."""
    if any("symbols" not in row for row in rows):
        return {}
    every = [of_network(row["symbols"]) for row in rows]
    if any(each.keys() != every[0].keys() for each in every):
        return {}
    return {what: [each[what] for each in every] for what in every[0]}


def of_network(s: Mapping[str, Any]) -> dict[str, float]:
    """The parameters of a network: a RegNet's own; of an AnyNet sums and means over its stages."""
    if "m" in s:
        return {SYMBOLS[symbol]: value for symbol, value in s.items()}
    means = {SYMBOLS[symbol]: round(geometric_mean(s[symbol]), 2) for symbol in "gb"}
    return {"depth": sum(s["d"]), "first width": s["w"][0], "last width": s["w"][-1]} | means


def narrowed(spaces: Sequence[Mapping[str, Any]]) -> list[str]:
    """The best RegNet space and the part of it that its likely best ranges leave, where they narrow any parameter
    beyond chance; what a space fixes stays fixed."""
    regnets = [s for s in spaces if s["space"].startswith("regnet") and s["ranges"]]
    if not regnets:
        return []
    least = min(regnets, key=lambda s: s["smallest_errors"])
    kept = {what for what, (low, _, high) in least["ranges"].items() if low == high} | set(least["narrowed"])
    if not least["narrowed"]:
        return []
    limits = ",".join(
        f"{symbol}={low:g}" + (f"..{high:g}" if high > low else "")
        for symbol, what in SYMBOLS.items()
        for low, _, high in [least["ranges"][what]]
        if what in kept
    )
    return [least["space"], f"{least['space'].partition(':')[0]}:{limits}"]


def next_sweep(spaces: Sequence[Mapping[str, Any]], flags: Sequence[str]) -> dict[str, str]:
    """The command that compares the best space with its best part, where there is one."""
    chosen = narrowed(spaces)
    return {"next": shlex.join(["kcnn", "design-space", "--space", *chosen, *flags])} if chosen else {}


def show(figures: Mapping[str, Any]) -> None:
    """Prints the outcome."""
    k = figures["spaces"][0]["k"]
    heads = ["space", "networks", *(head.format(k=k) for head in ERRORS.values())]
    rows = [[s["space"], str(s["networks"]), *(f"{s[what]:.2%}" for what in ERRORS)] for s in figures["spaces"]]
    table(heads, rows)
    notes = [f"{c['verdict']} ({evidence(c)})" for c in figures["comparisons"]]
    if figures["failed"]:
        notes.append(f"{figures['failed']} networks failed and are left out; the page tells why")
    best = figures["best"]
    if "next" not in figures and any(s["ranges"] for s in figures["spaces"]):
        notes.append(NARROWS_NOTHING)
    places = [f"best  {best['arch']}, validation accuracy {best['val_accuracy']:.2%}", f"page  {figures['page']}"]
    places += [f"next  {figures['command']}", *([f"      {figures['next']}"] if "next" in figures else [])]
    print("", *notes, *([""] if notes else []), *places, sep="\n")


def evidence(c: Mapping[str, Any]) -> str:
    area = f"area between the EDFs {100 * c['area']:.2f} points, p = {c['p']:.3g}"
    least = f"{c['smallest_a']:.2%} and {c['smallest_b']:.2%}, p = {c['p_smallest']:.3g}"
    return f"{area}; mean of the {c['k']} least errors {least}"


def as_page(figures: Mapping[str, Any], results: Results) -> str:
    """The outcome as HTML."""
    sections = [
        *distribution_section(figures, results),
        *comparison_section(figures["comparisons"]),
        *parameter_section(results),
        *cost_section(results),
        *next_section(figures),
        html.heading("Networks"),
        network_table(results),
    ]
    if results.failed:
        rows = [(row["arch"], row["space"], row.get("error", "")) for row in results.failed]
        sections += [html.heading("Failed"), html.table(("network", "space", "error"), rows)]
    return html.page(f"Design spaces: {' and '.join(results.groups)}", *sections)


def distribution_section(figures: Mapping[str, Any], results: Results) -> list[str]:
    k = figures["spaces"][0]["k"]
    heads = ("space", "networks", "failed", *(head.format(k=k) for head in ERRORS.values()))
    rows = [(s["space"], s["networks"], s["failed"], *(percent(s[what]) for what in ERRORS)) for s in figures["spaces"]]
    return [
        html.paragraph(
            f"{figures['networks']} networks of {len(results.groups)} spaces were drawn at random and trained shortly. "
            "What counts is how their errors are distributed: a good space has many good networks, not one."
        ),
        html.heading("Error distributions"),
        html.picture(distributions(results.errors), "the share of networks with at most an error, for each space"),
        html.paragraph(
            "Each curve tells what share of a space's networks have at most that error: higher and further to "
            "the left is better. The bands hold 95 % of the curves that other draws would give (bootstrap)."
        ),
        html.table(heads, rows),
    ]


def comparison_section(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    if not comparisons:
        return []
    heads = ("spaces", "area between EDFs", "p", "difference of means", "its p", "means of least", "", "its p")
    rows = [
        (
            f"{c['a']} and {c['b']}",
            percent(c["area"]),
            precise(c["p"]),
            percent(c["mean_difference"]),
            precise(c["p_mean"]),
            percent(c["smallest_a"]),
            percent(c["smallest_b"]),
            precise(c["p_smallest"]),
        )
        for c in comparisons
    ]
    return [
        html.heading("Which space is better"),
        *(html.paragraph(f"{c['verdict']}.") for c in comparisons),
        html.table(heads, rows),
        html.paragraph(
            "p: how often networks shuffled between the two spaces give as large a figure. The first is "
            "corrected for the number of comparisons; up to 0.05 is called beyond chance."
        ),
    ]


def parameter_section(results: Results) -> list[str]:
    parts = []
    for i, (name, rows) in enumerate(results.groups.items()):
        if found := parameters(rows):
            figure = against_parameters(found, results.errors[name], color(i))
            parts += [html.heading(f"Parameters of {name}"), html.picture(figure, f"error against parameters, {name}")]
    explained = (
        "Line: the likeliest value in a space's best network; shade: its 95 % range (bootstrap of "
        "a quarter of the networks at a time). Where the shade is as wide as the points are "
        "spread, more networks are needed to tell."
    )
    return [*parts, html.paragraph(explained)]


def cost_section(results: Results) -> list[str]:
    return [html.heading("Accuracy against cost"), side_by_side(results.groups, COSTS)]


def next_section(figures: Mapping[str, Any]) -> list[str]:
    parts = [
        html.heading("What next"),
        html.paragraph("Train the best network in full:"),
        html.code(figures["command"]),
    ]
    if "next" not in figures and any(s["ranges"] for s in figures["spaces"]):
        parts.append(html.paragraph(f"{NARROWS_NOTHING[:1].upper()}{NARROWS_NOTHING[1:]}."))
    if "next" in figures:
        parts += [html.paragraph("See whether the likely best ranges make a better space:"), html.code(figures["next"])]
    return parts


def network_table(results: Results) -> str:
    rows = sorted((row for rows in results.groups.values() for row in rows), key=lambda row: -row["val_accuracy"])
    costs = [key for key in COLUMNS if all(row.get(key) for row in rows)]
    lines = [
        (row["arch"], row["space"], percent(1 - row["val_accuracy"]), *((row[key], short(row[key])) for key in costs))
        for row in rows
    ]
    return html.table(("network", "space", "error", *costs), lines)


def percent(value: float) -> tuple[float, str]:
    return value, f"{value:.2%}"


def precise(value: float) -> tuple[float, str]:
    return value, f"{value:.3g}"
