"""ResNet and its kin, in the rows of He et al., 2015 (https://arxiv.org/abs/1512.03385), Table 1.

ResNet has the stride on the 3x3 (v1.5); v1 on the first 1x1, as in the paper; v2 is pre-activated: He et al., 2016
(https://arxiv.org/abs/1603.05027). Plain networks have no identities: the paper's control.
Wide ResNet: Zagoruyko and Komodakis, 2016 (https://arxiv.org/abs/1605.07146). ResNeXt: Xie et al., 2017
(https://arxiv.org/abs/1611.05431). SE-ResNet: Hu et al., 2018 (https://arxiv.org/abs/1709.01507). ResNet-D: He et al.,
2019 (https://arxiv.org/abs/1812.01187), Section 4.
"""

from dataclasses import replace
from typing import Any

from kcnn.arch import Arch, block, stage

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BASIC, BOTTLENECK = (64, 128, 256, 512), (256, 512, 1024, 2048)
STRIDES = (1, 2, 2, 2)
STEM = (block("conv", 64, 2, kernel=7), block("max_pool", stride=2, kernel=3))
RAW_STEM = (block("conv", 64, 2, kernel=7, raw=True), block("max_pool", stride=2, kernel=3, signed=True))
DEEP_STEM = (block("conv", 32, 2, kernel=3), block("conv", 32, kernel=3), block("conv", 64, kernel=3), STEM[-1])
HEAD = (block("average"), block("dropout"))


def resnet(name: str, family: str, layers: int, kind: str = "bottleneck", **options: Any) -> Arch:
    widths = BASIC if kind == "basic" else BOTTLENECK
    rows = zip(DEPTHS[layers], widths, STRIDES, strict=True)
    stem, head = (RAW_STEM, (block("norm"), *HEAD)) if kind == "preact_bottleneck" else (STEM, HEAD)
    return Arch(name, family, 224, stem, tuple(stage(kind, *row, **options) for row in rows), head)


def resnext(layers: int, groups: int, group_width: int) -> Arch:
    """The inner width of the first stage is groups * group_width."""
    ratio = groups * group_width / BOTTLENECK[0]
    return resnet(f"resnext-{layers}-{groups}x{group_width}d", "resnext", layers, ratio=ratio, groups=groups)


ARCHS = (
    *(resnet(f"resnet-{n}", "resnet", n, "basic") for n in (18, 34)),
    *(resnet(f"resnet-{n}", "resnet", n) for n in (50, 101, 152)),
    *(resnet(f"resnet-{n}-v1", "resnet-v1", n, stride_first=True) for n in (50, 101, 152)),
    *(resnet(f"resnet-{n}-v2", "resnet-v2", n, "preact_bottleneck") for n in (50, 101, 152)),
    *(resnet(f"plain-{n}", "plain", n, "basic", identity=False) for n in (18, 34)),
    *(resnet(f"wide-resnet-{n}-2", "wide-resnet", n, ratio=0.5) for n in (50, 101)),
    *(resnext(*row) for row in ((50, 32, 4), (101, 32, 8), (101, 64, 4))),
    *(resnet(f"se-resnet-{n}", "se-resnet", n, se_last=1 / 16) for n in (50, 101, 152)),
    *(replace(resnet(f"resnet-{n}-d", "resnet-d", n, mean_shortcut=True), stem=DEEP_STEM) for n in (50, 101, 152)),
)
