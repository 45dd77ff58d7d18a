"""What a sweep of design spaces found: figures, a page, and what to do next."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean, mean, median
from typing import Any

from kcnn.errors import InputError
from kcnn.scaling import short
from trainers.runs import files
from tuning.pages.html import code, heading, page, paragraph, picture, table
from tuning.pages.pictures import COSTS, against_parameters, color, distributions, pareto
from tuning.spaces.statistics import best_range, compare
from tuning.trials import sweep

PAGE, SUMMARY = "page.html", "summary.json"
SYMBOLS = {"d": "depth", "w": "w0", "a": "wa", "m": "wm", "g": "group width", "b": "bottleneck ratio"}
Row = Mapping[str, Any]


def report(folder: Path, rows: Sequence[Row], k: int, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Writes page.html and summary.json, and returns the latter. Raises InputError where no network was trained.

    flags: of a sweep that goes on from here.
    """
    trained = [row for row in rows if "error" not in row and row.get("val_accuracy") is not None]
    failed = [row for row in rows if row not in trained]
    if not trained:
        raise InputError(f"all {len(rows)} networks failed, the first: {failed[0].get('error', 'no val_accuracy')}")
    names = list(dict.fromkeys(row["space"] for row in rows))
    groups = {name: found for name in names if (found := [row for row in trained if row["space"] == name])}
    errors = {name: [1 - row["val_accuracy"] for row in found] for name, found in groups.items()}
    best = min(trained, key=lambda row: (-row["val_accuracy"], row.get("val_loss") or 0))
    figures: dict[str, Any] = {
        "spaces": [summary(name, groups[name], errors[name], failed, k) for name in groups],
        "comparisons": [c.to_dict() for c in compare(errors, k)],
        "best": dict(best),
        "command": command(folder, best),
        "networks": len(trained),
        "failed": len(failed),
        "run_dir": str(folder),
        "page": str(folder / PAGE),
    }
    if spaces := narrowed(figures["spaces"]):
        figures["next"] = shlex.join(["python", "-m", "tuning.design_space", "--space", *spaces, *flags])
    files.write_json(folder / SUMMARY, figures)
    files.write_text(folder / PAGE, drawn(folder, figures, groups, errors, failed))
    return figures


def summary(name: str, rows: Sequence[Row], errors: Sequence[float], failed: Sequence[Row], k: int) -> dict[str, Any]:
    """A space in figures. ranges: (low, median, high) of each parameter in the best network, to 95 %."""
    ranges = {what: best_range(values, errors) for what, values in parameters(rows).items()}
    return {"space": name, "networks": len(rows), "failed": sum(row["space"] == name for row in failed),
            "least_error": min(errors), "k": min(k, len(errors)), "smallest_errors": mean(sorted(errors)[:k]),
            "median_error": median(errors), "mean_error": mean(errors), "ranges": ranges}  # fmt: skip


def parameters(rows: Sequence[Row]) -> dict[str, list[float]]:
    """What errors are drawn against, network by network; of an AnyNet sums and means over its stages."""
    if any("symbols" not in row for row in rows):
        return {}
    every = [of_network(row["symbols"]) for row in rows]
    if any(each.keys() != every[0].keys() for each in every):
        return {}
    return {what: [each[what] for each in every] for what in every[0]}


def of_network(s: Mapping[str, Any]) -> dict[str, float]:
    if "m" in s:
        return {SYMBOLS[symbol]: value for symbol, value in s.items()}
    means = {SYMBOLS[symbol]: round(geometric_mean(s[symbol]), 2) for symbol in "gb"}
    return {"depth": sum(s["d"]), "first width": s["w"][0], "last width": s["w"][-1]} | means


def command(folder: Path, row: Row) -> str:
    """How to train a network in full: with the flags of its sweep where that is at hand."""
    configs = {job.key: job.config for job in sweep.read_jobs(folder)}
    if config := configs.get(row.get("key", "")):
        return sweep.command(config)
    return f"kcnn train --arch {row['arch']}"


def narrowed(spaces: Sequence[Mapping[str, Any]]) -> list[str]:
    """The best RegNet space and the part of it that its likely best ranges leave."""
    regnets = [s for s in spaces if s["space"].startswith("regnet") and s["ranges"]]
    if not regnets:
        return []
    least = min(regnets, key=lambda s: s["smallest_errors"])
    limits = ",".join(
        f"{symbol}={low:g}" + (f"..{high:g}" if high > low else "")
        for symbol, what in SYMBOLS.items()
        for low, _, high in [least["ranges"][what]]
    )
    return [least["space"], f"{least['space'].partition(':')[0]}:{limits}"]


