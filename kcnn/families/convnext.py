"""ConvNeXt: Liu et al., 2022 (https://arxiv.org/abs/2201.03545), Section 3; ConvNeXt V2: Woo et al., 2023
(https://arxiv.org/abs/2301.00808), Section 4 and appendix A, with a response normalization instead of layer scale.
"""

from typing import Any

from kcnn.arch import Arch, Style, block, stage

STYLE = Style(norm="layer", bias=True, bn_epsilon=1e-6, activation="gelu")
HEAD = (block("average"), block("norm", act=False), block("dropout"))
#     width of the first stage, depths, stochastic depth
ROWS = {
    "tiny": (96, (3, 3, 9, 3), 0.1),
    "small": (96, (3, 3, 27, 3), 0.4),
    "base": (128, (3, 3, 27, 3), 0.5),
    "large": (192, (3, 3, 27, 3), 0.5),
    "xlarge": (256, (3, 3, 27, 3), 0.5),
}
V2_ROWS = {
    "atto": (40, (2, 2, 6, 2), 0.1),
    "femto": (48, (2, 2, 6, 2), 0.1),
    "pico": (64, (2, 2, 6, 2), 0.1),
    "nano": (80, (2, 2, 8, 2), 0.1),
    "tiny": (96, (3, 3, 9, 3), 0.1),
    "base": (128, (3, 3, 27, 3), 0.1),
    "large": (192, (3, 3, 27, 3), 0.1),
    "huge": (352, (3, 3, 27, 3), 0.1),
}


def convnext(name: str, family: str, width: int, depths: tuple[int, ...], drop_path: float, **options: Any) -> Arch:
    stem = (block("conv", width, 4, kernel=4, padding="valid", act=False),)
    stages = tuple(stage("convnext", d, width * 2**i, min(i, 1) + 1, **options) for i, d in enumerate(depths))
    return Arch(name, family, 224, stem, stages, HEAD, STYLE, drop_path=drop_path)


ARCHS = (
    *(convnext(f"convnext-{size}", "convnext", *row) for size, row in ROWS.items()),
    *(convnext(f"convnext-v2-{size}", "convnext-v2", *row, scale=0.0, response=True) for size, row in V2_ROWS.items()),
)
