"""Receptive fields against what a network does see, and what back-propagation keeps."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

import kcnn
import kcnn.layers
from kcnn.analysis.rules import RULES, Axis


def test_axes():
    assert Axis().window(1, 3, 2) == Axis(-1, 1, 2)
    assert Axis(-1, 1, 2).window(1, 3) == Axis(-3, 3, 2)
    assert Axis(-3, 3, 2).union(Axis(0, 8, 2)) == Axis(-3, 8, 2)
    assert (Axis(-3, 8, 2).size, Axis(-3, 8, 2).centre) == (12, 2.5)


# One network a family, as deep as one can measure in float32. Gates and all that is not linear are replaced below.
SEEN = {
    "vgg-11-bn": {},
    "googlenet": {},
    "inception-v3": {"depth": 0.3},
    "inception-v4": {"depth": 0.1},
    "inception-resnet-v2": {"depth": 0.1},
    "resnet-18": {},
    "resnet-50-v1": {"depth": 0.3},
    "resnet-50-v2": {"depth": 0.3},
    "plain-18": {},
    "wide-resnet-50-2": {"depth": 0.3},
    "resnext-50-32x4d": {"depth": 0.3},
    "densenet-121": {"depth": 0.1},
    "xception": {"depth": 0.1},
    "mobilenet-v1": {},
    "mobilenet-v2": {"depth": 0.4},
    "mobilenet-v3-large": {"depth": 0.3},
    "mnasnet-1.0": {"depth": 0.3},
    "efficientnet-b0": {"depth": 0.3},
    "efficientnet-lite0": {"depth": 0.3},
    "regnetx-200mf": {"depth": 0.3},
    "regnety-200mf": {"depth": 0.3},
}


@pytest.mark.parametrize("name", SEEN)
def test_receptive_fields_equal_measured_ones(name):
    check_field(name, **SEEN[name])


def check_field(name, **scaling):
    """The gradient of the middle output of a network that is linear and has positive weights alone: it differs from 0
    just where the output sees the image, which is large enough to hold all of that."""
    scaling = {"width": 0.125, "stem": "standard", **scaling}
    size = 32 * math.ceil(1.2 * kcnn.facts(name, **scaling).receptive_field / 32 + 3)
    model = linear(kcnn.build(name, 2, resolution=size, drop_path=0.0, **scaling))
    facts = kcnn.facts(model)
    end = next(c for c in reversed(facts.layers) if c.field)
    assert end.receptive_field == facts.receptive_field
    seen = gradient_of_the_middle(model, end.name, size)
    for axis, along, n in zip(end.field, (1, 0), end.shape, strict=False):
        places = np.flatnonzero(seen.max(axis=along))
        shift = n // 2 * axis.jump
        assert (places[0], places[-1]) == (axis.lo + shift, axis.hi + shift)
        assert places[-1] - places[0] + 1 == axis.size


def gradient_of_the_middle(model, name, size):
    import tensorflow as tf

    trunk = keras.Model(model.input, model.get_layer(name).output)
    image = tf.fill((1, size, size, 3), 255.0)
    with tf.GradientTape() as tape:
        tape.watch(image)
        y = trunk(image)
        # The scale keeps small gradients from vanishing; places of padding bring no gradient, and are not asked for.
        middle = tf.reduce_sum(y[:, y.shape[1] // 2, y.shape[2] // 2]) * 1e20
    return tape.gradient(middle, image).numpy()[0].sum(-1)


class Closed(layers.GlobalAveragePooling2D):
    """A gate of 1 in place of one that depends on the mean: gates do not count."""

    def call(self, inputs):
        return keras.ops.ones_like(super().call(inputs))


def linear(model):
    """The same graph: averages for maxima, no activations, positive weights that keep the size of what passes."""

    def swap(layer):
        config = layer.get_config()
        if isinstance(layer, layers.MaxPooling2D):
            return layers.AveragePooling2D.from_config(config)
        if isinstance(layer, layers.Activation):
            return layers.Activation.from_config(config | {"activation": "linear"})
        if type(layer).__name__ == "ResponseNormalization":
            return layers.Activation("linear", name=layer.name)
        if isinstance(layer, layers.GlobalAveragePooling2D) and layer.keepdims:
            return Closed.from_config(config)
        return type(layer).from_config(config)

    twin = keras.models.clone_model(model, clone_function=swap)
    for w in twin.weights:
        if "kernel" in w.path:
            inputs = math.prod(w.shape[:-2]) if "depthwise" in w.path else math.prod(w.shape[:-1])
            w.assign(np.full(w.shape, 1 / inputs))
    return twin


def test_fields_of_long_and_of_growing_windows():
    """1x7 and 7x1 apart; transposed convolutions, enlargement, dilation, cropping, by measurement."""
    x = keras.Input((48, 48, 3))
    y = layers.Conv2D(2, (1, 7), padding="same", name="wide")(x)
    y = layers.Conv2D(2, 3, dilation_rate=2, padding="same")(y)
    y = layers.Conv2D(2, 3, strides=2, padding="same")(y)
    y = layers.Conv2DTranspose(2, 4, strides=2, padding="same")(y)
    y = layers.Cropping2D(((3, 1), (2, 1)))(y)
    y = layers.UpSampling2D(2)(y)
    y = layers.Conv2D(2, 3, padding="same", name="end")(y)
    model = linear(keras.Model(x, layers.Dense(1)(layers.Flatten()(y))))
    facts = kcnn.facts(model)
    wide = next(c for c in facts.layers if c.name == "wide")
    assert [axis.size for axis in wide.field] == [1, 7]
    end = next(c for c in facts.layers if c.name == "end")
    seen = gradient_of_the_middle(model, "end", 48)
    for axis, along, n in zip(end.field, (1, 0), end.shape, strict=False):
        places = np.flatnonzero(seen.max(axis=along))
        shift = n // 2 * axis.jump
        # Where strides are undone, neighbours differ in what they see: the field is right to within that.
        assert axis.lo + shift - 1 <= places[0] and places[-1] <= axis.hi + shift + 1
        assert abs(axis.size - (places[-1] - places[0] + 1)) <= 4


def test_a_gate_does_not_count():
    """Squeeze-and-excite sees the whole image; its field is that of the network without it."""
    arch = kcnn.get("efficientnet-b0")
    plain = replace(
        arch, stages=tuple(replace(s, options={k: v for k, v in s.options.items() if k != "se"}) for s in arch.stages)
    )
    assert kcnn.facts(plain).receptive_field == kcnn.facts(arch).receptive_field == 851


def test_every_rule_is_of_a_layer_that_there_is():
    assert all(hasattr(layers, name) or hasattr(kcnn.layers, name) for name in RULES)


def test_every_rule_holds_known_letters():
    allowed = set("xyhmiv")
    for rule in RULES.values():
        layer = layers.Conv2D(1, 1, activation="silu") if rule.keeps.__name__ != "rectified" else layers.ReLU()
        assert set(rule.keeps(layer)) <= allowed