def spoken(figures: Mapping[str, Any]) -> str:
    """For a terminal."""
    width = max(len(s["space"]) for s in figures["spaces"])
    k = figures["spaces"][0]["k"]
    lines = [f"{'space':<{width}}  networks  least error  mean of {k} least  median    mean"]
    columns = {"networks": ">8", "least_error": ">11.2%", "smallest_errors": ">15.2%", "median_error": ">6.2%",
               "mean_error": ">6.2%"}  # fmt: skip
    for s in figures["spaces"]:
        lines.append("  ".join([f"{s['space']:<{width}}", *(format(s[what], how) for what, how in columns.items())]))
    lines += [""] + [f"{c['verdict']} ({told(c)})" for c in figures["comparisons"]]
    if figures["failed"]:
        lines.append(f"{figures['failed']} networks failed and are left out; the page tells why")
    best = figures["best"]
    lines += ["", f"best  {best['arch']}, validation accuracy {best['val_accuracy']:.2%}", f"page  {figures['page']}",
              f"next  {figures['command']}"]  # fmt: skip
    return "\n".join([*lines, f"      {figures['next']}"] if "next" in figures else lines)


def told(c: Mapping[str, Any]) -> str:
    return (f"area between the EDFs {100 * c['area']:.2f} points, p = {c['p']:.3g}; mean of the {c['k']} least errors "
            f"{c['smallest_a']:.2%} and {c['smallest_b']:.2%}, p = {c['p_smallest']:.3g}")  # fmt: skip


def drawn(folder: Path, figures: Mapping[str, Any], groups: Mapping[str, Sequence[Row]],
          errors: Mapping[str, Sequence[float]], failed: Sequence[Row]) -> str:  # fmt: skip
    """The page."""
    parts = [
        paragraph(f"{figures['networks']} networks of {len(groups)} spaces were drawn at random and trained shortly. "
                  "What counts is how their errors are distributed: a good space has many good networks, not one."),
        heading("Error distributions"),
        picture(distributions(errors), "the share of networks with at most an error, for each space"),
        paragraph("Each curve tells what share of a space's networks have at most that error: higher and further to "
                  "the left is better. The bands hold 95 % of the curves that other draws would give (bootstrap)."),
        table(("space", "networks", "failed", "least error", f"mean of {figures['spaces'][0]['k']} least", "median",
               "mean"),
              [(s["space"], s["networks"], s["failed"], *(percent(s[what]) for what in
                ("least_error", "smallest_errors", "median_error", "mean_error"))) for s in figures["spaces"]]),
    ]  # fmt: skip
    if figures["comparisons"]:
        parts += [
            heading("Which space is better"),
            *(paragraph(f"{c['verdict']}.") for c in figures["comparisons"]),
            table(("spaces", "area between EDFs", "p", "difference of means", "its p", "means of least", "", "its p"),
                  [(f"{c['a']} and {c['b']}", percent(c["area"]), number(c["p"]), percent(c["mean_difference"]),
                    number(c["p_mean"]), percent(c["smallest_a"]), percent(c["smallest_b"]), number(c["p_smallest"]))
                   for c in figures["comparisons"]]),
            paragraph("p: how often networks shuffled between the two spaces give as large a figure. The first is "
                      "corrected for the number of comparisons; up to 0.05 is called beyond chance."),
        ]  # fmt: skip
    for i, (name, rows) in enumerate(groups.items()):
        if found := parameters(rows):
            figure = against_parameters(found, errors[name], color(i))
            parts += [heading(f"Parameters of {name}"), picture(figure, f"error against parameters, {name}")]
    parts.append(paragraph("Line: the likeliest value in a space's best network; shade: its 95 % range (bootstrap of "
                           "a quarter of the networks at a time). Where the shade is as wide as the points are "
                           "spread, more networks are needed to tell."))  # fmt: skip
    costs = {key: label for key, label in COSTS.items() if all(key in row for rows in groups.values() for row in rows)}
    if costs:
        parts += [heading("Accuracy against cost"), picture(pareto(groups, costs), "accuracy against costs")]
    parts += [heading("What next"), paragraph("Train the best network in full:"), code(figures["command"])]
    if "next" in figures:
        parts += [paragraph("See whether the likely best ranges make a better space:"), code(figures["next"])]
    parts += [heading("Networks"), networks(groups)]
    if failed:
        parts += [heading("Failed"), table(("network", "space", "error"),
                                           [(r["arch"], r["space"], r.get("error", "")) for r in failed])]  # fmt: skip
    return page(f"Design spaces: {' and '.join(groups)}", *parts)


def networks(groups: Mapping[str, Sequence[Row]]) -> str:
    rows = sorted((row for rows in groups.values() for row in rows), key=lambda row: -row["val_accuracy"])
    costs = [
        key
        for key in ("macs", "params", "activations", "latency_ms", "epochs", "seconds")
        if all(row.get(key) for row in rows)
    ]
    return table(("network", "space", "error", *costs),
                 [(row["arch"], row["space"], percent(1 - row["val_accuracy"]),
                   *((row[key], short(row[key])) for key in costs)) for row in rows])  # fmt: skip


def percent(value: float) -> tuple[float, str]:
    return value, f"{value:.2%}"


def number(value: float) -> tuple[float, str]:
    return value, f"{value:.3g}"
