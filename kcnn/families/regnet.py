"""RegNet: Radosavovic et al., 2020 (https://arxiv.org/abs/2003.13678), Tables in appendix D; AnyNet, its free form."""

import math

from kcnn.arch import Arch, Style, piece, stage
from kcnn.errors import InputError

STEM = (piece("conv", 32, 2, kernel=3),)
HEAD = (piece("average"), piece("dropout"))
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


def anynet(name: str, depths: tuple[int, ...], widths: tuple[int, ...], ratios: tuple[float, ...] | float = 1.0,
           group_widths: tuple[int, ...] | int = 8, se: float = 0.0, *, family: str = "anynet",
           resolution: int = 224) -> Arch:  # fmt: skip
    """Stages of bottlenecks, each halving the image: their depths, widths, and bottleneck ratios (inner to outer
    width) and group widths for each stage or for all; `se` of a block's input is what squeeze-and-excite keeps.

    Raises InputError for rows of unequal length, and for groups that do not divide an inner width.
    """
    count = len(depths)
    ratios = ratios if isinstance(ratios, tuple) else (ratios,) * count
    group_widths = group_widths if isinstance(group_widths, tuple) else (group_widths,) * count
    lengths = {"depths": count, "widths": len(widths), "ratios": len(ratios), "group widths": len(group_widths)}
    if len(set(lengths.values())) > 1 or not count:
        got = ", ".join(f"{n} {what}" for what, n in lengths.items())
        raise InputError(f"{got}: as many of each are needed as there are stages")
    for depth, width, ratio, group in zip(depths, widths, ratios, group_widths, strict=True):
        if min(depth, width, ratio, group) <= 0:
            raise InputError(f"depth {depth}, width {width}, ratio {ratio}, group width {group}: above 0 is needed")
        if round(width * ratio) % min(group, round(width * ratio) or 1):
            raise InputError(f"group width {group} does not divide the inner width {round(width * ratio)} "
                             f"(width {width}, ratio {ratio})")  # fmt: skip
    stages = tuple(
        stage("bottleneck", depth, width, 2, ratio=ratio, group_width=min(group, round(width * ratio)), se=se)
        for depth, width, ratio, group in zip(depths, widths, ratios, group_widths, strict=True)
    )
    return Arch(name, family, resolution, STEM, stages, HEAD, Style())


def regnet(name: str, depth: int, w0: float, wa: float, wm: float, group_width: int, se: float = 0.0,
           family: str = "regnet") -> Arch:  # fmt: skip
    """The AnyNet whose block j has the width w0 + wa * j, quantized.

    u_j = w0 + wa * j;  s_j = log(u_j / w0) / log(wm);  w_j = w0 * wm^round(s_j), to a multiple of 8, and then of
    the group width. Equal widths make a stage. Equations 2 to 4; bottleneck ratio 1.
    """
    if depth < 1 or w0 <= 0 or wa < 0 or wm <= 1 or group_width < 1:
        raise InputError(f"depth {depth}, w0 {w0}, wa {wa}, wm {wm}, group width {group_width}: "
                         "one block, w0 above 0, wa from 0, wm above 1 and a positive group are needed")  # fmt: skip
    powers = [round(math.log((w0 + wa * j) / w0, wm)) for j in range(depth)]
    quantized = [8 * round(w0 * wm**power / 8) for power in powers]
    widths = sorted(set(quantized))
    depths = tuple(quantized.count(w) for w in widths)
    groups = tuple(min(group_width, w) for w in widths)
    fitted = tuple(max(g, round(w / g) * g) for w, g in zip(widths, groups, strict=True))
    return anynet(name, depths, fitted, 1.0, groups, se, family=family)


ARCHS = (
    *(regnet(f"regnetx-{size}", *row, family="regnetx") for size, row in X_ROWS.items()),
    *(regnet(f"regnety-{size}", *row, se=0.25, family="regnety") for size, row in Y_ROWS.items()),
)
