"""An architecture is data: a stem, stages of blocks, a head, and the conventions they share."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kcnn.errors import InputError, shown

MOST_BLOCKS, MOST_CHANNELS, MOST_PIXELS = 1_500, 100_000, 2**16
LEAST, MOST = 1 / 16, 8  # of a multiplier
GROWTH = {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}  # EfficientNet's (https://arxiv.org/abs/1905.11946), Section 4
MULTIPLIED = {
    "width": "it multiplies the channels of every layer",
    "depth": "it multiplies the blocks of every stage",
    "resolution": "it multiplies the pixels; for images of 32 pixels use kcnn.build(..., resolution=32)",
}

# One width, a (nested) tuple of them for the branches of a block, Each, or None where the block follows from its input.
Width = Any


class Each(tuple[Any, ...]):
    """It holds a width or an option for each block of a stage. A scaled depth takes them at equal distances."""


@dataclass(frozen=True)
class Style:
    """A style is what all convolutions, normalizations and activations of a network have in common.

    padding: where a strided window starts: "same" as TensorFlow pads (the odd pixel goes to the bottom
        right), "symmetric" as Torch and Caffe do. Sizes and counts are the same, outputs are not. "end" pads at the
        bottom right alone, by half the window, as Keras's MobileNet and Torch's ceil mode do. A number pads every side
        by so many pixels, and "valid" none.
    norm: which normalization follows convolutions, if any.
    bias: whether convolutions have biases although a norm follows them; without a norm they always do.
    bare_bias: whether convolutions have biases whose readers normalize, as in Keras's ResNet V2.
    count_zeros: whether a mean pool counts the zeros that pad it, as Torch's does unless told otherwise.
    bn_epsilon: what either normalization adds to a variance. bn_momentum: the share of the old value that a moving
        statistic keeps in a step.
    mean, std: the mean and the deviation of the input's channels, in pixel values from 0 to 255.
    """

    padding: Literal["same", "symmetric", "end", "valid"] | int = "symmetric"
    norm: Literal["batch", "layer"] | None = "batch"
    bias: bool = False
    bare_bias: bool = False
    count_zeros: bool = False
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    activation: str = "relu"
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        known = {True: "batch", False: None, "batch": "batch", "layer": "layer", None: None}
        if self.norm not in known:
            raise ValueError(f"norm {shown(self.norm)}: batch, layer or none is needed")
        object.__setattr__(self, "norm", known[self.norm])  # older files of architectures say true or false


@dataclass(frozen=True)
class Stage:
    """A stage has `depth` blocks of one kind and width; the first of them has the stride.

    options: what no multiplier touches: kernels, ratios, groups. widen: how the width follows its multiplier; "grow"
    keeps it from falling below what it is at 1. deepen: whether the depth follows its multiplier.
    """

    block: str
    depth: int
    width: Width
    stride: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    widen: Literal["free", "grow", "fixed"] = "free"
    deepen: bool = True


def stage(
    block: str,
    depth: int,
    width: Width = None,
    stride: int = 1,
    *,
    widen: Any = "free",
    deepen: bool = True,
    **options: Any,
) -> Stage:
    """Returns a row of a family's table."""
    return Stage(block, depth, width, stride, options, widen, deepen)


def block(name: str, width: Width = None, stride: int = 1, *, widen: Any = "free", **options: Any) -> Stage:
    """Returns a row of a stem or a head, which is a single block."""
    return Stage(name, 1, width, stride, options, widen, deepen=False)


@dataclass(frozen=True)
class Aux:
    """An auxiliary head stands after `share` of the blocks of stage `stage` (from 1), in training only.

    head: its blocks. weight: what its loss is multiplied by before it is added to the main one's.
    """

    stage: int
    share: float
    weight: float
    head: tuple[Stage, ...]


@dataclass(frozen=True)
class Arch:
    """An architecture describes a network before it is built.

    resolution: the side of its square input in pixels. dropout, drop_path: the rates of the head's dropout and of
    stochastic depth at the last block. small: `stem="auto"` takes the strides out of the stem for inputs of so many
    pixels and less; 0 keeps them, for a network that was made for small images.
    """

    name: str
    family: str
    resolution: int
    stem: tuple[Stage, ...]
    stages: tuple[Stage, ...]
    head: tuple[Stage, ...]
    style: Style = Style()
    dropout: float = 0.0
    drop_path: float = 0.0
    aux: tuple[Aux, ...] = ()
    small: int = 64

    def _repr_html_(self) -> str:
        """The stages as a table, for notebooks."""
        from kcnn.terminal.tables import as_html

        rows = [
            [
                str(i),
                s.block,
                str(s.depth),
                str(s.width),
                str(s.stride),
                ", ".join(f"{k} {v}" for k, v in s.options.items()),
            ]
            for i, s in enumerate(self.stages, 1)
        ]
        heads = ("stage", "block", "depth", "width", "stride", "options")
        return as_html(f"{self.name} at {self.resolution} pixels", heads, rows)


def scale(arch: Arch, width: float = 1.0, depth: float = 1.0, resolution: float = 1.0) -> Arch:
    """Multiplies the network's widths, depths and resolution by 1/16 to 8; 1 changes nothing.

    Widths are rounded to multiples of 8 (and of what groups demand) and lose at most 10 % by it; depths are
    rounded up, the resolution to the nearest pixel: the rules of MobileNet and EfficientNet
    (https://arxiv.org/abs/1905.11946). Raises InputError for a multiplier that is not a number from 1/16 to 8, and
    for a network beyond `check_size`.
    """
    for what, by in (("width", width), ("depth", depth), ("resolution", resolution)):
        check_multiplier(what, by)
    return multiply(arch, width, depth, resolution)


