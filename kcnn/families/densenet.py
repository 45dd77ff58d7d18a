"""DenseNet: Huang et al., 2017 (https://arxiv.org/abs/1608.06993), Table 1."""

from kcnn.arch import Arch, block, stage

HEAD = (block("norm"), block("average"), block("dropout"))
#    blocks of each stage, growth
ROWS = {
    121: ((6, 12, 24, 16), 32),
    161: ((6, 12, 36, 24), 48),
    169: ((6, 12, 32, 32), 32),
    201: ((6, 12, 48, 32), 32),
    264: ((6, 12, 64, 48), 32),
}


def densenet(layers: int, depths: tuple[int, ...], growth: int) -> Arch:
    stem = (block("conv", 2 * growth, 2, kernel=7), block("max_pool", stride=2, kernel=3))
    stages = tuple(stage("dense", depth, growth, min(i, 1) + 1) for i, depth in enumerate(depths))
    return Arch(f"densenet-{layers}", "densenet", 224, stem, stages, HEAD)


ARCHS = tuple(densenet(layers, *row) for layers, row in ROWS.items())
