"""The vocabulary: a block is a function from a tensor (batch, height, width, channels) to the next one.

Every block is called as block(scope, x, **options). The scope makes the block's layers and knows its row: `b.width` is
the width, `b.stride` the stride. Stages repeat a block; stems and heads are blocks in a row.
"""

from collections.abc import Callable
from typing import Any

from kcnn.arch import round_width
from kcnn.blocks.scope import Scope, Tensor

# Blocks of stages


def plain(b: Scope, x: Tensor, *, kernel: int = 3) -> Tensor:
    """f(x), f = [max-pool ->] conv."""
    if b.stride > 1:
        x = b.max_pool(x, b.stride, b.stride, "valid")
    return b.conv(x, b.width, kernel, 1, "conv")


def basic(b: Scope, x: Tensor, *, identity: bool = True) -> Tensor:
    """act(x + f(x)), f = 3x3 -> 3x3; act(f(x)) without the identity."""
    f = b.conv(x, b.width, 3, b.stride, "conv1")
    f = b.linear.conv(f, b.width, 3, 1, "conv2")
    return b.act(b.residual(b.shortcut(x, b.width, b.stride), f) if identity else f)


def bottleneck(
    b: Scope,
    x: Tensor,
    *,
    ratio: float = 0.25,
    groups: int = 1,
    group_width: int = 0,
    se: float = 0.0,
    stride_first: bool = False,
) -> Tensor:
    """act(x + f(x)), f = 1x1 to ratio * width -> 3x3 in groups -> SE -> 1x1.

    The 3x3 has the stride, or the first 1x1. Groups are given by their number (ResNeXt) or their width (RegNet),
    which no block exceeds. Squeeze-and-excite narrows to `se` of the block's input.
    """
    inner = round(b.width * ratio)
    if group_width:
        groups = inner // min(group_width, inner)
    f = b.conv(x, inner, 1, b.stride if stride_first else 1, "reduce")
    f = b.conv(f, inner, 3, 1 if stride_first else b.stride, "conv", groups)
    if se:
        f = b.squeeze_excite(f, max(1, round(x.shape[-1] * se)))
    f = b.linear.conv(f, b.width, 1, 1, "expand")
    return b.act(b.residual(b.shortcut(x, b.width, b.stride), f))


def preact_bottleneck(b: Scope, x: Tensor, *, ratio: float = 0.25, skip: bool = False) -> Tensor:
    """x + f(act(norm(x))), f = 1x1 to ratio * width -> 3x3 with the stride -> 1x1, where only these two are normalized.

    A shortcut that has to project starts from act(norm(x)) as well; where the width stays it takes every stride-th
    place of x instead, if it may (`skip`). He et al., 2016 (https://arxiv.org/abs/1603.05027).
    """
    inner = round(b.width * ratio)
    y = b.norm_act(x, "pre")
    if skip and b.stride > 1 and x.shape[-1] == b.width:
        x = b.max_pool(x, 1, b.stride, "valid", "shortcut")
    else:
        x = x if x.shape[-1] == b.width and b.stride == 1 else b.bare.shortcut(y, b.width, b.stride)
    f = b.conv(y, inner, 1, 1, "reduce")
    f = b.conv(f, inner, 3, b.stride, "conv")
    f = b.bare.conv(f, b.width, 1, 1, "expand")
    return b.residual(x, f)


def dense(b: Scope, x: Tensor, *, ratio: int = 4, keep: float = 0.5) -> Tensor:
    """[x, f(x)] joined, f = norm -> act -> 1x1 to ratio * width -> norm -> act -> 3x3 to width, the growth rate.

    With a stride the transition goes first: norm -> act -> 1x1 that keeps half of the channels -> mean of 2x2.
    """
    if b.stride > 1:
        x = b.norm_act(x, "transition_pre")
        x = b.bare.conv(x, int(x.shape[-1] * keep), 1, 1, "transition")
        x = b.mean_pool(x, b.stride, b.stride, "valid", "transition_pool")
    f = b.norm_act(x, "pre")
    f = b.conv(f, ratio * b.width, 1, 1, "reduce")
    f = b.bare.conv(f, b.width, 3, 1, "conv")
    return b.join([x, f])


