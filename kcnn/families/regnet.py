"""RegNet: Radosavovic et al., 2020 (https://arxiv.org/abs/2003.13678), Section 3.3 and the tables of appendix D."""

import math
from dataclasses import dataclass

from kcnn.arch import MOST_BLOCKS, Arch
from kcnn.errors import InputError
from kcnn.families.anynet import anynet


@dataclass(frozen=True)
class Row:
    """The parameters of a RegNet, by the paper's symbols; bottleneck: the ratio of a block's outer to inner width."""

    depth: int
    w0: float
    wa: float
    wm: float
    group_width: int
    bottleneck: float = 1.0


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


ARCHS = (
    *(regnet(f"regnetx-{size}", Row(*row), 0.0, "regnetx") for size, row in X_ROWS.items()),
    *(regnet(f"regnety-{size}", Row(*row), 0.25, "regnety") for size, row in Y_ROWS.items()),
)