def check_multiplier(what: str, by: Any) -> None:
    """Raises InputError for a multiplier of what is "width", "depth" or "resolution" that `scale` does not take."""
    if not (number(by) and LEAST <= by <= MOST):
        raise InputError(
            f"{what} multiplier {shown(by)}: a number from 1/16 to {MOST} is needed, and 1 leaves the {what} as it is; "
            f"{MULTIPLIED[what]}"
        )


def multiply(arch: Arch, width: float, depth: float, resolution: float) -> Arch:
    """Does what `scale` does, by any positive multipliers."""
    suffix = "".join(f"-{what}{by:g}" for what, by in (("w", width), ("d", depth), ("r", resolution)) if by != 1)
    scaled = replace(
        arch,
        name=arch.name + suffix,
        resolution=max(1, round(arch.resolution * resolution)),
        stem=scale_stages(arch.stem, width, 1),
        stages=scale_stages(arch.stages, width, depth),
        head=scale_stages(arch.head, width, 1),
        aux=tuple(replace(a, head=scale_stages(a.head, width, 1)) for a in arch.aux),
    )
    check_size(scaled)
    return scaled


def check_size(arch: Arch) -> None:
    """Counts blocks, channels and pixels. Raises InputError for more of them than anybody could mean."""
    rows = (*arch.stem, *arch.stages, *arch.head)
    sizes = {
        "blocks": (sum(s.depth for s in arch.stages), MOST_BLOCKS),
        "channels in a layer": (max((w for s in rows for w in channels(s.width)), default=0), MOST_CHANNELS),
        "pixels a side": (arch.resolution, MOST_PIXELS),
    }
    for what, (count, most) in sizes.items():
        if count > most:
            raise InputError(f"{arch.name} would have {count:,.0f} {what}: {most:,} are the most")


def channels(width: Width) -> Iterator[int]:
    """Yields the widths of a stage's layers, one after the other."""
    if isinstance(width, tuple):
        for part in width:
            yield from channels(part)
    elif width is not None:
        yield width


def compound(
    arch: Arch,
    phi: float,
    alpha: float = GROWTH["alpha"],
    beta: float = GROWTH["beta"],
    gamma: float = GROWTH["gamma"],
) -> Arch:
    """Scales to depth * alpha^phi, width * beta^phi, resolution * gamma^phi; at 0 nothing changes.

    With alpha * beta^2 * gamma^2 = 2, as by default, each step of phi doubles the multiply-adds.
    EfficientNet (https://arxiv.org/abs/1905.11946), Equation 3. Raises InputError for a multiplier beyond 1/1024 to
    1024, and for a network beyond `check_size`.
    """
    for what, value in (("phi", phi), ("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not (number(value) and (what == "phi" or value > 0)):
            raise InputError(f"{what} {shown(value)}: a {'' if what == 'phi' else 'positive '}number is needed")
    growths = {"width": beta, "depth": alpha, "resolution": gamma}
    for what, growth in growths.items():
        if abs(math.log(growth) * phi) > math.log(1024):
            raise InputError(
                f"phi {phi:g}: the {what} would be multiplied by {growth:g}^{phi:g}; 1/1024 to 1024 are the limits"
            )
    try:
        return multiply(arch, **{what: growth**phi for what, growth in growths.items()})
    except InputError as error:
        raise InputError(f"phi {phi:g}: {error}") from None


def number(value: Any) -> bool:
    """Tells whether a value is a number, neither infinite nor too large for a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def scale_stages(stages: tuple[Stage, ...], width: float, depth: float) -> tuple[Stage, ...]:
    return tuple(scale_stage(s, width, depth) for s in stages)


def scale_stage(s: Stage, width: float, depth: float) -> Stage:
    if s.widen == "fixed" or (s.widen == "grow" and width < 1):
        width = 1
    if not s.deepen:
        depth = 1
    # The small term undoes a product's rounding error: ten blocks times 1.1 are eleven, not twelve.
    return replace(s, width=scale_width(s.width, width, s), depth=math.ceil(s.depth * depth - 1e-9))


def scale_width(width: Width, by: float, s: Stage) -> Width:
    if width is None or by == 1:
        return width
    if isinstance(width, tuple):
        return type(width)(scale_width(w, by, s) for w in width)
    return round_width(width * by, quantum(s, width * by))


def round_width(width: float, multiple: int = 8) -> int:
    """Rounds to the nearest multiple above 0, and to the next one where that would lose more than 10 %."""
    rounded = max(multiple, int(width + multiple / 2) // multiple * multiple)
    return rounded if rounded >= 0.9 * width else rounded + multiple


def quantum(s: Stage, width: float = math.inf) -> int:
    """Returns what a stage's width must be a multiple of: 8, and whole groups in the block's inner convolution.

    Groups of a fixed width that would be wider than the whole become one group, and demand nothing.
    """
    groups, group_width, ratio = (s.options.get(key, 1) for key in ("groups", "group_width", "ratio"))
    if group_width > width * ratio:
        group_width = 1
    return math.lcm(8, math.ceil(max(groups, group_width) / ratio))


def pick(value: Any, block: int, depth: int) -> Any:
    """Returns a stage's width or option for one of its blocks, counted from 0."""
    return value[block * len(value) // depth] if isinstance(value, Each) else value
