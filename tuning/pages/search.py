"""What a search shows: a line as a trial ends, a table, a Pareto picture, a command."""

import io
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kcnn.errors import InputError
from kcnn.scaling import short
from trainers.config import TrainConfig
from trainers.runs.files import write_bytes
from tuning.pages.pictures import COSTS, front
from tuning.trials.halving import rung_of
from tuning.trials.oracles import Trial
from tuning.trials.space import MULTIPLIERS, resolve
from tuning.trials.trial import FIGURES, RECORD

if TYPE_CHECKING:
    from tuning.trials.search import Search

Row = dict[str, Any]
COLORS = ("#1f4e8c", "#7fa6d6", "#b9c9dc", "#d5d9de")  # the last rung first
PLACES = ("arch", "data", "data_dir", "run_dir", "resume", "dry_run", "epochs")  # set apart in the winner's command


def rows(search: "Search", oracle: Any) -> list[Row]:
    """A row for each trial, in the order in which they began."""
    return [row(search, oracle.trials[name]) for name in sorted(oracle.trials)]


def row(search: "Search", trial: Trial) -> Row:
    """What a trial was, cost and reached. Costs are of the network at its full resolution; figures of its last run."""
    values = trial.hyperparameters.values
    config = resolve(search.space.run(values))
    record, past, lost = recorded(search, trial)
    figures = record.get("figures") or {}
    error = lost or record.get("error") or (trial.message if trial.status == "FAILED" else None)
    made: Row = {"trial": trial.trial_id, "status": trial.status.lower()}
    made |= {"width": config.flags.width, "depth": config.flags.depth, "resolution": config.arch.resolution}
    made |= {d.name: getattr(config.flags, d.name) for d in search.space.dimensions if d.name not in MULTIPLIERS}
    made |= search.space.costs(values) or {}
    made |= {name: figures.get(name) for name in FIGURES}
    made |= {"score": record.get("score") if trial.status == "COMPLETED" else None}
    made |= {"rung": rung_of(trial), "epochs": record.get("epochs"), "trained_resolution": record.get("resolution")}
    made |= {what: sum(r[what] for r in past) for what in ("seconds", "lost_seconds")}
    made["rungs"] = [
        {"rung": int(r["values"].get("tuner/rung", 0)), "epochs": r["epochs"], "resolution": r["resolution"],
         "val_accuracy": r["figures"]["val_accuracy"]}
        for r in past if r["figures"]
    ]  # fmt: skip
    return made | {"run_dir": figures.get("run_dir"), "error": error}


def recorded(search: "Search", trial: Trial) -> tuple[Row, list[Row], str | None]:
    """The record of a trial's last run, those of all its runs, and why there are none where they are lost."""
    try:
        record = search.record(trial)
        if trial.status == "COMPLETED" and (record is None or record["score"] is None):
            raise InputError(f"trial {trial.trial_id} has ended, but its {RECORD} is gone or tells of no score")
        return record or {}, search.records(trial), None
    except InputError as error:
        return {}, [], str(error)


def best_of(found: Sequence[Row], direction: str) -> Row:
    """The best of those that came as far as any."""
    done = [r for r in found if r["score"] is not None]
    last = max(r["rung"] for r in done)
    sign = 1 if direction == "max" else -1
    return max((r for r in done if r["rung"] == last), key=lambda r: sign * r["score"])


def tell(search: "Search", oracle: Any, trial: Trial) -> None:
    """A line for a trial that has ended."""
    made = row(search, trial)
    ended = sum(t.status not in ("RUNNING", "INVALID") for t in oracle.trials.values())
    what = ", ".join(f"{d.name} {made[d.name]}" for d in search.space.dimensions)
    line = f"trial {trial.trial_id} ({ended}/{oracle.max_trials}): {what}"
    if made["score"] is None:
        line += f": failed: {made['error']}"
    else:
        line += f": {short(made['macs'])} multiply-adds, {made['epochs']} epochs"
        line += f", val_accuracy {made['val_accuracy']:.2%}, score {made['score']:.4g}"
    print(f"{line}, {made['seconds']:.0f} s ({share(made)} building and compiling)", file=sys.stderr, flush=True)


def share(made: Mapping[str, float]) -> str:
    return f"{made['lost_seconds'] / max(1e-9, made['seconds']):.0%}"


