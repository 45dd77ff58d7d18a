"""A trained network as it is served: the same function in fewer and faster operations."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kcnn.analysis.graph import nodes, opened
from kcnn.layers import Conv2D

FOLDABLE = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


@dataclass(frozen=True)
class Folded:
    """The network to serve; the names of the normalizations that were folded, and of those that stayed."""

    model: keras.Model
    folded: tuple[str, ...]
    kept: tuple[str, ...]


def fold(model: keras.Model, norms: bool = True) -> Folded:
    """gamma * (W x + b - mean) / sqrt(variance + epsilon) + beta as one W' x + b', exact but for rounding.

    A normalization stays where its input is not the output of one linear layer that nothing else reads: after a join
    or a sum, as in pre-activation networks. Without `norms` all stay. Keras's grouped convolutions, which need XLA on
    a CPU, become ours. The model itself does not change; the result shares the layers that stay the same.
    Jacob et al., 2017 (https://arxiv.org/abs/1712.05877), section 3.2. A sum of such branches of one tensor, as in
    RepVGG, becomes one convolution: Ding et al., 2021 (https://arxiv.org/abs/2101.03697), Section 3.3.
    """
    function = opened(model)
    order = list(nodes(function))
    pairs = foldable(function, order) if norms else {}
    sums = summed(order, pairs, function) if norms else {}
    merged = [node for branches in sums.values() for branch in branches for node in branch.nodes]
    pairs = {conv: norm for conv, norm in pairs.items() if conv not in {id(node) for node in merged}}
    gone = {id(norm) for norm in pairs.values()}
    skipped = {id(node) for node in merged}
    inputs = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in function.inputs]
    place = {id(old): new for old, new in zip(function.inputs, inputs, strict=True)}
    for node in order:
        layer = node.operation
        if id(node) in skipped:
            continue
        if id(node) in sums:
            outputs = one_convolution(sums[id(node)], place)
        elif id(node) in gone:
            outputs = place[id(node.input_tensors[0])]
        elif id(node) in pairs or is_grouped(layer):
            norm = pairs.get(id(node))
            outputs = remade(layer, norm and norm.operation, place[id(node.input_tensors[0])])
        else:
            args, kwargs = node.arguments.fill_in(place)
            outputs = layer(*args, **kwargs)
        place |= {id(old): new for old, new in zip(node.outputs, keras.tree.flatten(outputs), strict=True)}
    ready = keras.Model(inputs, [place[id(t)] for t in function.outputs], name=model.name)
    into = [*pairs.values(), *(node for node in merged if is_norm(node.operation))]
    done = {id(node) for node in into}
    kept = tuple(node.operation.name for node in order if is_norm(node.operation) and id(node) not in done)
    return Folded(ready, tuple(norm.operation.name for norm in into), kept)


@dataclass(frozen=True)
class Branch:
    """A linear way from a tensor into a sum: [padding ->] [convolution ->] normalization."""

    source: Any
    pad: Any
    conv: Any
    norm: Any

    @property
    def nodes(self) -> list[Any]:
        return [node for node in (self.pad, self.conv, self.norm) if node]


def summed(order: list[Any], pairs: dict[int, Any], function: Any) -> dict[int, list[Branch]]:
    """The sums that one convolution can do, by the id of their call: branches of one tensor, with the widest first."""
    maker = {id(t): node for node in order for t in node.outputs}
    read = [id(t) for t in function.outputs] + [id(t) for node in order for t in node.input_tensors]
    found = {}
    for node in order:
        if not isinstance(node.operation, keras.layers.Add):
            continue
        branches = [branch(t, maker, pairs, read) for t in node.input_tensors]
        ways = [b for b in branches if b is not None]
        ways.sort(key=lambda b: -max(b.conv.operation.kernel_size) if b.conv else 0)
        if len(ways) == len(branches) and len({id(b.source) for b in ways}) == 1 and ways[0].conv and centred(ways):
            found[id(node)] = ways
    return found


def branch(tensor: Any, maker: dict[int, Any], pairs: dict[int, Any], read: list[int]) -> Branch | None:
    """The branch that ends in a tensor, or None where it is none, or something else reads what is inside."""
    norm = maker.get(id(tensor))
    if norm is None or not is_norm(norm.operation) or read.count(id(tensor)) > 1:
        return None
    x = norm.input_tensors[0]
    conv = maker.get(id(x))
    if conv is None or pairs.get(id(conv)) is not norm:
        return Branch(x, None, None, norm)
    if not isinstance(conv.operation, keras.layers.Conv2D) or conv.operation.groups > 1:
        return None
    x = conv.input_tensors[0]
    pad = maker.get(id(x))
    if pad is not None and isinstance(pad.operation, keras.layers.ZeroPadding2D) and read.count(id(x)) == 1:
        return Branch(pad.input_tensors[0], pad, conv, norm)
    return Branch(x, None, conv, norm)


def centred(ways: list[Branch]) -> bool:
    """Whether all kernels have their middle at the same place: the widest is padded by half of it, others are 1x1."""
    widest = ways[0].conv.operation
    half = tuple((k // 2, k // 2) for k in widest.kernel_size)
    if ways[0].pad:
        padded = widest.padding == "valid" and tuple(ways[0].pad.operation.padding) == half
    else:
        padded = widest.padding == "same" and max(widest.strides) == 1
    rest = [b.conv.operation for b in ways[1:] if b.conv]
    same = all(max(c.kernel_size) == 1 and c.strides == widest.strides and not b.pad
               for c, b in zip(rest, [b for b in ways[1:] if b.conv], strict=True))  # fmt: skip
    plain = all(b.conv for b in ways) or max(widest.strides) == 1
    return padded and same and plain and all(k % 2 for k in widest.kernel_size) and max(widest.dilation_rate) == 1


def one_convolution(ways: list[Branch], place: dict[int, Any]) -> keras.KerasTensor:
    """The sum of the branches, by the layer of the widest one with the kernels of all in its middle."""
    first = ways[0]
    x = place[id(first.source)]
    if first.pad:
        x = first.pad.operation(x)
    layer = first.conv.operation
    new = type(layer).from_config(layer_config(layer))
    y = new(x)
    kernel, bias = folded(layer, first.norm.operation, y.shape[-1])
    top, left = (k // 2 for k in layer.kernel_size)
    for way in ways[1:]:
        if way.conv:
            its, more = folded(way.conv.operation, way.norm.operation, y.shape[-1])
            kernel[top, left] += its[0, 0]
        else:
            its, more = folded(None, way.norm.operation, y.shape[-1])
            kernel[top, left] += its
        bias = bias + more
    new.set_weights([kernel, bias])
    return y


def foldable(function: Any, order: list[Any]) -> dict[int, Any]:
    """The calls of normalizations that can be folded, by the id of the call that each is folded into."""
    maker = {id(t): node for node in order for t in node.outputs}
    read = [id(t) for t in function.outputs] + [id(t) for node in order for t in node.input_tensors]
    called = [id(node.operation) for node in order]
    pairs = {}
    for node in order:
        if not is_norm(node.operation) or node.operation.axis not in (-1, len(node.outputs[0].shape) - 1):
            continue
        before = maker.get(id(node.input_tensors[0]))
        if (
            before
            and isinstance(before.operation, FOLDABLE)
            and before.operation.activation is keras.activations.linear
            and read.count(id(before.outputs[0])) == 1
            and called.count(id(before.operation)) == called.count(id(node.operation)) == 1
        ):
            pairs[id(before)] = node
    return pairs


def is_norm(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def is_grouped(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Conv2D) and layer.groups > 1


def remade(layer: Any, norm: Any, x: keras.KerasTensor) -> keras.KerasTensor:
    """The output of one layer, called on x, that does what the layer and then the norm (if any) do."""
    new = (Conv2D if is_grouped(layer) else type(layer)).from_config(layer_config(layer))
    y = new(x)
    new.set_weights(folded(layer, norm, y.shape[-1]))
    return y


def layer_config(layer: Any) -> dict[str, Any]:
    """The settings of a layer that does its work with a bias, and without training."""
    config = layer.get_config() | {"use_bias": True}
    if layer.dtype_policy.name.startswith("mixed_"):
        config["dtype"] = layer.compute_dtype  # without training, its weights may have the precision of its sums
    return config


def folded(layer: Any, norm: Any, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The kernel and bias of a layer and the norm behind it (if any); without a layer, the norm as a square matrix."""
    kernel, *rest = (array(v) for v in layer.weights) if layer else (np.eye(width),)
    bias = rest[0] if rest else np.zeros(width)
    if norm is not None:
        scale = 1 / np.sqrt(array(norm.moving_variance) + norm.epsilon)
        scale = scale * array(norm.gamma) if norm.scale else scale
        bias = (bias - array(norm.moving_mean)) * scale + (array(norm.beta) if norm.center else 0)
        # A depthwise kernel is (height, width, channels in, outputs of each), the others' last are the channels out.
        kernel = kernel * (
            scale.reshape(kernel.shape[-2:]) if isinstance(layer, keras.layers.DepthwiseConv2D) else scale
        )
    return kernel, bias


def array(variable: Any) -> np.ndarray:
    """The values in float64, so that they are rounded only once, at the end."""
    return np.asarray(variable.numpy(), np.float64)
