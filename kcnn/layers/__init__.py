"""All layers that networks are made of: Keras's, and the few of our own that earn their place."""

from keras import Input, Model
from keras.layers import (
    Activation,
    Add,
    AveragePooling2D,
    Concatenate,
    Cropping2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Multiply,
    Rescaling,
    ZeroPadding2D,
)

from kcnn.layers.channels import DropPath, LayerScale, Shuffle, Slice
from kcnn.layers.convolutions import Conv2D, DepthwiseConv2D
from kcnn.layers.norms import (
    BatchNormalization,
    GlobalResponseNormalization,
    LayerNormalization,
    ResponseNormalization,
)

__all__ = [
    "Activation",
    "Add",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Cropping2D",
    "Dense",
    "DepthwiseConv2D",
    "DropPath",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalResponseNormalization",
    "Input",
    "LayerNormalization",
    "LayerScale",
    "MaxPooling2D",
    "Model",
    "Multiply",
    "Rescaling",
    "ResponseNormalization",
    "Shuffle",
    "Slice",
    "ZeroPadding2D",
]
