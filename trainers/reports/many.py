"""Several runs side by side: what they were asked, what they reached, and which differences chance alone explains."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from trainers.reports.chance import LEVEL, beaten, over_seeds
from trainers.runs.listing import Entry

# What makes no difference to a run's figures, or is told elsewhere.
PLACES = {"run_dir", "resume", "dry_run", "built_as", "keep", "checkpoint_every", "watch", "profile", "quiet",
          "worker_timeout", "data_dir", "data_changed", "cache"}  # fmt: skip
FIGURES = {"val_accuracy": "accuracy", "macs": "multiply-adds", "params": "parameters",
           "images_per_second": "images/s", "seconds": "seconds"}  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Finished runs that differ in their seed alone. name: what tells them from others."""

    name: str
    runs: tuple[Entry, ...]

    @property
    def accuracies(self) -> list[float]:
        return [float(run.result["val_accuracy"]) for run in self.runs]

    @property
    def accuracy(self) -> float:
        return mean(self.accuracies)


def differing(runs: Sequence[Entry]) -> list[str]:
    """The settings in which the runs differ, the seed last."""
    names = dict.fromkeys(name for run in runs for name in run.settings if name not in {*PLACES, "arch", "data"})
    if not any(run.settings.get("schedule") in ("step", "exponential") for run in runs):
        names.pop("step_epochs", None)  # which no other schedule reads
    found = [name for name in names if len({value_of(run, name) for run in runs}) > 1]
    return sorted(found, key=lambda name: name == "seed")


def value_of(run: Entry, name: str) -> str:
    """A setting as a table shows it."""
    value = run.settings.get(name)
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def groups(runs: Sequence[Entry]) -> list[Group]:
    """The finished runs, those together that differ in their seed alone, the best group first."""
    finished = [run for run in runs if run.state == "finished"]
    names = [name for name in differing(finished) if name != "seed"]
    several = {which: len({getattr(run, which) for run in finished}) > 1 for which in ("arch", "data")}
    found: dict[str, list[Entry]] = {}
    for run in finished:
        asked = {name: value for name, value in run.settings.items() if name not in PLACES}
        found.setdefault(json.dumps(asked | {"seed": None}, sort_keys=True, default=str), []).append(run)
    told = {}
    for key, of in found.items():
        words = [getattr(of[0], which) for which, more in several.items() if more]
        words += [f"{name} {value_of(of[0], name)}" for name in names if value_of(of[0], name)]
        told[key] = ", ".join(words)
    labels = list(told.values())
    for key, of in found.items():  # networks of one's own may bear the same name
        told[key] = of[0].folder.name if not told[key] or labels.count(told[key]) > 1 else told[key]
    return sorted((Group(told[key], tuple(of)) for key, of in found.items()), key=lambda g: -g.accuracy)


def comparisons(found: Sequence[Group]) -> list[str]:
    """For each group on the same validation images, whether the best one beats it beyond chance, in a sentence."""
    lines = []
    for images in dict.fromkeys(map(validation, found)):
        same = [group for group in found if validation(group) == images]
        if images is None or len(same) < 2:
            continue
        best, *others = same
        chances = beaten([group.accuracy for group in same], images[1])[1:]
        for group, chance in zip(others, chances, strict=True):
            lead = best.accuracy - group.accuracy
            if min(len(best.runs), len(group.runs)) > 1:
                chance = min(1.0, len(others) * over_seeds(best.accuracies, group.accuracies))
                how = f"over {len(best.runs)} and {len(group.runs)} seeds, p {chance:.2g}"
            else:
                how = f"on {images[1]:,} images, p {chance:.2g}"
            verb = "is better than" if chance <= LEVEL else "does not beat"
            end = "" if chance <= LEVEL else ": chance alone explains it"
            lines.append(f"{best.name} {verb} {group.name} ({100 * lead:.2f} points apart {how}){end}")
    return lines


def validation(group: Group) -> tuple[Any, int] | None:
    """What the group was evaluated on: a fingerprint of the images and how many there are; None where a run does not
    tell, or its runs differ."""
    told = set()
    for run in group.runs:
        prints, images = run.result.get("fingerprint"), run.result.get("val_images")
        if not isinstance(prints, dict) or not isinstance(images, int) or images < 1:
            return None
        told.add((str(prints.get("val")), images))
    return told.pop() if len(told) == 1 else None
