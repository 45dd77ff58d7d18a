"""ShuffleNetV2: Ma et al., 2018 (https://arxiv.org/abs/1807.11164), Table 5."""

from kcnn.arch import Arch, block, stage

DEPTHS = (4, 8, 4)
#         widths of the stages, of the head
ROWS = {
    "0.5": ((48, 96, 192), 1024),
    "1.0": ((116, 232, 464), 1024),
    "1.5": ((176, 352, 704), 1024),
    "2.0": ((244, 488, 976), 2048),
}


def shufflenet(size: str) -> Arch:
    widths, head = ROWS[size]
    return Arch(
        f"shufflenet-v2-{size}",
        "shufflenet-v2",
        224,
        (block("conv", 24, 2, kernel=3), block("max_pool", stride=2, kernel=3)),
        tuple(stage("shuffle", depth, width, 2) for depth, width in zip(DEPTHS, widths, strict=True)),
        (block("conv", head, kernel=1), block("average"), block("dropout")),
    )


ARCHS = tuple(shufflenet(size) for size in ROWS)
