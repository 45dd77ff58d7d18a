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
    Jacob et al., 2017 (https://arxiv.org/abs/1712.05877), section 3.2.
    """
    function = opened(model)
    order = list(nodes(function))
    pairs = foldable(function, order) if norms else {}
    gone = {id(norm) for norm in pairs.values()}
    inputs = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in function.inputs]
    place = {id(old): new for old, new in zip(function.inputs, inputs, strict=True)}
    for node in order:
        layer = node.operation
        if id(node) in gone:
            outputs = place[id(node.input_tensors[0])]
        elif id(node) in pairs or is_grouped(layer):
            norm = pairs.get(id(node))
            outputs = remade(layer, norm and norm.operation, place[id(node.input_tensors[0])])
        else:
            args, kwargs = node.arguments.fill_in(place)
            outputs = layer(*args, **kwargs)
        place |= {id(old): new for old, new in zip(node.outputs, keras.tree.flatten(outputs), strict=True)}
    ready = keras.Model(inputs, [place[id(t)] for t in function.outputs], name=model.name)
    kept = tuple(node.operation.name for node in order if is_norm(node.operation) and id(node) not in gone)
    return Folded(ready, tuple(norm.operation.name for norm in pairs.values()), kept)


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
    kind, config = Conv2D if is_grouped(layer) else type(layer), layer.get_config() | {"use_bias": True}
    if layer.dtype_policy.name.startswith("mixed_"):
        config["dtype"] = layer.compute_dtype  # without training, its weights may have the precision of its sums
    new = kind.from_config(config)
    y = new(x)
    kernel, *rest = (array(v) for v in layer.weights)
    bias = rest[0] if rest else np.zeros(y.shape[-1])
    if norm is not None:
        scale = 1 / np.sqrt(array(norm.moving_variance) + norm.epsilon)
        scale = scale * array(norm.gamma) if norm.scale else scale
        bias = (bias - array(norm.moving_mean)) * scale + (array(norm.beta) if norm.center else 0)
        # A depthwise kernel is (height, width, channels in, outputs of each), the others' last are the channels out.
        kernel = kernel * (
            scale.reshape(kernel.shape[-2:]) if isinstance(layer, keras.layers.DepthwiseConv2D) else scale
        )
    new.set_weights([kernel, bias])
    return y


def array(variable: Any) -> np.ndarray:
    """The values in float64, so that they are rounded only once, at the end."""
    return np.asarray(variable.numpy(), np.float64)