def inverted(
    b: Scope,
    x: Tensor,
    *,
    kernel: int = 3,
    expand: float = 6,
    se: float = 0.0,
    se_expanded: float = 0.0,
    gate: str = "sigmoid",
    act: str | bool = True,
    linear: bool = True,
) -> Tensor:
    """x + f(x) where shapes agree, else f(x), f = 1x1 to expand * channels -> depthwise -> SE -> linear 1x1, or, for
    the paper's control, one with an activation.

    MobileNetV2 (https://arxiv.org/abs/1801.04381). Squeeze-and-excite narrows to `se` of the block's input, or, with
    a ReLU, to `se_expanded` of the expanded width (MobileNetV3).
    """
    inner = round_width(x.shape[-1] * expand) if expand != 1 else x.shape[-1]
    f = b.acting(act).conv(x, inner, 1, 1, "expand") if expand != 1 else x
    f = b.acting(act).depthwise(f, kernel, b.stride, "depthwise")
    if se:
        f = b.squeeze_excite(f, max(1, int(x.shape[-1] * se)), gate)
    if se_expanded:
        f = b.acting("relu").squeeze_excite(f, round_width(inner * se_expanded), gate)
    f = (b.linear if linear else b.acting(act)).conv(f, b.width, 1, 1, "project")
    return b.residual(x, f) if b.stride == 1 and x.shape[-1] == b.width else f


def separable(
    b: Scope, x: Tensor, *, act: str | bool = True, between: bool = True, padding: str | None = None
) -> Tensor:
    """f(x), f = depthwise 3x3 -> 1x1. MobileNet (https://arxiv.org/abs/1704.04861).

    Norm and activation follow both (`between`), or the second alone.
    """
    b = b.but(padding=padding or b.style.padding)
    x = (b if between else b.bare).depthwise(x, 3, b.stride, "depthwise")
    return b.acting(act).conv(x, b.width, 1, 1, "pointwise")


def extreme(b: Scope, x: Tensor) -> Tensor:
    """x + f(x), f = (act -> separable 3x3) for each width [-> max-pool]. Xception."""
    f = x
    for i, w in enumerate(b.width, 1):
        f = b.act(f, f"in{i}")
        f = separable(b.inner(f"sep{i}", w), f, act=False, between=False)
    if b.stride > 1:  # what it pools has values below zero: the padding must not be zeros
        signed = b.style.padding == "symmetric"
        f = max_pool(b, f, signed=True) if signed else b.max_pool(f, 3, b.stride, "same")
    return b.residual(b.shortcut(x, b.width[-1], b.stride), f)


def inception(b: Scope, x: Tensor, *, paths: tuple[str, ...], padding: str | None = "same", pool: int = 3) -> Tensor:
    """Joins paths that stand side by side. A path is a line of steps, as in the paper's figures: "1x1 1x7 7x1".

    A step HxW is a convolution, which takes the next of the path's widths; avg and max are 3x3 pools; 1x3|3x1 are two
    ends of the path. A step that ends in /s has the block's stride and `padding`; where none does, a max-pool in front
    has them, with windows of `pool`.
    """
    if b.stride > 1 and not any("/s" in path for path in paths):
        x = max_pool(b, x, kernel=pool, padding=padding)
    return b.join(branches(b, x, paths, padding or b.style.padding))


def inception_residual(b: Scope, x: Tensor, *, paths: tuple[str, ...], share: float, act: bool = True) -> Tensor:
    """act(x + share * f(x)), f = paths as in `inception` -> linear 1x1. Inception-ResNet."""
    f = b.join(branches(b, x, paths, "same"))
    f = b.linear.but(norm=False, bias=True).conv(f, x.shape[-1], 1, 1, "expand")
    f = b.layers.Rescaling(share, name=b.at("share"))(f)
    return b.acting(act).act(b.residual(x, f))


