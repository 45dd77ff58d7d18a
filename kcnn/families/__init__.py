"""All networks by name: each family is a table of rows in a module of its own."""

import difflib
import fnmatch
import re

from kcnn.arch import Arch
from kcnn.errors import InputError, shown
from kcnn.families import (
    alexnet,
    aliases,
    convnext,
    densenet,
    efficientnet,
    efficientnet_v2,
    ghostnet,
    googlenet,
    inception,
    lenet,
    mnasnet,
    mobilenet,
    mobilenet_v4,
    nasnet,
    points,
    regnet,
    repvgg,
    resnet,
    shufflenet,
    squeezenet,
    vgg,
    xception,
)

FAMILIES = (
    *(lenet, alexnet, vgg, googlenet, inception, resnet, densenet, squeezenet, xception, mobilenet, mobilenet_v4),
    *(shufflenet, mnasnet, ghostnet, efficientnet, efficientnet_v2, regnet, repvgg, convnext, nasnet),
)
ARCHS: dict[str, Arch] = {arch.name: arch for family in FAMILIES for arch in family.ARCHS}


def names(pattern: str = "*") -> list[str]:
    """Returns the canonical names that match a shell pattern, sorted: names("resnet-*")."""
    return sorted(fnmatch.filter(ARCHS, pattern), key=natural)


def get(name: str) -> Arch:
    """Returns the architecture of a name, however it is written: resnet-50, resnet50, ResNet50, resnet_50.

    So are the names of timm, torchvision and keras.applications: regnety_032, tf_mobilenetv3_large_100, ResNet50V2.
    Points of design spaces have names as well: regnetx-d13-w24-a36.44-m2.49-g8, anynetx-d1x1x4x7-w24x56x152x368-g8.
    Raises InputError with the closest names for one that is not known, and for
    one that means another network in torchvision.
    """
    if not isinstance(name, str):
        raise InputError(f"architecture {shown(name)}: a name is needed, such as resnet-50")
    found = BARE.get(bare(aliases.ours(name))) or points.parse(name)
    if found is None:
        close = difflib.get_close_matches(bare(name[:100]), BARE, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(BARE[c].name for c in close)}?" if close else "`kcnn info --list` has them all"
        raise InputError(f"unknown architecture {shown(name)}: {hint}")
    return found


def bare(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.lower())


def natural(name: str) -> list[tuple[str, float]]:
    """Returns what sorts resnet-18 before resnet-101, and regnetx-800mf before regnetx-1.6gf."""
    name = re.sub(r"(\d+\.?\d*)gf", lambda found: f"{1000 * float(found[1]):g}mf", name)
    return [(word, float(n or 0)) for word, n in re.findall(r"(\D+)(\d+\.?\d*)?", name)]


BARE = {bare(name): arch for name, arch in ARCHS.items()}
