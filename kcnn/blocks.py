"""The vocabulary: a block is a function from a tensor (batch, height, width, channels) to the next one.

Every block is called as block(style, x, width, stride, name, drop, **options). `drop` is the rate of the block's
own regularizer: stochastic depth of a residual branch, dropout in a head.
"""

from collections.abc import Callable
from typing import Any

from keras import KerasTensor as Tensor
from keras import initializers, layers

from kcnn.arch import Style
from kcnn.layers import BatchNormalization, DropPath

# He et al., 2015 (https://arxiv.org/abs/1502.01852), keeping the variance of the gradients.
KERNEL = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"},
}


# Parts of blocks


def conv(style: Style, x: Tensor, width: int, kernel: int = 1, stride: int = 1, *, name: str, groups: int = 1,
         act: str | bool = True, norm: bool | None = None) -> Tensor:  # fmt: skip
    """act(norm(convolution)), with the network's own norm and activation unless said otherwise."""
    norm = style.norm if norm is None else norm
    x, padding = pad(style, x, kernel, stride, name)
    x = layers.Conv2D(width, kernel, stride, padding, groups=groups, use_bias=style.bias or not norm,
                      kernel_initializer=kernel_initializer(), name=name)(x)  # fmt: skip
    return finish(style, x, name, act, norm)


def depthwise(
    style: Style, x: Tensor, kernel: int = 3, stride: int = 1, *, name: str, act: str | bool = True
) -> Tensor:
    """act(norm(one convolution for each channel))."""
    x, padding = pad(style, x, kernel, stride, name)
    x = layers.DepthwiseConv2D(kernel, stride, padding, use_bias=style.bias or not style.norm,
                               depthwise_initializer=kernel_initializer(), name=name)(x)  # fmt: skip
    return finish(style, x, name, act, style.norm)


def finish(style: Style, x: Tensor, name: str, act: str | bool = True, norm: bool = True) -> Tensor:
    """act(norm(x)); `act` names another activation than the network's, or False for none."""
    if norm:
        x = BatchNormalization(momentum=style.bn_momentum, epsilon=style.bn_epsilon, name=f"{name}_bn")(x)
    if act:
        x = layers.Activation(style.activation if act is True else act, name=f"{name}_act")(x)
    return x


def pad(style: Style, x: Tensor, kernel: int, stride: int, name: str) -> tuple[Tensor, str]:
    """Symmetric padding differs from TensorFlow's only where there is a stride."""
    if style.padding == "same" or stride == 1 or kernel == 1:
        return x, "same"
    return layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"


def kernel_initializer() -> initializers.Initializer:
    return initializers.get(KERNEL)


def squeeze_excite(style: Style, x: Tensor, squeezed: int, *, name: str, gate: str = "sigmoid") -> Tensor:
    """x * gate(expand(act(squeeze(mean of x)))). Hu et al., 2018 (https://arxiv.org/abs/1709.01507)."""
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    s = conv(style, s, squeezed, norm=False, name=f"{name}_squeeze")
    s = conv(style, s, x.shape[-1], norm=False, act=gate, name=f"{name}_excite")
    return layers.Multiply(name=f"{name}_scale")([x, s])


def residual(x: Tensor, f: Tensor, name: str, drop: float = 0.0) -> Tensor:
    """x + f, f dropped at the rate `drop` in training."""
    if drop:
        f = DropPath(drop, name=f"{name}_drop")(f)
    return layers.Add(name=f"{name}_add")([x, f])


