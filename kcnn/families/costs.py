"""What each network costs, and the top-1 published for it: costs.csv has a row for each, so that nobody waits for 120
networks to be built. `python docs/architectures.py` writes it, and a test holds it against what is built.
"""

import csv
import functools
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parent / "costs.csv"


class Cost(NamedTuple):
    """A network at its own resolution, with 1000 classes; for units see `kcnn.Facts`.

    resolution, receptive_field: in pixels. top1: accuracy on ImageNet in percent that the source printed, if one did.
    """

    name: str
    family: str
    resolution: int
    params: int
    macs: int
    activations: int
    receptive_field: int | None
    top1: float | None
    source: str


@functools.cache
def costs() -> dict[str, Cost]:
    """Returns the costs of all networks by name, family by family."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return {row["name"]: read(row) for row in csv.DictReader(file)}


def read(row: dict[str, str]) -> Cost:
    return Cost(
        name=row["name"],
        family=row["family"],
        resolution=int(row["resolution"]),
        params=int(row["params"]),
        macs=int(row["macs"]),
        activations=int(row["activations"]),
        receptive_field=int(row["receptive_field"]) if row["receptive_field"] else None,
        top1=float(row["top1"]) if row["top1"] else None,
        source=row["source"],
    )
