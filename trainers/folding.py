"""Batch normalization folded into the convolution before it: the same function in fewer operations."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kcnn.graph import nodes, opened

FOLDABLE = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


@dataclass(frozen=True)
class Folded:
    """The network without the normalizations that could be folded; the names of those, and of those that stayed."""

    model: keras.Model
    folded: tuple[str, ...]
    kept: tuple[str, ...]


def fold(model: keras.Model) -> Folded:
    """gamma * (W x + b - mean) / sqrt(variance + epsilon) + beta as one W' x + b', exact but for rounding.

    What stays is a normalization whose input is no linear layer's alone: after a join or a sum, as pre-activation
    networks have them, or of an output that others read too. The model is left as it is; layers without a
    normalization are shared with it. Jacob et al., 2017 (https://arxiv.org/abs/1712.05877), section 3.2.
    """
    function = opened(model)
    order = list(nodes(function))
    maker = {id(t): node for node in order for t in node.outputs}
    readers: dict[int, int] = {id(t): 1 for t in function.outputs}
    calls: dict[int, int] = {}
    for node in order:
        calls[id(node.operation)] = calls.get(id(node.operation), 0) + 1
        for t in node.input_tensors:
            readers[id(t)] = readers.get(id(t), 0) + 1

    def linear(node: Any) -> bool:
        return (
            isinstance(node.operation, FOLDABLE)
            and keras.activations.serialize(node.operation.activation) == "linear"
            and calls[id(node.operation)] == 1
            and readers[id(node.outputs[0])] == 1
        )

    norms = [node for node in order if isinstance(node.operation, keras.layers.BatchNormalization)]
    pairs = {
        id(before): node
        for node in norms
        if calls[id(node.operation)] == 1
        and node.operation.axis in (-1, len(node.outputs[0].shape) - 1)
        and (before := maker.get(id(node.input_tensors[0])))
        and linear(before)
    }
    gone = {id(node) for node in pairs.values()}
    inputs = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in function.inputs]
    place = {id(old): new for old, new in zip(function.inputs, inputs, strict=True)}
    for node in order:
        if id(node) in gone:
            place[id(node.outputs[0])] = place[id(node.input_tensors[0])]
            continue
        args, kwargs = node.arguments.fill_in(place)
        norm = pairs.get(id(node))
        outputs = joined(node.operation, norm.operation, args[0]) if norm else node.operation(*args, **kwargs)
        place |= {id(old): new for old, new in zip(node.outputs, keras.tree.flatten(outputs), strict=True)}
    thin = keras.Model(inputs, [place[id(t)] for t in function.outputs], name=model.name)
    kept = tuple(node.operation.name for node in norms if id(node) not in gone)
    return Folded(thin, tuple(node.operation.name for node in pairs.values()), kept)


def joined(layer: Any, norm: Any, x: keras.KerasTensor) -> keras.KerasTensor:
    """One layer that does what the two do, called on x."""
    config = layer.get_config() | {"use_bias": True}
    if getattr(layer.dtype_policy, "name", "").startswith("mixed_"):
        config["dtype"] = layer.compute_dtype  # nothing trains it any more: its weights may be as coarse as its sums
    new = type(layer).from_config(config)
    y = new(x)
    kernel, *bias = (np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in layer.weights)
    mean, variance = (np.asarray(keras.ops.convert_to_numpy(v), np.float64)
                      for v in (norm.moving_mean, norm.moving_variance))  # fmt: skip
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * keras.ops.convert_to_numpy(norm.gamma)
    shift = (bias[0] if bias else 0.0) - mean
    beta = keras.ops.convert_to_numpy(norm.beta) if norm.center else 0.0
    # A depthwise kernel has (height, width, channels in, outputs of each), the others end with the channels out.
    spread = scale.reshape(kernel.shape[-2:]) if isinstance(layer, keras.layers.DepthwiseConv2D) else scale
    new.set_weights([kernel * spread, shift * scale + beta])
    return y
