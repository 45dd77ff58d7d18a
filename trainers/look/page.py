"""The page of a look: classes as contact sheets, what training makes of images, and what is wrong, as pictures."""

from typing import Any

import numpy as np

from trainers.look.figures import Look, Place
from trainers.phases import augmentation
from trainers.reports import html
from trainers.reports.pictures import augmented, jpeg, thumbnails
from trainers.settings import RunConfig

SHEETS, COLUMNS = 1000, 11  # pictures in all contact sheets, and in one of them, at most
EXAMPLES, TIMES = 4, 10  # images whose augmentation is shown, and how often
GROUPS, OF_GROUP, SUSPECTS = 60, 6, 120  # of what is wrong, as pictures
ROWS = 1000  # of the tables


def page(found: Look, settings: RunConfig, figures: dict[str, Any]) -> str:
    twice = [[*group][:OF_GROUP] for _, group in found.twice[:GROUPS]]
    suspects = [(part, s.at) for part, s in found.suspects[:SUSPECTS]]
    sheets = contact_sheets(found)
    wanted = {place for group in [*twice, suspects, *sheets.values()] for place in group}
    small = {
        (part, index): picture
        for part, s in enumerate(found.scans)
        for index, picture in thumbnails(s.split, [i for p, i in wanted if p == part]).items()
    }
    parts = [html.lines(figures["lines"])]
    if suspects:
        parts += [
            html.heading(f"{len(found.suspects):,} labels that look wrong to {found.run}"),
            html.paragraph(
                "A classifier on the features of this run's network, which has not seen the label, is sure of another "
                "one. The most certain come first; many of them may be right, and only odd."
            ),
            html.tiles([
                tile(found, place, small, f"like {found.source.classes[s.likely]}")
                for place, (_, s) in zip(suspects, found.suspects, strict=False)
            ]),
        ]  # fmt: skip
    if twice:
        parts += [
            html.heading(f"{len(found.twice):,} images that are there more than once"),
            html.paragraph("Images in several parts come first. " + at_most(len(found.twice), GROUPS)),
            *(html.tiles([tile(found, place, small) for place in group]) for group in twice),
        ]
    if figures["broken"]:
        rows = [[row["image"], row["part"], row["reason"]] for row in figures["broken"][:ROWS]]
        parts += [
            html.heading(f"{len(figures['broken']):,} images that cannot be decoded"),
            html.paragraph(at_most(len(figures["broken"]), ROWS)),
            html.table(["image", "part", "reason"], rows),
        ]
    parts += seen_in_training(found, settings)
    names = list(figures["images"])
    parts += [
        html.heading("Classes"),
        html.table(
            ["class", *names], [[row["class"], *(row[n] for n in names)] for row in figures["per_class"][:ROWS]]
        ),
    ]
    for number, places in sheets.items():
        shown = [small[place] for place in places if place in small]
        if shown:
            parts += [
                html.subheading(found.source.classes[number]),
                html.jpeg(jpeg([shown]), found.source.classes[number]),
            ]
    return html.page(f"A look at {figures['name']}", *parts)


def at_most(count: int, shown: int) -> str:
    return f"The first {shown:,} are shown; look.json has all." if count > shown else ""


def contact_sheets(found: Look) -> dict[int, list[Place]]:
    """Training images of each class, some from everywhere in it, by the class's number."""
    scan, classes = found.scans[0], len(found.source.classes)
    each = min(COLUMNS, max(1, SHEETS // classes))
    sheets = {}
    for number in range(min(classes, SHEETS)):
        sets = scan.split.label_sets
        mine = scan.labels == number if sets is None else sets[scan.labels, number] > 0
        members = np.flatnonzero(mine & scan.intact)
        chosen = members[np.unique(np.linspace(0, len(members) - 1, each).astype(int))] if len(members) else members
        sheets[number] = [(0, int(i)) for i in chosen]
    return sheets


def tile(found: Look, place: Place, small: dict[Place, np.ndarray], more: str = "") -> tuple[bytes, str]:
    """An image as a JPEG, and the words below it."""
    words = [found.name(place), f"{found.scans[place[0]].part}: {found.label(place)}", more]
    return jpeg([[small[place]]]), "\n".join(filter(None, words))


def seen_in_training(found: Look, settings: RunConfig) -> list[str]:
    """Some training images, and what they become in the first epochs."""
    scan, side = found.scans[0], min(settings.resolution, 224)
    intact = np.flatnonzero(scan.intact)
    if not len(intact):
        return []
    chosen = [int(i) for i in intact[np.unique(np.linspace(0, len(intact) - 1, EXAMPLES).astype(int))]]
    rows = augmented(scan.split, chosen, TIMES, settings.seed, side, augmentation(settings))
    first = thumbnails(scan.split, chosen, side)
    sheet = jpeg([[first[i], *row] for i, row in zip(chosen, rows, strict=True)], side)
    blends = [name for name in ("mixup", "cutmix") if getattr(settings, name)]
    return [
        html.heading("What training sees"),
        html.paragraph(
            f"Images, and after each what the recipe {settings.recipe!r} makes of it in its first {TIMES} epochs, at "
            f"{side} pixels." + (f" {' and '.join(blends)} then blend pairs of them." if blends else "")
        ),
        html.jpeg(sheet, "images and their augmented copies"),
    ]
