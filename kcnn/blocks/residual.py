"""Blocks of plain, residual and dense networks: convolutions in a row, and what goes past them."""

from kcnn.arch import round_width
from kcnn.blocks.scope import Scope, Tensor


def plain(b: Scope, x: Tensor, *, kernel: int = 3, pool: int = 2) -> Tensor:
    """f(x), f = [max-pool ->] conv. A stride is the pool's, whose windows have `pool` pixels a side; with a pool of 0
    there is none, and the stride is the convolution's."""
    if b.stride > 1 and pool:
        x = b.max_pool(x, pool, b.stride, "valid")
    return b.conv(x, b.width, kernel, 1 if pool else b.stride, "conv")


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
    se_last: float = 0.0,
    stride_first: bool = False,
    mean_shortcut: bool = False,
) -> Tensor:
    """act(x + f(x)), f = 1x1 to ratio * width -> 3x3 in groups -> SE -> 1x1 -> SE.

    The 3x3 has the stride, or the first 1x1. Groups are given by their number (ResNeXt) or their width (RegNet),
    which no block exceeds. Squeeze-and-excite narrows to `se` of the block's input, or, where it stands last
    (SENet), to `se_last` of the block's width. A shortcut with a stride may take means first (ResNet-D).
    """
    inner = round(b.width * ratio)
    if group_width:
        groups = inner // min(group_width, inner)
    f = b.conv(x, inner, 1, b.stride if stride_first else 1, "reduce")
    f = b.conv(f, inner, 3, 1 if stride_first else b.stride, "conv", groups)
    if se:
        f = b.squeeze_excite(f, max(1, round(x.shape[-1] * se)))
    f = b.linear.conv(f, b.width, 1, 1, "expand")
    if se_last:
        f = b.squeeze_excite(f, round_width(b.width * se_last))
    return b.act(b.residual(b.shortcut(x, b.width, b.stride, mean_shortcut), f))


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


def rep(b: Scope, x: Tensor, *, merged: bool = False) -> Tensor:
    """act(3x3(x) + 1x1(x) + norm(x)), the last one where the shape stays; one 3x3 with a bias when they are `merged`.

    RepVGG: Ding et al., 2021 (https://arxiv.org/abs/2101.03697). All are linear, so one convolution does the same.
    """
    if merged:
        return b.but(norm=None, bias=True).conv(x, b.width, 3, b.stride, "conv")
    parts = [b.linear.conv(x, b.width, 3, b.stride, "conv"), b.linear.conv(x, b.width, 1, b.stride, "point")]
    if b.stride == 1 and x.shape[-1] == b.width:
        parts.append(b.linear.norm_act(x, "identity"))
    return b.act(b.layers.Add(name=b.at("add"))(parts))


def convnext(
    b: Scope, x: Tensor, *, kernel: int = 7, expand: int = 4, scale: float = 1e-6, response: bool = False
) -> Tensor:
    """x + s * f(x), f = norm(depthwise 7x7) -> 1x1 to expand * width -> act [-> response norm] -> 1x1.

    With a stride norm -> convolution of its size goes first. s is one number a channel, which training starts at
    `scale`; at 0 there is none. ConvNeXt: Liu et al., 2022 (https://arxiv.org/abs/2201.03545); the response norm is
    version 2's: Woo et al., 2023 (https://arxiv.org/abs/2301.00808).
    """
    bare = b.but(norm=None)
    if b.stride > 1:
        x = b.linear.norm_act(x, "down_pre")
        x = bare.linear.but(padding="valid").conv(x, b.width, b.stride, b.stride, "down")
    f = b.linear.depthwise(x, kernel, 1, "depthwise")
    f = bare.conv(f, expand * b.width, 1, 1, "expand")
    if response:
        f = b.layers.GlobalResponseNormalization(name=b.at("response"))(f)
    f = bare.linear.conv(f, b.width, 1, 1, "project")
    if scale:
        f = b.layers.LayerScale(scale, name=b.at("scale"))(f)
    return b.residual(x, f)
