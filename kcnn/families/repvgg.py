"""RepVGG: Ding et al., 2021 (https://arxiv.org/abs/2101.03697), Tables 2 and 3: as it is trained, with three branches.

`merged` gives it as it is exported, a plain row of 3x3 convolutions: the same function.
"""

from dataclasses import replace

from kcnn.arch import Arch, Stage, block, stage

WIDTHS = (64, 128, 256, 512)
DEPTHS = {"a": (2, 4, 14, 1), "b": (4, 6, 16, 1)}
#     multipliers of the widths: of the first three stages, of the last
ROWS = {
    "a0": (0.75, 2.5),
    "a1": (1, 2.5),
    "a2": (1.5, 2.75),
    "b0": (1, 2.5),
    "b1": (2, 4),
    "b2": (2.5, 5),
    "b3": (3, 5),
}


def repvgg(size: str) -> Arch:
    a, b = ROWS[size]
    rows = zip(DEPTHS[size[0]], WIDTHS, (a, a, a, b), strict=True)
    stages = tuple(stage("rep", depth, int(width * by), 2) for depth, width, by in rows)
    stem = (block("rep", min(64, int(64 * a)), 2),)
    return Arch(f"repvgg-{size}", "repvgg", 224, stem, stages, (block("average"), block("dropout")))


def merged(arch: Arch) -> Arch:
    """Returns the architecture with one convolution in each block of three branches; any without such, as it is."""

    def one(rows: tuple[Stage, ...]) -> tuple[Stage, ...]:
        return tuple(replace(s, options={**s.options, "merged": True}) if s.block == "rep" else s for s in rows)

    return replace(arch, stem=one(arch.stem), stages=one(arch.stages))


ARCHS = tuple(repvgg(size) for size in ROWS)
