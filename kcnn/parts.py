"""What blocks are made of: convolutions, pools, norms, residual sums, each in the network's own style."""

from typing import Any

from keras import KerasTensor as Tensor
from keras import initializers, layers

from kcnn.arch import Style
from kcnn.layers import BatchNormalization, Conv2D, DropPath

# He et al., 2015 (https://arxiv.org/abs/1502.01852), keeping the variance of the gradients.
KERNEL = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"},
}
Kernel = int | tuple[int, ...]


def conv(style: Style, x: Tensor, width: int, kernel: Kernel = 1, stride: int = 1, *, name: str, groups: int = 1,
         act: str | bool = True, norm: bool | None = None, bias: bool | None = None,
         padding: str | None = None) -> Tensor:  # fmt: skip
    """act(norm(convolution)), with the network's own norm, activation and padding unless said otherwise."""
    norm = style.norm if norm is None else norm
    bias = (style.bias or not norm) if bias is None else bias
    if kernel == 1 and stride > 1 and x.shape[-1] <= 8:
        # Places first, then channels: oneDNN's gradient of so narrow a strided 1x1 writes past its memory (2.21).
        x, stride = layers.MaxPooling2D(1, stride, "valid", name=f"{name}_places")(x), 1
    x, padding = pad(style, x, kernel, stride, name, padding)
    x = Conv2D(width, kernel, stride, padding, groups=groups, use_bias=bias,
               kernel_initializer=kernel_initializer(), name=name)(x)  # fmt: skip
    return finish(style, x, name, act, norm)


def depthwise(style: Style, x: Tensor, kernel: int = 3, stride: int = 1, *, name: str, act: str | bool = True,
              norm: bool | None = None, bias: bool | None = None) -> Tensor:  # fmt: skip
    """act(norm(one convolution for each channel))."""
    norm = style.norm if norm is None else norm
    bias = (style.bias or not norm) if bias is None else bias
    x, padding = pad(style, x, kernel, stride, name)
    x = layers.DepthwiseConv2D(kernel, stride, padding, use_bias=bias, depthwise_initializer=kernel_initializer(),
                               name=name)(x)  # fmt: skip
    return finish(style, x, name, act, norm)


def finish(style: Style, x: Tensor, name: str, act: str | bool = True, norm: bool = True) -> Tensor:
    """act(norm(x)); `act` names another activation than the network's, or False for none."""
    if norm:
        x = BatchNormalization(momentum=style.bn_momentum, epsilon=style.bn_epsilon, name=f"{name}_bn")(x)
    if act:
        x = layers.Activation(style.activation if act is True else act, name=f"{name}_act")(x)
    return x


def pad(style: Style, x: Tensor, kernel: Kernel, stride: int, name: str, padding: str | None = None) -> Any:
    """The padded input and what padding is left to do: symmetric differs from TensorFlow's only with a stride."""
    if padding is not None:
        return x, padding
    if style.padding == "same" or stride == 1 or kernel == 1:
        return x, "same"
    by = kernel // 2 if isinstance(kernel, int) else tuple(k // 2 for k in kernel)
    return layers.ZeroPadding2D(by, name=f"{name}_pad")(x), "valid"


def kernel_initializer() -> initializers.Initializer:
    return initializers.get(KERNEL)


def max_pool(style: Style, x: Tensor, width: None, stride: int, name: str, drop: float = 0.0, *, kernel: int = 3,
             padding: str | None = None, signed: bool = False) -> Tensor:  # fmt: skip
    """The largest value of each window. Zeros pad it, as it follows an activation that has none below.

    `signed` pads nothing: windows of all places, then every `stride`-th of them.
    """
    if signed:
        x = layers.MaxPooling2D(kernel, 1, "same", name=f"{name}_window")(x)
        return layers.MaxPooling2D(1, stride, "valid", name=f"{name}_pool")(x)
    x, padding = pad(style, x, kernel, stride, f"{name}_pool", padding if kernel > stride else "valid")
    return layers.MaxPooling2D(kernel, stride, padding, name=f"{name}_pool")(x)


def mean_pool(x: Tensor, kernel: int, stride: int, padding: str, name: str) -> Tensor:
    """The mean of each window, without what pads it."""
    return layers.AveragePooling2D(kernel, stride, padding, name=f"{name}_pool")(x)


def squeeze_excite(style: Style, x: Tensor, squeezed: int, *, name: str, gate: str = "sigmoid",
                   act: str | bool = True) -> Tensor:  # fmt: skip
    """x * gate(expand(act(squeeze(mean of x)))). Hu et al., 2018 (https://arxiv.org/abs/1709.01507)."""
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    s = conv(style, s, squeezed, norm=False, act=act, name=f"{name}_squeeze")
    s = conv(style, s, x.shape[-1], norm=False, act=gate, name=f"{name}_excite")
    return layers.Multiply(name=f"{name}_scale")([x, s])


def residual(x: Tensor, f: Tensor, name: str, drop: float = 0.0) -> Tensor:
    """x + f, f dropped at the rate `drop` in training."""
    if drop:
        f = DropPath(drop, name=f"{name}_drop")(f)
    return layers.Add(name=f"{name}_add")([x, f])


def shortcut(style: Style, x: Tensor, width: int, stride: int, name: str, norm: bool | None = None) -> Tensor:
    """x, projected by a 1x1 convolution where its shape would not fit."""
    if x.shape[-1] == width and stride == 1:
        return x
    bias = False if norm is False else None
    return conv(style, x, width, 1, stride, act=False, norm=norm, bias=bias, name=f"{name}_shortcut")