def branches(b: Scope, x: Tensor, paths: tuple[str, ...], padding: str) -> list[Tensor]:
    """Returns what the paths make of x: one tensor for each of their ends."""
    ends = []
    for i, (path, w) in enumerate(zip(paths, b.width, strict=True), 1):
        widths = iter(w if isinstance(w, tuple) else (w,))
        heads = [x]
        for j, step in enumerate(path.split(), 1):
            kind, at_stride = step.removesuffix("/s"), step.endswith("/s")
            by, around = (b.stride, padding) if at_stride else (1, "same")
            label = f"path{i}_{j}"
            if kind == "max":
                heads = [b.max_pool(h, 3, by, around, f"{label}_pool") for h in heads]
            elif kind == "avg":
                heads = [b.mean_pool(h, 3, by, around, f"{label}_pool") for h in heads]
            else:
                kernels = [tuple(int(k) for k in kernel.split("x")) for kernel in kind.split("|")]
                here = next(widths)
                here = here if isinstance(here, tuple) else (here,)
                letters = "ab" if len(here) > 1 else ("",)
                (h,) = heads
                heads = [
                    b.but(padding=around).conv(h, out, kernel, by, f"{label}{letter}")
                    for out, kernel, letter in zip(here, kernels, letters, strict=True)
                ]
        ends += heads
    return ends


# Blocks of stems and heads


def conv(b: Scope, x: Tensor, *, kernel: int = 1, padding: str | None = None, raw: bool = False) -> Tensor:
    """act(norm(convolution)), or the convolution alone where its readers normalize (`raw`)."""
    b = b.but(padding=padding or b.style.padding)
    return (b.bare if raw else b).conv(x, b.width, kernel, b.stride)


def separable_layer(b: Scope, x: Tensor) -> Tensor:
    """act(norm(depthwise 3x3 -> 1x1))."""
    return separable(b, x, between=False)


def max_pool(b: Scope, x: Tensor, *, kernel: int = 3, padding: str | None = None, signed: bool = False) -> Tensor:
    """Takes the largest value of each window. Zeros pad the image, as it follows an activation that has none below.

    signed: the image has values below 0, so nothing may pad it: all windows are taken, then every `stride`-th of them.
    """
    if signed:
        x = b.max_pool(x, kernel, 1, "same", "window")
        return b.max_pool(x, 1, b.stride, "valid")
    padding = padding or b.style.padding
    padding = padding if kernel > b.stride or padding == "end" else "valid"
    x, padding = b.but(padding=padding).pad(x, kernel, b.stride, "pool")
    return b.max_pool(x, kernel, b.stride, padding)


def norm(b: Scope, x: Tensor) -> Tensor:
    """act(norm(x))."""
    return b.norm_act(x)


def local_norm(b: Scope, x: Tensor) -> Tensor:
    """Normalizes each value by its neighbours among the channels."""
    return b.layers.ResponseNormalization(name=b.at())(x)


def average(b: Scope, x: Tensor) -> Tensor:
    """(batch, height, width, channels) -> (batch, channels)."""
    return b.layers.GlobalAveragePooling2D(name=b.at())(x)


def tiles(b: Scope, x: Tensor, *, kernel: int = 5) -> Tensor:
    """Takes the mean of each window, which is no larger than the image."""
    return b.mean_pool(x, min(kernel, x.shape[1]), b.stride, "valid")


def reach(b: Scope, x: Tensor, *, kernel: int = 5) -> Tensor:
    """act(norm(convolution)) without padding, by a kernel no larger than the image."""
    return b.but(padding="valid").conv(x, b.width, min(kernel, x.shape[1]), b.stride)


def flatten(b: Scope, x: Tensor) -> Tensor:
    """(batch, height, width, channels) -> (batch, height * width * channels)."""
    return b.layers.Flatten(name=b.at())(x)


def dense_layer(b: Scope, x: Tensor) -> Tensor:
    """act(x W + b) on a vector."""
    return b.act(b.layers.Dense(b.width, kernel_initializer="he_normal", name=b.at())(x))


def dropout(b: Scope, x: Tensor, *, rate: float | None = None) -> Tensor:
    """Drops values at random in training, at a rate of its own or the network's. Srivastava et al., 2014."""
    rate = b.drop if rate is None else rate
    return b.layers.Dropout(rate, name=b.at())(x) if rate else x


Block = Callable[..., Any]
BLOCKS: dict[str, Block] = {
    block.__name__: block
    for block in (
        *(plain, basic, bottleneck, preact_bottleneck, dense, inverted, separable, extreme, inception),
        *(inception_residual, conv, separable_layer, max_pool, norm, local_norm, average, tiles, reach, flatten),
        *(dense_layer, dropout),
    )
}
