"""What is known of public ImageNet weights: known.txt has a row for each, with where its figures come from."""

import functools
from dataclasses import dataclass
from pathlib import Path

from kcnn.errors import InputError
from kcnn.families.aliases import ours

HERE = Path(__file__).parent
# torchvision's own files are pickles; timm keeps safetensors copies of some under these tags, the better ones first.
COPIES = ("tv2_in1k", "tv_in1k")


@dataclass(frozen=True)
class Row:
    """Public weights of a network. top1: in percent, size: in MB; None where not known."""

    network: str
    source: str
    top1: float | None
    size: int | None
    licence: str
    default: bool = False


@functools.cache
def rows() -> tuple[Row, ...]:
    """Returns all rows of known.txt, by network, the highest top-1 first."""
    found = []
    for line in (HERE / "known.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            network, source, top1, size, licence, *default = line.split()
            found.append(
                Row(
                    network,
                    source,
                    None if top1 == "-" else float(top1),
                    None if size == "-" else int(size),
                    "" if licence == "-" else licence,
                    bool(default),
                )
            )
    return tuple(found)


def best(network: str) -> str | None:
    """Returns the source of the weights with the highest known top-1; timm's default where none is known."""
    mine = [row for row in rows() if row.network == network]
    return max(mine, key=lambda row: (row.top1 or 0, row.default)).source if mine else None


def keras_name(network: str) -> str | None:
    """Returns keras.applications' name of a network, or None where it has none with weights."""
    found = [row.source for row in rows() if row.network == network and row.source.startswith("keras/")]
    return found[0].removeprefix("keras/") if found else None


def repository(source: str, library: str, name: str, tag: str) -> str:
    """Returns timm's repository on the hub for weights of a library, "resnet50.a1_in1k".

    Raises InputError where a tag is needed, and for weights of torchvision's that are published as a pickle alone.
    """
    named = [row.source.removeprefix("timm/") for row in rows() if row.source.startswith("timm/")]
    if library == "timm":
        if tag:
            return f"{name}.{tag}"
        usual = [row.source.removeprefix("timm/") for row in rows() if row.default]
        match = [one for one in usual if one.partition(".")[0] == name]
        if not match:
            raise InputError(f"weights {source!r}: no usual tag is known for {name}: timm/{name}.TAG is needed")
        return match[0]
    for copy in [tag] if tag else COPIES:
        for one in named:
            base, _, its = one.partition(".")
            if its == copy and ours(base) == ours(name):
                return one
    raise InputError(
        f"weights {source!r}: torchvision publishes them as a pickle alone, which can run code. Convert it where you "
        "trust it (safetensors.torch.save_file(model.state_dict(), FILE)), and give FILE"
    )


def imagenet_classes() -> tuple[str, ...]:
    """Returns the names of ImageNet's 1,000 classes in the order of its weights: torchvision's list (BSD-3-Clause)."""
    return tuple((HERE / "imagenet.txt").read_text(encoding="utf-8").splitlines())
