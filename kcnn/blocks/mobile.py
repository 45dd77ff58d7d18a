"""Blocks of light networks, most of whose places are seen by depthwise convolutions."""

from kcnn.arch import round_width
from kcnn.blocks.ends import max_pool
from kcnn.blocks.scope import Scope, Tensor


def inverted(
    b: Scope,
    x: Tensor,
    *,
    kernel: int = 3,
    start: int = 0,
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
    a ReLU, to `se_expanded` of the expanded width (MobileNetV3). A linear depthwise convolution may stand in front,
    with a kernel of `start`, and a `kernel` of 0 leaves out the one between: the universal block of MobileNetV4
    (https://arxiv.org/abs/2404.10518).
    """
    f = b.linear.depthwise(x, start, 1 if kernel else b.stride, "start") if start else x
    inner = round_width(x.shape[-1] * expand) if expand != 1 else x.shape[-1]
    f = b.acting(act).conv(f, inner, 1, 1, "expand") if expand != 1 else f
    if kernel:
        f = b.acting(act).depthwise(f, kernel, b.stride, "depthwise")
    if se:
        f = b.squeeze_excite(f, max(1, int(x.shape[-1] * se)), gate)
    if se_expanded:
        f = b.acting("relu").squeeze_excite(f, round_width(inner * se_expanded), gate)
    f = (b.linear if linear else b.acting(act)).conv(f, b.width, 1, 1, "project")
    return b.residual(x, f) if b.stride == 1 and x.shape[-1] == b.width else f


def fused(b: Scope, x: Tensor, *, kernel: int = 3, expand: float = 4) -> Tensor:
    """x + f(x) where shapes agree, else f(x), f = 3x3 to expand * channels -> linear 1x1, or one 3x3 without expansion.

    EfficientNetV2: Tan and Le, 2021 (https://arxiv.org/abs/2104.00298): the inverted bottleneck with its first two
    convolutions as one.
    """
    if expand == 1:
        f = b.conv(x, b.width, kernel, b.stride, "project")
    else:
        f = b.conv(x, round_width(x.shape[-1] * expand), kernel, b.stride, "expand")
        f = b.linear.conv(f, b.width, 1, 1, "project")
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


def separable_layer(b: Scope, x: Tensor) -> Tensor:
    """act(norm(depthwise 3x3 -> 1x1))."""
    return separable(b, x, between=False)


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


def shuffle(b: Scope, x: Tensor) -> Tensor:
    """[x1, f(x2)] joined and shuffled, x1 and x2 the halves of x, f = 1x1 -> linear depthwise 3x3 -> 1x1.

    With a stride it is [g(x), f(x)], g = linear depthwise 3x3 -> 1x1. ShuffleNetV2: Ma et al., 2018
    (https://arxiv.org/abs/1807.11164).
    """
    half = b.width // 2
    if b.stride > 1:
        left = b.linear.depthwise(x, 3, b.stride, "left_depthwise")
        left, right = b.conv(left, half, 1, 1, "left"), x
    else:
        left, right = (b.layers.Slice(i * half, half, name=b.at(f"half{i + 1}"))(x) for i in (0, 1))
    right = b.conv(right, half, 1, 1, "reduce")
    right = b.linear.depthwise(right, 3, b.stride, "depthwise")
    right = b.conv(right, half, 1, 1, "expand")
    return b.layers.Shuffle(2, name=b.at("shuffle"))(b.join([left, right]))


def ghost(b: Scope, x: Tensor, *, kernel: int = 3, se: float = 0.0) -> Tensor:
    """x + f(x), f = ghost module to the inner width [-> linear depthwise, if strided] [-> SE] -> linear ghost module.

    A ghost module makes half of its channels by a 1x1, and the others of these by a depthwise 3x3. b.width is the inner
    and the outer width. Squeeze-and-excite narrows to `se` of the inner one. Where the shape changes, x goes through a
    linear depthwise and a linear 1x1. GhostNet: Han et al., 2020 (https://arxiv.org/abs/1911.11907).
    """
    inner, outer = b.width
    f = ghosts(b, x, inner, "ghost1")
    if b.stride > 1:
        f = b.linear.depthwise(f, kernel, b.stride, "depthwise")
    if se:
        f = b.squeeze_excite(f, round_width(inner * se, 4), "hard_sigmoid")
    f = ghosts(b.linear, f, outer, "ghost2")
    if b.stride > 1 or x.shape[-1] != outer:
        x = b.linear.depthwise(x, kernel, b.stride, "shortcut_depthwise")
        x = b.linear.conv(x, outer, 1, 1, "shortcut")
    return b.residual(x, f)


def ghosts(b: Scope, x: Tensor, width: int, label: str) -> Tensor:
    """[f(x), g(f(x))] joined, f = 1x1 to half of the width, g = depthwise 3x3."""
    f = b.conv(x, width // 2, 1, 1, label)
    return b.join([f, b.depthwise(f, 3, 1, f"{label}_cheap")], f"{label}_join")
