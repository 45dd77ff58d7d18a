"""ResNet: He et al., 2015 (https://arxiv.org/abs/1512.03385), Table 1; v1.5, with the stride on the 3x3."""

from kcnn.arch import Arch, piece, stage

STEM = (piece("conv", 64, 2, kernel=7), piece("max_pool", stride=2, kernel=3))
HEAD = (piece("average"), piece("dropout"))
ROWS = {
    18: ("basic", (2, 2, 2, 2), (64, 128, 256, 512)),
    34: ("basic", (3, 4, 6, 3), (64, 128, 256, 512)),
    50: ("bottleneck", (3, 4, 6, 3), (256, 512, 1024, 2048)),
    101: ("bottleneck", (3, 4, 23, 3), (256, 512, 1024, 2048)),
    152: ("bottleneck", (3, 8, 36, 3), (256, 512, 1024, 2048)),
}
STRIDES = (1, 2, 2, 2)


def resnet(layers: int) -> Arch:
    block, depths, widths = ROWS[layers]
    stages = tuple(stage(block, *row) for row in zip(depths, widths, STRIDES, strict=True))
    return Arch(f"resnet-{layers}", "resnet", 224, STEM, stages, HEAD)


ARCHS = tuple(resnet(layers) for layers in ROWS)
