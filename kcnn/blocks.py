"""The vocabulary: a block is a function from a tensor (batch, height, width, channels) to the next one.

Every block is called as block(style, x, width, stride, name, drop, **options). `drop` is the rate of the block's
own regularizer: stochastic depth of a residual branch, dropout in a head.
"""

from collections.abc import Callable
from typing import Any

from keras import KerasTensor as Tensor
from keras import layers

from kcnn.arch import Style, Width, round_width
from kcnn.layers import ResponseNormalization
from kcnn.parts import conv, depthwise, finish, max_pool, mean_pool, residual, shortcut, squeeze_excite

# Blocks of stages


def plain(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *, kernel: int = 3) -> Tensor:
    """f(x), f = [max-pool ->] conv."""
    if stride > 1:
        x = max_pool(style, x, None, stride, name, kernel=stride)
    return conv(style, x, width, kernel, name=f"{name}_conv")


def basic(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *,
          identity: bool = True) -> Tensor:  # fmt: skip
    """act(x + f(x)), f = 3x3 -> 3x3; act(f(x)) without the identity."""
    f = conv(style, x, width, 3, stride, name=f"{name}_conv1")
    f = conv(style, f, width, 3, act=False, name=f"{name}_conv2")
    y = residual(shortcut(style, x, width, stride, name), f, name, drop) if identity else f
    return finish(style, y, name, norm=False)


def bottleneck(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *,
               ratio: float = 0.25, groups: int = 1, group_width: int = 0, se: float = 0.0,
               stride_first: bool = False) -> Tensor:  # fmt: skip
    """act(x + f(x)), f = 1x1 to ratio * width -> 3x3 in groups -> SE -> 1x1.

    The 3x3 has the stride, or the first 1x1. Groups are given by their number (ResNeXt) or their width (RegNet),
    which no block exceeds. Squeeze-and-excite narrows to `se` of the block's input.
    """
    inner = round(width * ratio)
    if group_width:
        groups = inner // min(group_width, inner)
    f = conv(style, x, inner, 1, stride if stride_first else 1, name=f"{name}_reduce")
    f = conv(style, f, inner, 3, 1 if stride_first else stride, groups=groups, name=f"{name}_conv")
    if se:
        f = squeeze_excite(style, f, max(1, round(x.shape[-1] * se)), name=f"{name}_se")
    f = conv(style, f, width, 1, act=False, name=f"{name}_expand")
    y = residual(shortcut(style, x, width, stride, name), f, name, drop)
    return finish(style, y, name, norm=False)


def preact_bottleneck(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *,
                      ratio: float = 0.25) -> Tensor:  # fmt: skip
    """x + f(act(norm(x))), f = 1x1 to ratio * width -> 3x3 with the stride -> 1x1, where only these two are normalized.

    A shortcut that has to project starts from act(norm(x)) as well. He et al., 2016
    (https://arxiv.org/abs/1603.05027).
    """
    inner = round(width * ratio)
    y = finish(style, x, f"{name}_pre")
    x = x if x.shape[-1] == width and stride == 1 else shortcut(style, y, width, stride, name, norm=False)
    f = conv(style, y, inner, 1, name=f"{name}_reduce")
    f = conv(style, f, inner, 3, stride, name=f"{name}_conv")
    f = conv(style, f, width, 1, act=False, norm=False, bias=False, name=f"{name}_expand")
    return residual(x, f, name, drop)


def dense(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *, ratio: int = 4,
          keep: float = 0.5) -> Tensor:  # fmt: skip
    """[x, f(x)] joined, f = norm -> act -> 1x1 to ratio * width -> norm -> act -> 3x3 to width, the growth rate.

    With a stride the transition goes first: norm -> act -> 1x1 that keeps half of the channels -> mean of 2x2.
    """
    if stride > 1:
        x = finish(style, x, f"{name}_transition_pre")
        x = conv(style, x, int(x.shape[-1] * keep), act=False, norm=False, bias=False, name=f"{name}_transition")
        x = mean_pool(x, stride, stride, "valid", f"{name}_transition")
    f = finish(style, x, f"{name}_pre")
    f = conv(style, f, ratio * width, 1, name=f"{name}_reduce")
    f = conv(style, f, width, 3, act=False, norm=False, bias=False, name=f"{name}_conv")
    return layers.Concatenate(name=f"{name}_join")([x, f])


