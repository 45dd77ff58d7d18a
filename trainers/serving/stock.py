"""The same network of Keras's own layers alone, for files that open wherever Keras is."""

import keras
from keras import layers, ops

from kcnn.layers import BatchNormalization, Conv2D, DepthwiseConv2D, DropPath, ResponseNormalization


def stock(model: keras.Model) -> keras.Model:
    """Returns a copy with the same names, weights and outputs, whose file `load_model` of Keras opens without kcnn.

    It trains more slowly: our layers take TensorFlow's fused operations.
    """
    copy = keras.models.clone_model(model, clone_function=replaced)
    copy.set_weights(model.get_weights())
    return copy


def replaced(layer: layers.Layer) -> layers.Layer:
    """Returns Keras's layer that does what one of ours does, and a copy of any other."""
    config = layer.get_config()
    match layer:
        case BatchNormalization():
            return layers.BatchNormalization.from_config(config)
        case Conv2D():
            return layers.Conv2D.from_config(config)
        case DepthwiseConv2D():
            return layers.DepthwiseConv2D.from_config(config)
        case DropPath():  # a dropout whose mask has one value an example
            shape = (None,) + (1,) * (len(layer.output.shape) - 1)
            return layers.Dropout(layer.rate, noise_shape=shape, name=layer.name, dtype=layer.dtype_policy)
        case ResponseNormalization():
            x = keras.Input(batch_shape=layer.output.shape)
            channels, around = x.shape[-1], layer.size // 2
            squares = ops.pad(ops.square(x), ((0, 0), (0, 0), (0, 0), (around, around)))
            near = sum(squares[..., i : i + channels] for i in range(layer.size))
            return keras.Model(x, x * ops.power(1 + layer.alpha / layer.size * near, -layer.beta), name=layer.name)
    return type(layer).from_config(config)
