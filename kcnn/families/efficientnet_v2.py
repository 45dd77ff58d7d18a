"""EfficientNetV2: Tan and Le, 2021 (https://arxiv.org/abs/2104.00298), Table 4; M, L, XL and B0 to B3 are those of the
authors' code (https://github.com/google/automl/tree/master/efficientnetv2).

The resolution is that of the last stage of training; they evaluate at more pixels. B1 to B3 are B0 scaled, with
widths rounded to the nearest multiple of 8.
"""

import math
from typing import Any

from kcnn.arch import Arch, Style, block, stage

SE: dict[str, Any] = {"se": 0.25}
HALF: dict[str, Any] = {"mean": (127.5,) * 3, "std": (127.5,) * 3}
# A stage each: expand, width, depth, stride. The first three are fused.
B0 = ((1, 16, 1, 1), (4, 32, 2, 2), (4, 48, 2, 2), (4, 96, 3, 2), (6, 112, 5, 1), (6, 192, 8, 2))
S = ((1, 24, 2, 1), (4, 48, 4, 2), (4, 64, 4, 2), (4, 128, 6, 2), (6, 160, 9, 1), (6, 256, 15, 2))
M = ((1, 24, 3, 1), (4, 48, 5, 2), (4, 80, 5, 2), (4, 160, 7, 2), (6, 176, 14, 1), (6, 304, 18, 2), (6, 512, 5, 1))
L = ((1, 32, 4, 1), (4, 64, 7, 2), (4, 96, 7, 2), (4, 192, 10, 2), (6, 224, 19, 1), (6, 384, 25, 2), (6, 640, 7, 1))
XL = ((1, 32, 4, 1), (4, 64, 8, 2), (4, 96, 8, 2), (4, 192, 16, 2), (6, 256, 24, 1), (6, 512, 32, 2), (6, 640, 8, 1))
#      rows, width, depth, stem, resolution, dropout
SIZES: dict[str, tuple] = {
    "b0": (B0, 1.0, 1.0, 32, 192, 0.2),
    "b1": (B0, 1.0, 1.1, 32, 192, 0.2),
    "b2": (B0, 1.1, 1.2, 32, 208, 0.3),
    "b3": (B0, 1.2, 1.4, 32, 240, 0.3),
    "s": (S, 1.0, 1.0, 24, 300, 0.2),
    "m": (M, 1.0, 1.0, 24, 384, 0.3),
    "l": (L, 1.0, 1.0, 32, 384, 0.4),
    "xl": (XL, 1.0, 1.0, 32, 384, 0.4),
}


def efficientnet_v2(size: str) -> Arch:
    rows, width, depth, stem, resolution, dropout = SIZES[size]

    def by(channels: int) -> int:
        return int(channels * width + 4) // 8 * 8

    stages = tuple(
        stage("fused" if i < 3 else "inverted", math.ceil(n * depth), by(c), s, expand=t, **({} if i < 3 else SE))
        for i, (t, c, n, s) in enumerate(rows)
    )
    head = (block("conv", by(1280), kernel=1), block("average"), block("dropout"))
    style = Style(padding="same", bn_epsilon=1e-3, activation="silu", **({} if size[0] == "b" else HALF))
    return Arch(f"efficientnet-v2-{size}", "efficientnet-v2", resolution, (block("conv", by(stem), 2, kernel=3),),
                stages, head, style, dropout=dropout, drop_path=0.2)  # fmt: skip


ARCHS = tuple(efficientnet_v2(size) for size in SIZES)