def inverted(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *, kernel: int = 3,
             expand: float = 6, se: float = 0.0, se_expanded: float = 0.0, gate: str = "sigmoid",
             act: str | bool = True) -> Tensor:  # fmt: skip
    """x + f(x) where shapes agree, else f(x), f = 1x1 to expand * channels -> depthwise -> SE -> linear 1x1.

    MobileNetV2 (https://arxiv.org/abs/1801.04381). Squeeze-and-excite narrows to `se` of the block's input, or, with
    a ReLU, to `se_expanded` of the expanded width (MobileNetV3).
    """
    inner = round_width(x.shape[-1] * expand) if expand != 1 else x.shape[-1]
    f = conv(style, x, inner, 1, act=act, name=f"{name}_expand") if expand != 1 else x
    f = depthwise(style, f, kernel, stride, act=act, name=f"{name}_depthwise")
    if se:
        f = squeeze_excite(style, f, max(1, int(x.shape[-1] * se)), gate=gate, name=f"{name}_se")
    if se_expanded:
        f = squeeze_excite(style, f, round_width(inner * se_expanded), gate=gate, act="relu", name=f"{name}_se")
    f = conv(style, f, width, 1, act=False, name=f"{name}_project")
    return residual(x, f, name, drop) if stride == 1 and x.shape[-1] == width else f


def separable(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *,
              act: str | bool = True, between: bool = True) -> Tensor:  # fmt: skip
    """f(x), f = depthwise 3x3 -> 1x1. MobileNet (https://arxiv.org/abs/1704.04861).

    Norm and activation follow both (`between`), or the second alone.
    """
    x = depthwise(style, x, 3, stride, act=between, norm=between and style.norm, bias=None if between else False,
                  name=f"{name}_depthwise")  # fmt: skip
    return conv(style, x, width, 1, act=act, name=f"{name}_pointwise")


def extreme(style: Style, x: Tensor, width: tuple[int, ...], stride: int, name: str, drop: float = 0.0) -> Tensor:
    """x + f(x), f = (act -> separable 3x3) for each width [-> max-pool]. Xception."""
    f = x
    for i, w in enumerate(width, 1):
        f = finish(style, f, f"{name}_in{i}", norm=False)
        f = separable(style, f, w, 1, f"{name}_sep{i}", act=False, between=False)
    if stride > 1:  # what it pools has values below zero: the padding must not be zeros
        f = layers.MaxPooling2D(3, stride, "same", name=f"{name}_pool")(f)
    return residual(shortcut(style, x, width[-1], stride, name), f, name, drop)


def inception(style: Style, x: Tensor, width: Width, stride: int, name: str, drop: float = 0.0, *,
              paths: tuple[str, ...], padding: str | None = "same") -> Tensor:  # fmt: skip
    """Paths side by side, joined. A path is a line of steps, as in the paper's figures: "1x1 1x7 7x1", "avg 1x1".

    Steps: HxW a convolution, which takes the next of the path's widths; avg, max a 3x3 pool; 1x3|3x1 two ends of
    the path. A step that ends in /s takes the block's stride, and its padding; if none does, a max-pool in front.
    """
    if stride > 1 and not any("/s" in path for path in paths):
        x = layers.MaxPooling2D(3, stride, "same", name=f"{name}_pool")(x)
    ends = branches(style, x, width, stride, name, paths, padding)
    return layers.Concatenate(name=f"{name}_join")(ends)


def inception_residual(style: Style, x: Tensor, width: Width, stride: int, name: str, drop: float = 0.0, *,
                       paths: tuple[str, ...], share: float, act: bool = True) -> Tensor:  # fmt: skip
    """act(x + share * f(x)), f = paths as in `inception` -> linear 1x1. Inception-ResNet."""
    f = layers.Concatenate(name=f"{name}_join")(branches(style, x, width, stride, name, paths, "same"))
    f = conv(style, f, x.shape[-1], 1, act=False, norm=False, name=f"{name}_expand")
    f = layers.Rescaling(share, name=f"{name}_share")(f)
    return finish(style, residual(x, f, name, drop), name, act, norm=False)


