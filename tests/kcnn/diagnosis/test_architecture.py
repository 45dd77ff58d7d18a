"""What networks are made of, against papers and against what is counted by hand."""

from collections import Counter

import keras
import pytest

import kcnn
from kcnn.diagnosis.architecture import architecture


def small(name):
    """The network with few channels: its blocks are the same."""
    return kcnn.build(name, classes=10, width=0.5, resolution=kcnn.get(name).resolution)


def kinds(model):
    return Counter(block.kind for block in architecture(model).blocks)


def slow(*row):
    return pytest.param(*row, marks=pytest.mark.slow)


@pytest.mark.parametrize("name, expected, layers", [
    ("resnet-18", {"plain": 1, "residual": 8}, 18),
    ("mobilenet-v2", {"plain": 2, "separable": 1, "inverted": 16}, 53),
    slow("resnet-50", {"plain": 1, "bottleneck": 16}, 50),
    slow("plain-18", {"plain": 17}, 18),
    slow("vgg-11", {"plain": 8}, 11),
    slow("mobilenet-v1", {"plain": 1, "separable": 13}, 28),
    slow("densenet-121", {"plain": 4, "dense": 58}, 121),
    slow("googlenet", {"plain": 3, "branches": 9}, 22),
    slow("xception", {"plain": 2, "residual": 12, "separable": 2}, None),
])  # fmt: skip
def test_blocks_are_those_of_the_paper(name, expected, layers):
    found = architecture(small(name))
    assert Counter(block.kind for block in found.blocks) == expected
    if layers:
        assert found.longest == layers


@pytest.mark.parametrize(
    "name, log2", [("resnet-18", 8), slow("resnet-50", 16), slow("vgg-11", 0), slow("densenet-121", 58)]
)
def test_paths_of_residual_networks(name, log2):
    assert architecture(small(name)).to_dict()["paths_log2"] == log2


def test_the_shortest_way_takes_the_shortcuts():
    assert architecture(small("resnet-18")).shortest == 1 + 3 + 1  # the stem, projections, the classifier


@pytest.mark.slow
def test_ratios_and_groups():
    blocks = architecture(kcnn.build("resnext-50-32x4d", resolution=64)).blocks
    assert [b.groups for b in blocks[1:]] == [32] * 16
    first = blocks[1]
    assert (first.inputs, first.inner, first.outputs, first.shortcut) == (64, 128, 256, "projection")
    inverted = architecture(kcnn.build("mobilenet-v2", resolution=64)).blocks[3]
    assert (inverted.kind, inverted.expansion, inverted.ratio, inverted.kernels) == ("inverted", 6, 6, (1, 3, 1))
    assert inverted.activated == "" and inverted.groups == 144 and inverted.name == "stage2_block2"


def test_names_and_blocks_of_a_network_that_is_not_ours():
    model = keras.applications.MobileNetV2(weights=None, input_shape=(64, 64, 3))
    assert kinds(model) == {"plain": 2, "separable": 1, "inverted": 16}
    assert [b.name for b in architecture(model).blocks][:3] == ["Conv1", "expanded_conv", "block_1"]


def by_hand(projection_activation=None):
    """Two residual blocks, of which the second has another one inside, and a gate of squeeze-and-excite."""
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(image)
    f = keras.layers.Conv2D(32, 1, name="a_expand")(x)
    f = keras.layers.DepthwiseConv2D(3, padding="same", name="a_depthwise")(f)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name="a_pool")(f)
    gate = keras.layers.Conv2D(32, 1, activation="sigmoid", name="a_gate")(gate)
    f = keras.layers.Multiply(name="a_scale")([f, gate])
    f = keras.layers.Conv2D(8, 1, name="a_project")(f)
    f = keras.layers.BatchNormalization(name="a_norm")(f)
    if projection_activation:
        f = keras.layers.Activation(projection_activation, name="a_act")(f)
    x = keras.layers.Add(name="a_add")([x, f])
    f = keras.layers.Conv2D(8, 3, padding="same", name="b_first")(x)
    inner = keras.layers.Conv2D(8, 3, padding="same", name="b_inner")(f)
    f = keras.layers.Add(name="b_inner_add")([f, inner])
    x = keras.layers.Add(name="b_add")([x, f])
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))


def test_a_small_network_counted_by_hand():
    found = architecture(by_hand())
    assert [(b.name, b.kind, b.shortcut) for b in found.blocks] == [
        ("stem", "plain", ""), ("a", "inverted", "identity"), ("b", "residual", "identity"),
    ]  # fmt: skip
    # Through the first block 2 ways; through the second its shortcut, or the first layer and 2 ways from there.
    assert (found.paths, found.shortest, found.longest) == (2 * 3, 2, 1 + 3 + 2 + 1)
    assert found.blocks[1].expansion == 4 and found.blocks[1].layers == 3  # a gate's are not on the way


@pytest.mark.parametrize("activation", ["relu", "relu6", "silu"])
def test_an_activation_on_a_projection_is_named(activation):
    assert architecture(by_hand()).blocks[1].activated == ""
    assert architecture(by_hand(activation)).blocks[1].activated == activation


def test_a_network_without_layers_has_one_way():
    image = keras.Input((8, 8, 3))
    found = architecture(keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)))
    assert (found.blocks, found.paths, found.longest) == ((), 1, 0)


def test_a_model_that_is_not_functional_is_one_line():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(kcnn.InputError, match="has no graph"):
        architecture(Own())
