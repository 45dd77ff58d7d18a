"""RegNet: Radosavovic et al., 2020 (https://arxiv.org/abs/2003.13678), Tables in appendix D; AnyNet, its free form.

Any point of their design spaces has a name, from which `parse` makes it: the paper's symbols with their values, one
for each stage or one for all. x is without, y with squeeze-and-excite.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kcnn.arch import MOST_BLOCKS, MOST_CHANNELS, Arch, Style, block, stage
from kcnn.errors import InputError, shown

MOST_STAGES = 16  # each of them halves the image


@dataclass(frozen=True)
class Row:
    """The parameters of a RegNet, by the paper's symbols; bottleneck: the ratio of a block's outer to inner width."""

    depth: int
    w0: float
    wa: float
    wm: float
    group_width: int
    bottleneck: float = 1.0


STEM = (block("conv", 32, 2, kernel=3),)
HEAD = (block("average"), block("dropout"))
#    depth, w0, wa, wm, group width
X_ROWS = {
    "200mf": (13, 24, 36.44, 2.49, 8),
    "400mf": (22, 24, 24.48, 2.54, 16),
    "600mf": (16, 48, 36.97, 2.24, 24),
    "800mf": (16, 56, 35.73, 2.28, 16),
    "1.6gf": (18, 80, 34.01, 2.25, 24),
    "3.2gf": (25, 88, 26.31, 2.25, 48),
    "4.0gf": (23, 96, 38.65, 2.43, 40),
    "6.4gf": (17, 184, 60.83, 2.07, 56),
    "8.0gf": (23, 80, 49.56, 2.88, 120),
    "12gf": (19, 168, 73.36, 2.37, 112),
    "16gf": (22, 216, 55.59, 2.1, 128),
    "32gf": (23, 320, 69.86, 2.0, 168),
}
Y_ROWS = {
    "200mf": (13, 24, 36.44, 2.49, 8),
    "400mf": (16, 48, 27.89, 2.09, 8),
    "600mf": (15, 48, 32.54, 2.32, 16),
    "800mf": (14, 56, 38.84, 2.4, 16),
    "1.6gf": (27, 48, 20.71, 2.65, 24),
    "3.2gf": (21, 80, 42.63, 2.66, 24),
    "4.0gf": (22, 96, 31.41, 2.24, 64),
    "6.4gf": (25, 112, 33.22, 2.27, 72),
    "8.0gf": (17, 192, 76.82, 2.19, 56),
    "12gf": (19, 168, 73.36, 2.37, 112),
    "16gf": (18, 200, 106.23, 2.48, 112),
    "32gf": (20, 232, 115.89, 2.53, 232),
}
# depth, w0, wa, wm, group width, bottleneck ratio (of a block's outer to its inner width); those of the stages
FORMS = {"regnet": "d13-w24-a36.44-m2.49-g8-b1", "anynet": "d1x1x4x7-w24x56x152x368-g8-b1"}


def anynet(
    name: str,
    depths: tuple[int, ...],
    widths: tuple[int, ...],
    ratios: tuple[float, ...] | float = 1.0,
    group_widths: tuple[int, ...] | int = 8,
    se: float = 0.0,
    family: str = "anynet",
) -> Arch:
    """Returns stages of bottlenecks, each of which halves the image.

    ratios: of a block's inner to its outer width; these and the group widths are given for each stage, or once for
    all. se: squeeze-and-excite narrows to this share of a block's input. Raises InputError for rows of unequal
    length, and for groups that do not divide an inner width.
    """
    count = len(depths)
    ratios = ratios if isinstance(ratios, tuple) else (ratios,) * count
    group_widths = group_widths if isinstance(group_widths, tuple) else (group_widths,) * count
    lengths = {"depths": count, "widths": len(widths), "ratios": len(ratios), "group widths": len(group_widths)}
    if count > MOST_STAGES:
        raise InputError(f"{count} stages: at most {MOST_STAGES} are possible, as each of them halves the image")
    if len(set(lengths.values())) > 1 or not count:
        got = ", ".join(f"{n} {what}" for what, n in lengths.items())
        raise InputError(f"{got}: as many of each are needed as there are stages")
    for depth, width, ratio, group in zip(depths, widths, ratios, group_widths, strict=True):
        if min(depth, width, ratio, group) <= 0 or sum(depths) > MOST_BLOCKS or width > MOST_CHANNELS:
            raise InputError(
                f"depth {depth}, width {width:g}, ratio {ratio:g}, group width {group:g}: above 0 is needed, "
                f"and at most {MOST_BLOCKS:,} blocks and {MOST_CHANNELS:,} channels"
            )
        if round(width * ratio) % min(group, round(width * ratio) or 1):
            raise InputError(
                f"group width {group} does not divide the inner width {round(width * ratio)} "
                f"(width {width}, ratio {ratio})"
            )
    stages = tuple(
        stage("bottleneck", depth, width, 2, ratio=ratio, group_width=min(group, round(width * ratio)), se=se)
        for depth, width, ratio, group in zip(depths, widths, ratios, group_widths, strict=True)
    )
    return Arch(name, family, 224, STEM, stages, HEAD, Style())


def regnet(name: str, row: Row, se: float = 0.0, family: str = "regnet") -> Arch:
    """Returns the AnyNet whose block j has the width w0 + wa * j, quantized.

    u_j = w0 + wa * j;  s_j = log(u_j / w0) / log(wm);  w_j = w0 * wm^round(s_j), to a multiple of 8, and then its
    inner width, w_j / bottleneck, to one of the group width. Equal widths make a stage. Equations 2 to 4.
    """
    r = row
    if not 1 <= r.depth <= MOST_BLOCKS or r.w0 <= 0 or r.wa < 0 or r.wm <= 1 or r.group_width < 1 or r.bottleneck <= 0:
        raise InputError(
            f"depth {r.depth}, w0 {r.w0}, wa {r.wa}, wm {r.wm}, group width {r.group_width}, bottleneck "
            f"{r.bottleneck}: 1 to {MOST_BLOCKS:,} blocks, w0 above 0, wa from 0, wm above 1, a positive "
            "group and a positive bottleneck ratio are needed"
        )
    powers = [round(math.log((r.w0 + r.wa * j) / r.w0, r.wm)) for j in range(r.depth)]
    quantized = [8 * round(r.w0 * r.wm**power / 8) for power in powers]
    widths = sorted(set(quantized))
    depths = tuple(quantized.count(w) for w in widths)
    inner = tuple(max(1, round(w / r.bottleneck)) for w in widths)
    groups = tuple(min(r.group_width, v) for v in inner)
    fitted = tuple(round(max(g, round(v / g) * g) * r.bottleneck) for v, g in zip(inner, groups, strict=True))
    return anynet(name, depths, fitted, 1 / r.bottleneck, groups, se, family)


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


ARCHS = (
    *(regnet(f"regnetx-{size}", Row(*row), 0.0, "regnetx") for size, row in X_ROWS.items()),
    *(regnet(f"regnety-{size}", Row(*row), 0.25, "regnety") for size, row in Y_ROWS.items()),
)
