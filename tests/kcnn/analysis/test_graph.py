"""The graph of any Keras model, against counts by other means."""

import math

import keras
import pytest
from keras import layers

import kcnn
from kcnn.builder import abstract

# Models that are not ours: (parameters, multiply-adds, activations) as measured by other means, receptive field as in
# https://distill.pub/2019/computing-receptive-fields, where given there.
APPLICATIONS = {
    "VGG16": (138_357_544, 15_470_264_320, 13_547_520, 212),
    "ResNet50": (25_583_592, 3_857_973_248, 10_587_136, 483),
    "ResNet50V2": (25_568_360, 3_482_255_360, 9_270_016, None),
    "DenseNet121": (7_978_856, 2_834_161_664, 6_899_200, None),
    "InceptionV3": (23_817_352, 5_713_216_096, 8_967_488, 1311),
    "InceptionResNetV2": (55_813_192, 13_155_794_016, 25_058_976, 3039),
    "Xception": (22_855_952, 8_357_403_496, 35_824_968, None),
    "MobileNet": (4_231_976, 568_740_352, 5_043_688, 315),
    "MobileNetV2": (3_504_872, 300_774_272, 6_678_112, None),
    "MobileNetV3Large": (5_483_032, 216_589_760, 4_407_168, None),
    "EfficientNetB0": (5_288_548, 385_814_752, 6_747_036, None),
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_any_keras_model_is_counted(name):
    with abstract():
        model = getattr(keras.applications, name)(weights=None)
    facts = kcnn.facts(model, resolution=None if model.input_shape[1] else 224)
    params, macs, activations, field = APPLICATIONS[name]
    assert (facts.params, facts.macs, facts.activations) == (params, macs, activations)
    assert facts.params == sum(math.prod(w.shape) for w in model.trainable_weights)
    assert facts.params_nontrainable == sum(math.prod(w.shape) for w in model.non_trainable_weights)
    assert field in (None, facts.receptive_field)
    for what in ("params", "macs", "activations"):
        assert sum(getattr(s, what) for s in facts.stages) == getattr(facts, what)


@pytest.mark.parametrize("name", ["NASNetMobile", "EfficientNetV2B0", "ConvNeXtTiny"])
def test_no_layer_of_keras_applications_is_unknown(name):
    with abstract():
        model = getattr(keras.applications, name)(weights=None)
    assert kcnn.facts(model).params == sum(math.prod(w.shape) for w in model.trainable_weights)


def test_nested_shared_and_open_models():
    """A model inside another one is opened up; what is called twice works twice and weighs once."""
    with abstract():
        inner = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(8, 3, name="c"), layers.ReLU(name="r")])
        a, b = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
        both = layers.concatenate([inner(a), inner(b)])
        model = keras.Model([a, b], layers.Dense(5)(layers.Flatten()(both)))
    facts = kcnn.facts(model)
    assert facts.params == 3 * 3 * 3 * 8 + 8 + 14 * 14 * 16 * 5 + 5
    assert facts.activations == 2 * 14 * 14 * 8
    assert facts.macs == 2 * 14 * 14 * 8 * 27 + 14 * 14 * 16 * 5
    assert "sequential" in facts.layers[0].name and facts.layers[0].name.endswith("/c")
    with pytest.raises(kcnn.InputError, match="open: give a resolution"):
        kcnn.facts(inner)
    assert kcnn.facts(inner, resolution=10).activations == 8 * 8 * 8


def test_operations_of_keras_are_layers_too():
    with abstract():
        x = keras.Input((8, 8, 4))
        y = keras.ops.relu(layers.SeparableConv2D(6, 3, padding="same")(x) + 3.0) * 0.5
        model = keras.Model(x, keras.ops.mean(y, axis=(1, 2)))
    facts = kcnn.facts(model)
    assert facts.macs == 8 * 8 * (4 * 9 + 4 * 6)
    assert facts.activations == 8 * 8 * (4 + 6)
    assert facts.receptive_field == 3


def test_frozen_weights_are_not_trainable():
    model = kcnn.build("resnet-18", 10, width=0.125, resolution=32)
    whole = kcnn.facts(model)
    for layer in model.layers[:-1]:
        layer.trainable = False
    frozen = kcnn.facts(model)
    assert frozen.params == 64 * 10 + 10
    assert frozen.params + frozen.params_nontrainable == whole.params + whole.params_nontrainable
    assert frozen.memory(8) < whole.memory(8)
    assert frozen.memory_parts(8)["activations"] == 8 * 4 * 64  # the last layer's input


def test_an_unknown_layer_is_an_error_that_names_it():
    x = keras.Input((8, 8, 4))
    model = keras.Model(x, layers.Conv3D(2, 1, name="odd")(layers.Reshape((8, 8, 4, 1))(x)))
    with pytest.raises(kcnn.InputError, match="'odd' is a Conv3D"):
        kcnn.facts(model)
    with pytest.raises(kcnn.InputError, match="'odd' is a Lambda"):
        kcnn.facts(keras.Model(x, layers.Lambda(lambda x: x, name="odd")(x)))
    with pytest.raises(kcnn.InputError, match="is a Average"):  # an operation, not the layer of this name
        kcnn.facts(keras.Model(x, keras.ops.average(x, axis=1)))