def shortcut(style: Style, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    """x, projected by a 1x1 convolution where its shape would not fit."""
    if x.shape[-1] == width and stride == 1:
        return x
    return conv(style, x, width, 1, stride, act=False, name=f"{name}_shortcut")


# Blocks of stages


def plain(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *, kernel: int = 3) -> Tensor:
    """f(x), f = [max-pool ->] conv."""
    if stride > 1:
        x = max_pool(style, x, None, stride, name, kernel=stride)
    return conv(style, x, width, kernel, name=f"{name}_conv")


def basic(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """act(x + f(x)), f = 3x3 -> 3x3."""
    f = conv(style, x, width, 3, stride, name=f"{name}_conv1")
    f = conv(style, f, width, 3, act=False, name=f"{name}_conv2")
    y = residual(shortcut(style, x, width, stride, name), f, name, drop)
    return finish(style, y, name, norm=False)


def bottleneck(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *,
               ratio: float = 0.25) -> Tensor:  # fmt: skip
    """act(x + f(x)), f = 1x1 to ratio * width -> 3x3 with the stride -> 1x1."""
    inner = round(width * ratio)
    f = conv(style, x, inner, 1, name=f"{name}_reduce")
    f = conv(style, f, inner, 3, stride, name=f"{name}_conv")
    f = conv(style, f, width, 1, act=False, name=f"{name}_expand")
    y = residual(shortcut(style, x, width, stride, name), f, name, drop)
    return finish(style, y, name, norm=False)


def inverted(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *, kernel: int = 3,
             expand: int = 6, se: float = 0.0) -> Tensor:  # fmt: skip
    """x + f(x) where shapes agree, else f(x), f = 1x1 to expand * channels -> depthwise -> SE -> linear 1x1.

    MobileNetV2 (https://arxiv.org/abs/1801.04381). Squeeze-and-excite narrows to `se` of the block's input.
    """
    f = conv(style, x, x.shape[-1] * expand, 1, name=f"{name}_expand") if expand != 1 else x
    f = depthwise(style, f, kernel, stride, name=f"{name}_depthwise")
    if se:
        f = squeeze_excite(style, f, max(1, int(x.shape[-1] * se)), name=f"{name}_se")
    f = conv(style, f, width, 1, act=False, name=f"{name}_project")
    return residual(x, f, name, drop) if stride == 1 and x.shape[-1] == width else f


def separable(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """f(x), f = depthwise 3x3 -> 1x1. MobileNet (https://arxiv.org/abs/1704.04861)."""
    x = depthwise(style, x, 3, stride, name=f"{name}_depthwise")
    return conv(style, x, width, 1, name=f"{name}_pointwise")


# Pieces of stems and heads


def conv_piece(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0, *,
               kernel: int = 1) -> Tensor:  # fmt: skip
    """act(norm(convolution))."""
    return conv(style, x, width, kernel, stride, name=name)


def max_pool(
    style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0, *, kernel: int = 3
) -> Tensor:
    """The largest value of each window. Zeros pad it, as it follows an activation that has none below."""
    if kernel > stride:
        x, padding = pad(style, x, kernel, stride, f"{name}_pool")
    else:
        padding = "valid"
    return layers.MaxPooling2D(kernel, stride, padding, name=f"{name}_pool")(x)


def average(style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """(batch, height, width, channels) -> (batch, channels)."""
    return layers.GlobalAveragePooling2D(name=name)(x)


def flatten(style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """(batch, height, width, channels) -> (batch, height * width * channels)."""
    return layers.Flatten(name=name)(x)


def dense_piece(style: Style, x: Tensor, width: int, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """act(x W + b) on a vector."""
    x = layers.Dense(width, kernel_initializer="he_normal", name=name)(x)
    return finish(style, x, name, norm=False)


def dropout(style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0) -> Tensor:
    """Srivastava et al., 2014."""
    return layers.Dropout(drop, name=name)(x) if drop else x


Block = Callable[..., Any]
BLOCKS: dict[str, Block] = {
    "plain": plain, "basic": basic, "bottleneck": bottleneck, "inverted": inverted, "separable": separable,
    "conv": conv_piece, "max_pool": max_pool, "average": average, "flatten": flatten, "dense_layer": dense_piece,
    "dropout": dropout,
}  # fmt: skip
