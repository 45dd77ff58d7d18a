"""What a block makes its layers with: convolutions, norms, pools and sums, in the network's style, by the block's name.

A *layer* is one of Keras's or ours, and comes from a scope. A *block* (kcnn.blocks) is a function of a scope and a
tensor; stems, stages and heads are rows of blocks.
"""

from dataclasses import dataclass, replace
from typing import Any

from kcnn.arch import Style, Width

Tensor = Any  # of shape (batch, height, width, channels): Keras's symbolic one, or an outline's
Kernel = int | tuple[int, ...]

# He et al., 2015 (https://arxiv.org/abs/1502.01852), keeping the variance of the gradients.
KERNEL = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"},
}


@dataclass(frozen=True)
class Scope:
    """A scope makes the layers of one block.

    layers: the module that the layers come from, kcnn.layers or kcnn.blocks.outline. name: the block's own, with which
    those of its layers begin. width, stride: the block's. drop: the rate of the block's regularizer, which is
    stochastic depth of a residual branch, or dropout in a head. past: what the block before has read, and what the one
    before that.
    Where a method takes a label, NAME_LABEL is the layer's name, and without one it is NAME.
    """

    layers: Any
    style: Style
    name: str = ""
    width: Width = None
    stride: int = 1
    drop: float = 0.0
    past: tuple[Tensor, ...] = ()

    def but(self, **style: Any) -> "Scope":
        """Returns the scope with these fields of its style replaced."""
        return replace(self, style=replace(self.style, **style))

    def acting(self, act: str | bool) -> "Scope":
        """Returns the scope with the activation of this name; with none for False, with its own for True."""
        return self if act is True else self.but(activation=act or "")

    @property
    def linear(self) -> "Scope":
        """The scope whose convolutions have no activation."""
        return self.acting(False)

    @property
    def bare(self) -> "Scope":
        """The scope whose convolutions have no norm or activation, and mostly no bias: what reads them has the norm."""
        return self.but(norm=None, bias=self.style.bare_bias, activation="")

    def inner(self, label: str, width: Width) -> "Scope":
        """Returns the scope of a block inside this one, without a stride."""
        return replace(self, name=self.at(label), width=width, stride=1)

    def at(self, label: str = "") -> str:
        """Returns the name of a layer: "stage1_block2_conv1" for the label "conv1"."""
        return f"{self.name}_{label}" if label else self.name

    def conv(
        self, x: Tensor, width: int, kernel: Kernel = 1, stride: int = 1, label: str = "", groups: int = 1
    ) -> Tensor:
        """act(norm(convolution)), each of the three as the style has it."""
        if kernel == 1 and stride > 1 and x.shape[-1] <= 8:
            # Places first, then channels: oneDNN's gradient of so narrow a strided 1x1 writes past its memory (2.21).
            x, stride = self.layers.MaxPooling2D(1, stride, "valid", name=f"{self.at(label)}_places")(x), 1
        x, padding = self.pad(x, kernel, stride, label)
        x = self.layers.Conv2D(
            width,
            kernel,
            stride,
            padding,
            groups=groups,
            use_bias=self.style.bias,
            kernel_initializer=KERNEL,
            name=self.at(label),
        )(x)
        return self.norm_act(x, label)

    def depthwise(self, x: Tensor, kernel: int = 3, stride: int = 1, label: str = "") -> Tensor:
        """act(norm(one convolution for each channel))."""
        x, padding = self.pad(x, kernel, stride, label)
        x = self.layers.DepthwiseConv2D(
            kernel, stride, padding, use_bias=self.style.bias, depthwise_initializer=KERNEL, name=self.at(label)
        )(x)
        return self.norm_act(x, label)

    def norm_act(self, x: Tensor, label: str = "") -> Tensor:
        """act(norm(x)), both as the style has them."""
        style = self.style
        if style.norm == "batch":
            x = self.layers.BatchNormalization(
                momentum=style.bn_momentum, epsilon=style.bn_epsilon, name=f"{self.at(label)}_bn"
            )(x)
        elif style.norm == "layer":
            x = self.layers.LayerNormalization(epsilon=style.bn_epsilon, name=f"{self.at(label)}_ln")(x)
        return self.act(x, label)

    def act(self, x: Tensor, label: str = "") -> Tensor:
        """act(x), as the style has it."""
        if not self.style.activation:
            return x
        return self.layers.Activation(self.style.activation, name=f"{self.at(label)}_act")(x)

    def pad(self, x: Tensor, kernel: Kernel, stride: int, label: str = "") -> tuple[Tensor, str]:
        """Pads, and returns the padding left to do as well: symmetric differs from TensorFlow's only with a stride."""
        if isinstance(self.style.padding, int):
            return self.layers.ZeroPadding2D(self.style.padding, name=f"{self.at(label)}_pad")(x), "valid"
        if self.style.padding not in ("symmetric", "end"):
            return x, self.style.padding
        if stride == 1 or kernel == 1:
            return x, "same"
        by: Any = kernel // 2 if isinstance(kernel, int) else tuple(k // 2 for k in kernel)
        if self.style.padding == "end":
            by = tuple((0, k) for k in (by if isinstance(by, tuple) else (by, by)))
        return self.layers.ZeroPadding2D(by, name=f"{self.at(label)}_pad")(x), "valid"

    def max_pool(self, x: Tensor, kernel: int, stride: int, padding: str, label: str = "pool") -> Tensor:
        """Takes the largest value of each window."""
        return self.layers.MaxPooling2D(kernel, stride, padding, name=self.at(label))(x)

    def mean_pool(self, x: Tensor, kernel: int, stride: int, padding: str, label: str = "pool") -> Tensor:
        """Takes the mean of each window, without what pads it unless the style counts that."""
        if self.style.count_zeros and padding == "same" and stride == 1:
            x, padding = self.layers.ZeroPadding2D(kernel // 2, name=f"{self.at(label)}_pad")(x), "valid"
        return self.layers.AveragePooling2D(kernel, stride, padding, name=self.at(label))(x)

    def squeeze_excite(self, x: Tensor, squeezed: int, gate: str = "sigmoid") -> Tensor:
        """x * gate(expand(act(squeeze(mean of x)))). Hu et al., 2018 (https://arxiv.org/abs/1709.01507)."""
        biased = self.but(norm=None, bias=True)
        s = self.layers.GlobalAveragePooling2D(keepdims=True, name=self.at("se_mean"))(x)
        s = biased.conv(s, squeezed, label="se_squeeze")
        s = biased.but(activation=gate).conv(s, x.shape[-1], label="se_excite")
        return self.layers.Multiply(name=self.at("se_scale"))([x, s])

    def residual(self, x: Tensor, f: Tensor) -> Tensor:
        """x + f, where training drops f at the block's rate."""
        if self.drop:
            f = self.layers.DropPath(self.drop, name=self.at("drop"))(f)
        return self.layers.Add(name=self.at("add"))([x, f])

    def shortcut(self, x: Tensor, width: int, stride: int, mean: bool = False) -> Tensor:
        """x, projected by a 1x1 convolution without activation where its shape would not fit.

        mean: whether it takes the mean of the places that a stride leaves out, instead of leaving them out.
        """
        if x.shape[-1] == width and stride == 1:
            return x
        if mean and stride > 1:
            x, stride = self.mean_pool(x, stride, stride, "same", "shortcut_pool"), 1
        return self.linear.conv(x, width, 1, stride, "shortcut")

    def join(self, tensors: list[Tensor], label: str = "join") -> Tensor:
        """Puts the tensors side by side, along their channels."""
        return self.layers.Concatenate(name=self.at(label))(tensors)