def branches(style: Style, x: Tensor, width: Width, stride: int, name: str, paths: tuple[str, ...],
             padding: str | None) -> list[Tensor]:  # fmt: skip
    """What the paths make of x."""
    ends = []
    for i, (path, w) in enumerate(zip(paths, width, strict=True), 1):
        widths = iter(w if isinstance(w, tuple) else (w,))
        heads = [x]
        for j, step in enumerate(path.split(), 1):
            kind, at_stride = step.removesuffix("/s"), step.endswith("/s")
            by, around = (stride, padding) if at_stride else (1, "same")
            label = f"{name}_path{i}_{j}"
            if kind == "max":
                heads = [layers.MaxPooling2D(3, by, around, name=f"{label}_pool")(h) for h in heads]
            elif kind == "avg":
                heads = [mean_pool(h, 3, by, around or "same", label) for h in heads]
            else:
                kernels = [tuple(int(k) for k in kernel.split("x")) for kernel in kind.split("|")]
                here = next(widths)
                here = here if isinstance(here, tuple) else (here,)
                letters = "ab" if len(here) > 1 else ("",)
                (h,) = heads
                heads = [
                    conv(style, h, out, kernel, by, padding=around, name=f"{label}{letter}")
                    for out, kernel, letter in zip(here, kernels, letters, strict=True)
                ]
        ends += heads
    return ends


# Pieces of stems and heads


def conv_piece(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *, kernel: int = 1,
               padding: str | None = None, raw: bool = False) -> Tensor:  # fmt: skip
    """act(norm(convolution)), or the convolution alone where its readers normalize (`raw`)."""
    if raw:
        return conv(style, x, width, kernel, stride, act=False, norm=False, bias=False, padding=padding, name=name)
    return conv(style, x, width, kernel, stride, padding=padding, name=name)


def separable_piece(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """act(norm(depthwise 3x3 -> 1x1))."""
    return separable(style, x, width, stride, name, between=False)


def norm(style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """act(norm(x))."""
    return finish(style, x, name)


def local_norm(style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """Local response normalization."""
    return ResponseNormalization(name=name)(x)


def average(style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """(batch, height, width, channels) -> (batch, channels)."""
    return layers.GlobalAveragePooling2D(name=name)(x)


def tiles(
    style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0, *, kernel: int = 5
) -> Tensor:
    """The mean of each window, no larger than the image."""
    return mean_pool(x, min(kernel, x.shape[1]), stride, "valid", name)


def reach(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *, kernel: int = 5) -> Tensor:
    """act(norm(convolution)) without padding, no larger than the image."""
    return conv(style, x, width, min(kernel, x.shape[1]), stride, padding="valid", name=name)


def flatten(style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """(batch, height, width, channels) -> (batch, height * width * channels)."""
    return layers.Flatten(name=name)(x)


def dense_piece(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """act(x W + b) on a vector."""
    x = layers.Dense(width, kernel_initializer="he_normal", name=name)(x)
    return finish(style, x, name, norm=False)


def dropout(style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0, *,
            rate: float | None = None) -> Tensor:  # fmt: skip
    """Srivastava et al., 2014; at a rate of its own, or the network's."""
    rate = drop if rate is None else rate
    return layers.Dropout(rate, name=name)(x) if rate else x


Block = Callable[..., Any]
BLOCKS: dict[str, Block] = {
    "plain": plain, "basic": basic, "bottleneck": bottleneck, "preact_bottleneck": preact_bottleneck, "dense": dense,
    "inverted": inverted, "separable": separable, "extreme": extreme, "inception": inception,
    "inception_residual": inception_residual,
    "conv": conv_piece, "separable_layer": separable_piece, "max_pool": max_pool, "norm": norm,
    "local_norm": local_norm, "average": average, "tiles": tiles, "reach": reach, "flatten": flatten,
    "dense_layer": dense_piece, "dropout": dropout,
}  # fmt: skip
