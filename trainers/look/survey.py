"""look(data): what is in a data set and what is wrong with it, as figures, as lines to read, and as a page."""

import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kcnn.errors import InputError
from trainers.auto.glance import SIDE
from trainers.config import TrainConfig
from trainers.data import Source, open_data
from trainers.data.sampling import only
from trainers.data.sources import is_folder
from trainers.look import duplicates, labels
from trainers.look.figures import Look, figures_of, lines
from trainers.look.scan import broken, progress, scan
from trainers.runs import files
from trainers.runs.asked import chosen, placed
from trainers.runs.checkpoints import load_run
from trainers.runs.folders import claim, same_classes
from trainers.settings import RunConfig, resolve

FIGURES, PAGE = "look.json", "look.html"


def look(
    data: str,
    *,
    data_dir: str | None = None,
    val_split: float = 0.1,
    multi_label: bool = False,
    run: str | None = None,
    recipe: str | None = None,
    out: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Looks at every image of a data set, and writes look.json and look.html into `out`, or logs/look-<data>-<time>.

    run: a finished run, by whose network labels that look wrong are found. recipe: the one whose augmentation is shown.
    Raises InputError.
    """
    from trainers.look.page import page  # the pictures' library is needed now only

    flags = placed(TrainConfig(data=data, data_dir=data_dir, val_split=val_split, multi_label=multi_label, seed=seed))
    if recipe:
        flags = replace(flags, recipe=recipe)
    if out and Path(out).exists() and not Path(out).is_dir():
        raise InputError(f"out {out!r} is a file; name a folder")
    judge = load_run(run) if run else None
    if judge and (multi_label or judge[1].multi_label):
        raise InputError(
            f"run {run!r}: labels that look wrong are found among one label an image, not with multi-label"
        )
    source = open_data(
        flags.data, data_dir=data_dir, val_split=val_split, seed=seed, on_corrupt="error", multi_label=multi_label
    )
    if judge:
        same_classes(judge[2], source.classes, str(run))
    settings = resolve(chosen(flags, None, lambda *_, **__: source))
    found = replace(seen(source), folder=home(data))
    folder = Path(out) if out else claim(Path("logs") / f"look-{word(source.name)}-{time.strftime('%Y%m%d-%H%M%S')}")
    folder.mkdir(parents=True, exist_ok=True)
    if judge and run:
        found = with_suspects(found, judge[0], judge[1], run, folder)
    figures = {"data": data, "folder": str(folder), "page": str(folder / PAGE)} | figures_of(found)
    figures["lines"] = lines(figures)
    files.write_text(folder / PAGE, page(found, settings, figures))
    files.write_json(folder / FIGURES, figures)
    return figures


def home(data: str) -> str:
    """The folder with which the names of the images of a folder or a list begin."""
    path = os.path.abspath(os.path.expanduser(data))
    return (path if os.path.isdir(path) else os.path.dirname(path)) + os.sep if is_folder(data) else ""


def word(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:50] or "data"


def seen(source: Source) -> Look:
    """Looks at all images of a source, its test part included."""
    parts = {"train": source.train, "val": source.val} | ({"test": source.test()} if source.test else {})
    bar, advance = progress(sum(split.size for split in parts.values()))
    with bar:
        scans = tuple(scan(part, split, advance) for part, split in parts.items())
    places = [(k, int(i)) for k, s in enumerate(scans) for i in np.flatnonzero(s.intact)]
    content = np.concatenate([s.content[s.intact] for s in scans])
    shorter = np.concatenate([s.sides[s.intact].min(1) for s in scans])
    near = bool(len(shorter)) and float(np.median(shorter)) >= SIDE
    small = np.concatenate([s.small[s.intact] for s in scans]) if near else None
    twice = [(same, [places[i] for i in group]) for same, group in duplicates.groups(content, small)]
    twice.sort(key=lambda group: (len({part for part, _ in group[1]}) < 2, group[1]))
    return Look(source, scans, tuple(map(broken, scans)), near, twice)


def with_suspects(found: Look, model: Any, config: RunConfig, run: str, folder: Path) -> Look:
    """The look with the labels that look wrong to a run's network."""
    splits = [only(s.split, s.intact) for s in found.scans]
    features = labels.features_of(model, config, splits, folder)
    places = [(k, int(i)) for k, s in enumerate(found.scans) for i in np.flatnonzero(s.intact)]
    numbers = np.concatenate([s.labels[s.intact] for s in found.scans])
    suspects = labels.suspects(np.concatenate(features), numbers, len(found.source.classes))
    located = [(places[s.at][0], labels.Suspect(places[s.at][1], s.likely, s.margin)) for s in suspects]
    return replace(found, suspects=located, run=run)