def table(found: Sequence[Row], best: Row) -> str:
    """All trials, the best first; a star marks those that no other of as many epochs beats without costing more."""
    names = [name for name in ("trial", *MULTIPLIERS, "lr", "weight_decay", "drop_path", "recipe") if name in found[0]]
    costs = [name for name in ("macs", "params", "memory", "latency_ms") if name in best]
    lines = [["", *names, *costs, "epochs", "val_accuracy", "score", "seconds"]]
    fronts = [pareto_front(found, "macs", rung) for rung in range(best["rung"] + 1)]
    for r in sorted(found, key=lambda r: (r is not best, r["score"] is None, -r["rung"], -(r["val_accuracy"] or 0))):
        cells = [r["trial"], *(f"{r[n]:g}" if isinstance(r[n], float) else str(r[n]) for n in names[1:])]
        cells += [short(r[c]) if c in r else "-" for c in costs] + [str(r["epochs"] or "-")]
        cells += [r["status"], "-"] if r["score"] is None else [f"{r['val_accuracy']:.2%}", f"{r['score']:.4f}"]
        star = "*" if r["score"] is not None and r in fronts[r["rung"]] else ""
        lines.append([star, *cells, f"{r['seconds']:.0f}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(f"{c:>{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def reached(r: Row, rung: int) -> float | None:
    """Validation accuracy of a trial on a rung, if it came there. What has no rungs is all on rung 0."""
    return next((past["val_accuracy"] for past in r["rungs"] if past["rung"] == rung), None)


def pareto_front(found: Sequence[Row], cost: str, rung: int) -> list[Row]:
    """Of the rows that came to a rung, those that no other beats there in accuracy without costing more."""
    there = [(r, accuracy) for r in found if (accuracy := reached(r, rung)) is not None]
    return [there[i][0] for i in front([r[cost] for r, _ in there], [accuracy for _, accuracy in there])]


def pareto(found: Sequence[Row], best: Row, path: Path) -> None:
    """Accuracy against each cost, with the front: for each rung on its own, as only its runs are comparable."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    done = [r for r in found if r["rungs"]]
    figure = Figure(figsize=(5 * len(COSTS), 4.6), dpi=120, layout="constrained")
    last = best["rung"]
    for axes, cost in zip(figure.subplots(1, len(COSTS)), COSTS, strict=True):
        for rung in range(last + 1):
            color = COLORS[min(last - rung, len(COLORS) - 1)]
            there = [(r[cost], 100 * accuracy, r) for r in done if (accuracy := reached(r, rung)) is not None]
            if not there:
                continue
            best_there = pareto_front(done, cost, rung)
            axes.plot([r[cost] for r in best_there], [100 * (reached(r, rung) or 0) for r in best_there],
                      drawstyle="steps-post", color=color, zorder=1, linewidth=1)  # fmt: skip
            epochs = sorted(past["epochs"] for *_, r in there for past in r["rungs"] if past["rung"] == rung)
            label = f"{len(there)} trials of {' to '.join(str(e) for e in {epochs[0]: 0, epochs[-1]: 0})} epochs"
            axes.scatter(*zip(*((x, y) for x, y, _ in there), strict=True), s=28, color=color, zorder=2, label=label)
        axes.scatter([best[cost]], [100 * best["val_accuracy"]], s=160, facecolors="none", edgecolors="#d62728",
                     linewidths=1.8, zorder=3, label="best")  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(EngFormatter(sep=""))
        axes.tick_params(axis="x", which="both", labelsize=8, labelrotation=30)
        axes.set(xlabel=COSTS[cost], ylabel="validation accuracy, %")
        axes.grid(alpha=0.25, which="both")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def command(search: "Search", best: Row) -> str:
    """What trains a trial's network in full: the run that was asked for, with what was found, as long as its recipe."""
    config = search.settings.config
    parts: dict[str, Any] = {"arch": config.arch, "data": config.data, "data_dir": config.data_dir}
    parts |= {f.name: value for f in fields(TrainConfig)
              if f.name not in PLACES and (value := getattr(config, f.name)) != f.default}  # fmt: skip
    parts |= {d.name: best[d.name] for d in search.space.dimensions}
    if (config.epochs or 0) > resolve_epochs(search, parts.get("recipe")):
        parts["epochs"] = config.epochs
    flags = []
    for name, value in parts.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag[2:]}")
        elif value is not None:
            flags += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return "kcnn train " + shlex.join(flags)


def resolve_epochs(search: "Search", recipe: str | None) -> int:
    from dataclasses import replace

    return resolve(replace(search.settings.config, recipe=recipe, epochs=None)).epochs
