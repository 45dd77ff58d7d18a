"""What is done to channels or to whole examples: scaling, choosing, shuffling, dropping."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kcnn")
class LayerScale(keras.layers.Layer):
    """s * x, s one number a channel that training starts at `start`.

    Touvron et al., 2021 (https://arxiv.org/abs/2103.17239).
    """

    def __init__(self, start=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.start)
        self.scale = self.add_weight(shape=input_shape[-1:], initializer=initializer, name="scale")

    def call(self, inputs):
        return inputs * ops.cast(self.scale, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"start": self.start}


@keras.saving.register_keras_serializable("kcnn")
class Slice(keras.layers.Layer):
    """The channels from `start` on, `size` of them: (batch, height, width, channels) -> (..., size)."""

    def __init__(self, start, size, **kwargs):
        super().__init__(**kwargs)
        self.start = start
        self.size = size

    def call(self, inputs):
        return inputs[..., self.start : self.start + self.size]

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.size)

    def get_config(self):
        return super().get_config() | {"start": self.start, "size": self.size}


@keras.saving.register_keras_serializable("kcnn")
class Shuffle(keras.layers.Layer):
    """Takes a channel of each group in turn: [a1 a2 b1 b2] becomes [a1 b1 a2 b2] for two groups.

    ShuffleNet: Zhang et al., 2018 (https://arxiv.org/abs/1707.01083).
    """

    def __init__(self, groups=2, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups

    def call(self, inputs):
        shape, channels = ops.shape(inputs), inputs.shape[-1]
        x = ops.reshape(inputs, (*shape[:-1], self.groups, channels // self.groups))
        return ops.reshape(ops.swapaxes(x, -1, -2), shape)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"groups": self.groups}


@keras.saving.register_keras_serializable("kcnn")
class DropPath(keras.layers.Layer):
    """Stochastic depth gives x / (1 - rate) or 0, drawn for each example; outside training, x itself.

    Huang et al., 2016 (https://arxiv.org/abs/1603.09382).
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        keep = 1 - self.rate
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        draws = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        return inputs * ops.cast(ops.floor(draws + keep) / keep, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"rate": self.rate, "seed": self.seed}
