"""Names of the points of RegNet's design spaces, from which `parse` makes them: the paper's symbols with their values,
one for each stage or one for all. x is without, y with squeeze-and-excite.
"""

import re
from collections.abc import Sequence

from kcnn.arch import MOST_CHANNELS, Arch
from kcnn.errors import InputError, shown
from kcnn.families.anynet import anynet
from kcnn.families.regnet import Row, regnet

# depth, w0, wa, wm, group width, bottleneck ratio (of a block's outer to its inner width); those of the stages
FORMS = {"regnet": "d13-w24-a36.44-m2.49-g8-b1", "anynet": "d1x1x4x7-w24x56x152x368-g8-b1"}


def point(space: str, **symbols: float | Sequence[float]) -> str:
    """Returns the name of a point: point("anynetx", d=(1, 2), w=(24, 56), g=8) is "anynetx-d1x2-w24x56-g8"."""
    values = {k: (v,) if isinstance(v, int | float) else tuple(v) for k, v in symbols.items()}
    return "-".join([space, *(symbol + "x".join(f"{v:.10g}" for v in row) for symbol, row in values.items())])


def parse(name: str) -> Arch | None:
    """Returns the network of a point's name, or None for another sort of name.

    Raises InputError for a name that lacks a part, or whose values are out of bounds.
    """
    match = re.fullmatch(r"((anynet|regnet)([xy]))((?:-[a-z][\d.x]*)+)", name.strip().lower().replace("_", "-"))
    if not match:
        return None
    space, form, se = match[1], FORMS[match[2]], 0.25 if match[3] == "y" else 0.0
    symbols, words = re.findall(r"\b[a-z](?=\d)", form), match[4].split("-")[1:]
    try:
        given = {"b": (1.0,)} | {word[0]: tuple(float(v) for v in word[1:].split("x")) for word in words}
    except ValueError:
        given = {}
    twice, highest = len({word[0] for word in words}) < len(words), max(map(max, given.values()), default=0)
    if sorted(given) != sorted(symbols) or twice or min(given["b"]) <= 0 or highest > MOST_CHANNELS:
        raise InputError(f"architecture {shown(name)}: the form {space}-{form} is needed")
    whole = {"w"} if match[2] == "anynet" else set()
    for symbol in sorted({"d", "g"} | whole):
        if any(value % 1 for value in given[symbol]):
            raise InputError(f"architecture {shown(name)}: whole numbers are needed for {symbol}")
    rows = {symbol: given[symbol] for symbol in symbols}
    name = point(space, **rows)
    if match[2] == "anynet":
        count = len(rows["d"])
        d, w, g, b = (row * count if len(row) == 1 else row for row in rows.values())
        depths, widths, groups = (tuple(round(v) for v in row) for row in (d, w, g))
        return anynet(name, depths, widths, tuple(1 / v for v in b), groups, se, space)
    if any(len(row) > 1 for row in rows.values()):
        raise InputError(f"architecture {shown(name)}: one number for each symbol is needed, as in {space}-{form}")
    depth, w0, wa, wm, group, bottleneck = (row[0] for row in rows.values())
    return regnet(name, Row(round(depth), w0, wa, wm, round(group), bottleneck), se, space)
