"""SqueezeNet: Iandola et al., 2016 (https://arxiv.org/abs/1602.07360), Table 1, and its authors' cheaper 1.1.

A fire module squeezes by a 1x1 convolution and expands by a 1x1 and a 3x3 that stand side by side. The classifier
stands on each place of the last map, and the logits are means over the places.
"""

from typing import Any

from kcnn.arch import Arch, Each, Stage, Style, block, stage

FIRE: dict[str, Any] = {"paths": ("1x1 1x1|3x3",), "padding": "end"}
#    stem's width and kernel, the widths of the squeezing convolutions, a stage each
ROWS = {
    "1.0": ((96, 7), ((16, 16, 32), (32, 48, 48, 64), (64,))),
    "1.1": ((64, 3), ((16, 16), (32, 32), (48, 48, 64, 64))),
}


def fires(squeezed: tuple[int, ...]) -> Stage:
    """Each convolution that expands has four times the width of the one that squeezes."""
    return stage("inception", len(squeezed), Each(((w, (4 * w, 4 * w)),) for w in squeezed), 2, **FIRE)


def squeezenet(version: str) -> Arch:
    (width, kernel), stages = ROWS[version]
    stem = (block("conv", width, 2, kernel=kernel, padding="valid"),)
    return Arch(
        f"squeezenet-{version}",
        "squeezenet",
        224,
        stem,
        tuple(fires(row) for row in stages),
        (block("dropout"),),
        Style(norm=None),
        dropout=0.5,
    )


ARCHS = tuple(squeezenet(version) for version in ROWS)
