"""AnyNet: the free form of RegNet. Radosavovic et al., 2020 (https://arxiv.org/abs/2003.13678), Section 3.2."""

from kcnn.arch import MOST_BLOCKS, MOST_CHANNELS, Arch, Style, block, stage
from kcnn.errors import InputError

MOST_STAGES = 16  # each of them halves the image
STEM = (block("conv", 32, 2, kernel=3),)
HEAD = (block("average"), block("dropout"))


def anynet(
    name: str,
    depths: tuple[int, ...],
    widths: tuple[int, ...],
    ratios: tuple[float, ...] | float = 1.0,
    group_widths: tuple[int, ...] | int = 8,
    se: float = 0.0,
    family: str = "anynet",
) -> Arch:
    """Returns stages of bottlenecks, each of which halves the image.

    ratios: of a block's inner to its outer width; these and the group widths are given for each stage, or once for
    all. se: squeeze-and-excite narrows to this share of a block's input. Raises InputError for rows of unequal
    length, and for groups that do not divide an inner width.
    """
    count = len(depths)
    ratios = ratios if isinstance(ratios, tuple) else (ratios,) * count
    group_widths = group_widths if isinstance(group_widths, tuple) else (group_widths,) * count
    lengths = {"depths": count, "widths": len(widths), "ratios": len(ratios), "group widths": len(group_widths)}
    if count > MOST_STAGES:
        raise InputError(f"{count} stages: at most {MOST_STAGES} are possible, as each of them halves the image")
    if len(set(lengths.values())) > 1 or not count:
        got = ", ".join(f"{n} {what}" for what, n in lengths.items())
        raise InputError(f"{got}: as many of each are needed as there are stages")
    for depth, width, ratio, group in zip(depths, widths, ratios, group_widths, strict=True):
        if min(depth, width, ratio, group) <= 0 or sum(depths) > MOST_BLOCKS or width > MOST_CHANNELS:
            raise InputError(
                f"depth {depth}, width {width:g}, ratio {ratio:g}, group width {group:g}: above 0 is needed, "
                f"and at most {MOST_BLOCKS:,} blocks and {MOST_CHANNELS:,} channels"
            )
        if round(width * ratio) % min(group, round(width * ratio) or 1):
            raise InputError(
                f"group width {group} does not divide the inner width {round(width * ratio)} "
                f"(width {width}, ratio {ratio})"
            )
    stages = tuple(
        stage("bottleneck", depth, width, 2, ratio=ratio, group_width=min(group, round(width * ratio)), se=se)
        for depth, width, ratio, group in zip(depths, widths, ratios, group_widths, strict=True)
    )
    return Arch(name, family, 224, STEM, stages, HEAD, Style())
