"""MobileNetV4, the convolutional ones: Qin et al., 2024 (https://arxiv.org/abs/2404.10518), Tables in appendix D."""

from kcnn.arch import Arch, Each, Stage, Style, block, stage

STYLE = Style(padding="same", bn_epsilon=1e-3, bn_momentum=0.99)
# A stage each: width, and (kernel in front, kernel between, expand) of each block; 0 for a convolution that is missing.
SMALL: tuple = (
    (96, ((5, 5, 3), (0, 3, 2), (0, 3, 2), (0, 3, 2), (0, 3, 2), (3, 0, 4))),
    (128, ((3, 3, 6), (5, 5, 4), (0, 5, 4), (0, 5, 3), (0, 3, 4), (0, 3, 4))),
)
MEDIUM: tuple = (
    (80, ((3, 5, 4), (3, 3, 2))),
    (160, ((3, 5, 6), (3, 3, 4), (3, 3, 4), (3, 5, 4), (3, 3, 4), (3, 0, 4), (0, 0, 2), (3, 0, 4))),
    (256, ((5, 5, 6), (5, 5, 4), (3, 5, 4), (3, 5, 4), (0, 0, 4), (3, 0, 4), (3, 5, 2), (5, 5, 4), (0, 0, 4), (0, 0, 4),
           (5, 0, 2))),
)  # fmt: skip
LARGE: tuple = (
    (96, ((3, 5, 4), (3, 3, 4))),
    (192, ((3, 5, 4), *[(3, 3, 4)] * 3, (3, 5, 4), *[(5, 3, 4)] * 5, (3, 0, 4))),
    (512, (*[(5, 5, 4)] * 4, (5, 0, 4), (5, 3, 4), *[(5, 0, 4)] * 2, (5, 3, 4), (5, 5, 4), *[(5, 0, 4)] * 3)),
)
SMALL_START = (
    stage("plain", 2, 32, 2, kernel=Each((3, 1)), pool=0),
    stage("plain", 2, Each((96, 64)), 2, kernel=Each((3, 1)), pool=0),
)
START = (stage("fused", 1, 48, 2),)
#      stem, first stages, rows, resolution
SIZES: dict[str, tuple] = {
    "small": (32, SMALL_START, SMALL, 224),
    "medium": (32, START, MEDIUM, 256),
    "large": (24, START, LARGE, 384),
}
HEAD = (
    block("conv", 960, kernel=1),
    block("average", keep=True),
    block("conv", 1280, kernel=1),
    block("flatten"),
    block("dropout"),
)


def universal(width: int, blocks: tuple) -> Stage:
    start, kernel, expand = (Each(values) for values in zip(*blocks, strict=True))
    return stage("inverted", len(blocks), width, 2, start=start, kernel=kernel, expand=expand)


def mobilenet_v4(size: str) -> Arch:
    stem, first, rows, resolution = SIZES[size]
    stages = (*first, *(universal(*row) for row in rows))
    stem_rows = (block("conv", stem, 2, kernel=3),)
    return Arch(f"mobilenet-v4-conv-{size}", "mobilenet-v4", resolution, stem_rows, stages, HEAD, STYLE, dropout=0.2)


ARCHS = tuple(mobilenet_v4(size) for size in SIZES)
