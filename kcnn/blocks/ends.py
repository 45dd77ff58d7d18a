"""Blocks of stems and heads."""

from kcnn.blocks.scope import Scope, Tensor


def conv(
    b: Scope,
    x: Tensor,
    *,
    kernel: int = 1,
    padding: str | int | None = None,
    raw: bool = False,
    norm: bool = True,
    act: bool = True,
) -> Tensor:
    """act(norm(convolution)), or the convolution alone where its readers normalize (`raw`)."""
    b = b.but(padding=b.style.padding if padding is None else padding).acting(act)
    b = b if norm else b.but(norm=None, bias=True)
    return (b.bare if raw else b).conv(x, b.width, kernel, b.stride)


def max_pool(b: Scope, x: Tensor, *, kernel: int = 3, padding: str | int | None = None, signed: bool = False) -> Tensor:
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


def norm(b: Scope, x: Tensor, *, act: bool = True) -> Tensor:
    """act(norm(x))."""
    return b.acting(act).norm_act(x)


def activation(b: Scope, x: Tensor) -> Tensor:
    """act(x)."""
    return b.act(x)


def local_norm(b: Scope, x: Tensor) -> Tensor:
    """Normalizes each value by its neighbours among the channels."""
    return b.layers.ResponseNormalization(name=b.at())(x)


def average(b: Scope, x: Tensor, *, keep: bool = False) -> Tensor:
    """(batch, height, width, channels) -> (batch, channels), or to (batch, 1, 1, channels)."""
    return b.layers.GlobalAveragePooling2D(keepdims=keep, name=b.at())(x)


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
