"""GhostNet: Han et al., 2020 (https://arxiv.org/abs/1911.11907), Table 1.

The authors round widths to multiples of 4, and keep the 1280 channels of the head.
"""

from kcnn.arch import Arch, Each, Stage, block, round_width, stage

# A stage each: kernel, stride, and (inner width, width, squeeze-and-excite) of each block.
ROWS: tuple = (
    (3, 1, ((16, 16, 0),)),
    (3, 2, ((48, 24, 0),)),
    (3, 1, ((72, 24, 0),)),
    (5, 2, ((72, 40, 0.25),)),
    (5, 1, ((120, 40, 0.25),)),
    (3, 2, ((240, 80, 0),)),
    (3, 1, ((200, 80, 0), (184, 80, 0), (184, 80, 0), (480, 112, 0.25), (672, 112, 0.25))),
    (5, 2, ((672, 160, 0.25),)),
    (5, 1, ((960, 160, 0), (960, 160, 0.25), (960, 160, 0), (960, 160, 0.25))),
)


def ghostnet(width: float) -> Arch:
    def by(channels: int) -> int:
        return round_width(channels * width, 4)

    def row(kernel: int, stride: int, blocks: tuple) -> Stage:
        widths, se = Each((by(inner), by(outer)) for inner, outer, _ in blocks), Each(se for *_, se in blocks)
        return stage("ghost", len(blocks), widths, stride, kernel=kernel, se=se)

    head = (
        block("conv", by(960), kernel=1),
        block("average", keep=True),
        block("conv", 1280, kernel=1, norm=False, widen="fixed"),
        block("flatten"),
        block("dropout"),
    )
    stem = (block("conv", by(16), 2, kernel=3),)
    return Arch(f"ghostnet-{width}", "ghostnet", 224, stem, tuple(row(*r) for r in ROWS), head, dropout=0.2)


ARCHS = tuple(ghostnet(width) for width in (0.5, 1.0, 1.3))
