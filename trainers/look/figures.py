"""What a look at a data set has found: as JSON, and as lines for a person."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainers.data import Source
from trainers.look import labels
from trainers.look.scan import FORMATS, Scan

FEW = 20  # images of a class in training, with fewer of which a network learns little of it
UNBALANCED = 10.0  # times the images of the smallest class: enough to say so
NAMED = 3  # images that a line names

Place = tuple[int, int]  # of an image: a part's number, and the index in it


@dataclass(frozen=True)
class Look:
    """What was found.

    broken: by part, the reasons by the images' names. near: whether pictures were compared, and not files alone.
    twice: groups of places that hold the same image, and whether all are the same file. suspects: with their parts.
    run: the one whose network they look wrong to. folder: with which the names of files begin, or "".
    """

    source: Source
    scans: tuple[Scan, ...]
    broken: tuple[dict[str, str], ...]
    near: bool
    twice: list[tuple[bool, list[Place]]]
    suspects: list[tuple[int, labels.Suspect]] = field(default_factory=list)
    run: str | None = None
    folder: str = ""

    def label(self, place: Place) -> str:
        """The class of an image, or its labels as "dog|sea"."""
        scan = self.scans[place[0]]
        number = int(scan.labels[place[1]])
        if scan.split.label_sets is None:
            return self.source.classes[number]
        return "|".join(self.source.classes[i] for i in np.flatnonzero(scan.split.label_sets[number]))

    def name(self, place: Place) -> str:
        return self.short(self.scans[place[0]].split.describe(place[1]))

    def short(self, name: str) -> str:
        """The name of an image without the data's folder, in which it is."""
        return name.removeprefix(self.folder)

    def counts(self, scan: Scan) -> np.ndarray:
        """Images of each class in a part."""
        numbers, classes = np.bincount(scan.labels), len(self.source.classes)
        if scan.split.label_sets is None:
            return np.pad(numbers, (0, classes - len(numbers)))
        return numbers @ scan.split.label_sets[: len(numbers)].astype(np.int64)


def figures_of(found: Look) -> dict[str, Any]:
    """The look as JSON."""
    sides = np.concatenate([s.sides[s.intact] for s in found.scans])
    formats = Counter(FORMATS[kind] for s in found.scans for kind in s.formats[s.intact])
    counts = {s.part: found.counts(s) for s in found.scans}

    def described(group: list[tuple[int, int]]) -> list[dict[str, str]]:
        return [{"image": found.name(p), "part": found.scans[p[0]].part, "class": found.label(p)} for p in group]

    return {
        "name": found.source.name,
        "classes": len(found.source.classes),
        "images": {s.part: s.split.size for s in found.scans},
        "per_class": [
            {"class": name} | {part: int(numbers[i]) for part, numbers in counts.items()}
            for i, name in enumerate(found.source.classes)
        ],
        "sides": {"shorter": spread(sides.min(1)), "longer": spread(sides.max(1))},
        "formats": dict(formats),
        "grey": int(sum(s.grey[s.intact].sum() for s in found.scans)),
        "turned": int(sum(s.turned.sum() for s in found.scans)),
        "broken": [
            {"image": found.short(name), "part": s.part, "reason": why}
            for s, reasons in zip(found.scans, found.broken, strict=True)
            for name, why in reasons.items()
        ],
        "near_duplicates": found.near,
        "twice": [{"same_file": same, "images": described(group)} for same, group in found.twice],
        "run": found.run,
        "suspects": [
            {"image": found.name((part, s.at)), "part": found.scans[part].part}
            | labels.describe(s, found.scans[part].labels, found.source.classes)
            for part, s in found.suspects
        ],
    }


def spread(values: np.ndarray) -> dict[str, int] | None:
    if not len(values):
        return None
    return {"min": int(values.min()), "median": int(np.median(values)), "max": int(values.max())}


def lines(figures: dict[str, Any]) -> list[str]:
    """What a person should know, a line each: a word, and what is found."""
    images, per_class, sides = figures["images"], figures["per_class"], figures["sides"]["shorter"]
    parts = ", ".join(f"{part} {count:,}" for part, count in images.items())
    told = [("images", f"{sum(images.values()):,} of {figures['classes']} classes: {parts}")]
    if sides:
        formats = ", ".join(f"{name} {count:,}" for name, count in figures["formats"].items())
        size = f"{sides['min']:,} to {sides['max']:,} pixels on the shorter side, the median is {sides['median']:,}"
        told += [("sizes", f"{size}; {formats}; {figures['grey']:,} without colours")]
    told += [("balance", balance(per_class))]
    if figures["turned"]:
        told += [("turned", f"{images_of(figures['turned'])} turned as EXIF says")]
    wrong = [
        ("broken", "that cannot be decoded", [f"{row['image']} ({row['reason']})" for row in figures["broken"]],
         "--on-corrupt skip leaves them out"),
        ("leaks", "of val or test that train has, too", in_several_parts(figures["twice"]),
         "what is measured on them flatters"),
        ("twice", "that the same part has already", within_parts(figures["twice"]), ""),
        ("conflicts", "that have another class elsewhere", of_several_classes(figures["twice"]), ""),
        ("labels", f"whose label looks wrong to {figures['run']}", [named(row) for row in figures["suspects"]],
         "look at them on the page"),
    ]  # fmt: skip
    for word, what, found, advice in wrong:
        if found:
            some = ", ".join(found[:NAMED]) + (", ..." if len(found) > NAMED else "")
            told += [(word, f"{images_of(len(found))} {what}: {some}" + (f"; {advice}" if advice else ""))]
    if not any(found for *_, found, _ in wrong[:4]):
        told += [("in order", "no image is broken, and none is there twice" + ("" if figures["near_duplicates"] else
                  " (files were compared; so small pictures look alike too often)"))]  # fmt: skip
    return [f"{word:<10} {text}" for word, text in told]


def images_of(count: int) -> str:
    return f"{count:,} image{'s' if count != 1 else ''}"


def balance(per_class: list[dict[str, Any]]) -> str:
    rows = sorted(per_class, key=lambda row: row["train"])
    least, most = rows[0], rows[-1]
    text = f"training has {least['train']:,} ({least['class']}) to {most['train']:,} ({most['class']}) images a class"
    few = sum(row["train"] < FEW for row in rows)
    if few:
        text += f"; {few:,} {'class has' if few == 1 else 'classes have'} fewer than {FEW}"
    if most["train"] > UNBALANCED * least["train"]:
        text += "; --class-weights sqrt or balanced evens them out"
    return text


def named(row: dict[str, Any]) -> str:
    return f"{row['image']} ({row['label']}, like {row['likely']})"


def in_several_parts(twice: list[dict[str, Any]]) -> list[str]:
    """The images of val and test that are in train, too."""
    groups = [group["images"] for group in twice if any(row["part"] == "train" for row in group["images"])]
    return [row["image"] for group in groups for row in group if row["part"] != "train"]


def within_parts(twice: list[dict[str, Any]]) -> list[str]:
    """All but the first of the images that a part has more than once."""
    found = []
    for group in twice:
        seen: set[str] = set()
        for row in group["images"]:
            found += [row["image"]] if row["part"] in seen else []
            seen.add(row["part"])
    return found


def of_several_classes(twice: list[dict[str, Any]]) -> list[str]:
    groups = [group["images"] for group in twice if len({row["class"] for row in group["images"]}) > 1]
    return [f"{row['image']} ({row['class']})" for group in groups for row in group]
