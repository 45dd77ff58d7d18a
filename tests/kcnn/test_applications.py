"""Families of keras.applications give the same outputs for the same weights, layer by layer."""

import re
from dataclasses import replace

import keras
import numpy as np
import pytest

import kcnn


def by_order(layers):
    """A chain has one order only."""
    return [layer for layer in layers if layer.weights]


def by_number(layers, kind):
    """conv2d, conv2d_1, ...: the order in which Keras made its unnamed layers of a kind."""
    numbers = {layer: re.fullmatch(rf"{kind}(?:_(\d+))?", layer.name) for layer in layers}
    return sorted((x for x in layers if numbers[x]), key=lambda x: int(numbers[x][1] or 0))


def by_place(layers, kind):
    """Ours of a kind in stems and branches, from the first stage to the last, branch after branch."""
    found = [x for x in layers if type(x).__name__ == kind and re.match(r"stem|stage\d+_block\d+_path", x.name)]
    return sorted(found, key=lambda x: (x.name[:4] != "stem", natural(x.name)))


def natural(name):
    return [(word, int(n or 0)) for word, n in re.findall(r"([a-z]+)_?(\d*)", re.sub(r"_bn|(?<=\d)_(?=\d)", "n", name))]


def by_name(rules):
    """Keras's names, rewritten by one rule after another."""

    def ours(name):
        for pattern, to in rules:
            name = re.sub(pattern, to, name)
        return name

    return ours


RESNET = by_name([
    (r"^conv1_conv$", "stem1_conv"), (r"^conv1_bn$", "stem1_conv_bn"), (r"^predictions$", "logits"),
    (r"^conv(\d)_block(\d+)_(\d)", lambda m: f"stage{int(m[1]) - 1}_block{m[2]}_{PARTS[int(m[3])]}"),
    (r"_conv$", ""), (r"^(stage\d_block\d+)$", r"\1_conv"), (r"^stem1$", "stem1_conv"), (r"_3x3", "_conv"),
])  # fmt: skip
PARTS = ("shortcut", "reduce", "3x3", "expand")
DENSENET = by_name([
    (r"^conv1_conv$", "stem1_conv"), (r"^conv1_bn$", "stem1_conv_bn"), (r"^predictions$", "logits"),
    (r"^bn$", "head1_norm_bn"), (r"^pool(\d)_bn$", r"stage\1_block1_transition_pre_bn"),
    (r"^pool(\d)_conv$", r"stage\1_block1_transition"),
    (r"^conv(\d)_block", lambda m: f"stage{int(m[1]) - 1}_block"),
    (r"_0_bn$", "_pre_bn"), (r"_1_conv$", "_reduce"), (r"_1_bn$", "_reduce_bn"), (r"_2_conv$", "_conv"),
])  # fmt: skip
INCEPTION = by_name([
    (r"^predictions$", "logits"), (r"^conv_7b", "head1_conv"), (r"^block8_10_conv$", "stage7_block1_expand"),
    (r"^block(35|17|8)_(\d+)_conv$", lambda m: f"stage{ {'35': 2, '17': 4, '8': 6}[m[1]]}_block{m[2]}_expand"),
])  # fmt: skip
# name, Keras's, resolution, how layers pair
APPLICATIONS = [
    ("vgg-16", "VGG16", 32, by_order),
    ("resnet-50-v1", "ResNet50", 64, RESNET),
    ("densenet-121", "DenseNet121", 64, DENSENET),
    ("mobilenet-v1", "MobileNet", 64, by_order),
    ("mobilenet-v2", "MobileNetV2", 64, by_order),
    ("mobilenet-v3-large", "MobileNetV3Large", 64, by_order),
    ("mobilenet-v3-small", "MobileNetV3Small", 64, by_order),
    ("efficientnet-b0", "EfficientNetB0", 64, by_order),
    ("inception-v3", "InceptionV3", 96, INCEPTION),
    ("inception-resnet-v2", "InceptionResNetV2", 96, INCEPTION),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, theirs, resolution, pairing", APPLICATIONS, ids=lambda x: x if isinstance(x, str) else ""
)
def test_outputs_equal_those_of_keras_applications(name, theirs, resolution, pairing):
    inside = {"include_preprocessing": False} if "V3" in theirs and "Mobile" in theirs else {}
    source = getattr(keras.applications, theirs)(weights=None, classes=10, classifier_activation=None,
                                                 input_shape=(resolution, resolution, 3), **inside)  # fmt: skip
    raw = 255.0 if name == "efficientnet-b0" else 1.0  # Keras's divides inside
    arch = kcnn.get(name)
    arch = replace(arch, style=replace(arch.style, mean=(0.0,) * 3, std=(raw,) * 3))
    target = kcnn.build(arch, 10, resolution=resolution, stem="standard")
    randomize(source)
    theirs_in, ours_in = by_order(source.layers), by_order(target.layers)
    theirs_in = [layer for layer in theirs_in if type(layer).__name__ != "Normalization"]
    if pairing is not by_order:
        names = {layer.name: layer for layer in ours_in}
        if pairing is INCEPTION:
            numbered = [layer for kind in ("conv2d", "batch_normalization") for layer in by_number(theirs_in, kind)]
            placed = [layer for kind in ("Conv2D", "BatchNormalization") for layer in by_place(ours_in, kind)]
        else:
            numbered = placed = []
        named = [layer for layer in theirs_in if layer not in numbered]
        theirs_in, ours_in = numbered + named, placed + [names[pairing(layer.name)] for layer in named]
        assert len({layer.name for layer in ours_in}) == len(names)
    for one, other in zip(theirs_in, ours_in, strict=True):
        hand_over(one, other)
    images = np.random.default_rng(0).normal(0, raw / 2, (2, resolution, resolution, 3)).astype("float32")
    expected = np.asarray(source(images, training=False)).reshape(2, 10)
    assert expected.std() > 0
    np.testing.assert_allclose(target(images, training=False), expected, atol=1e-4 * np.abs(expected).max())


def randomize(model):
    """Random statistics and scales, too: with fresh ones a wrong order could go unseen."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for w in layer.weights:
                near = 1.0 if w.name in ("gamma", "moving_variance") else 0.0
                w.assign(near + rng.uniform(-0.2, 0.2, w.shape))


def hand_over(source, target):
    """A layer's weights, with the scale that Inception lacks, and without biases, which are zero in new ones."""
    weights = [w.reshape(target.weights[0].shape) if w.ndim == 4 else w for w in source.get_weights()]
    if isinstance(source, keras.layers.BatchNormalization) and len(weights) < 4:
        weights.insert(0, np.ones_like(weights[0]))
    if isinstance(target, keras.layers.Dense) and weights[0].ndim == 4:
        weights[0] = weights[0].reshape(target.weights[0].shape)
    target.set_weights(weights[: len(target.weights)])


@pytest.mark.slow
def test_xception_equals_that_of_keras_applications():
    """Its separable convolutions are one layer in Keras, and two here."""
    source = keras.applications.Xception(weights=None, classes=10, classifier_activation=None, input_shape=(96, 96, 3))
    arch = kcnn.get("xception")
    target = kcnn.build(replace(arch, style=replace(arch.style, mean=(0.0,) * 3, std=(1.0,) * 3)), 10, resolution=96)
    randomize(source)
    ours = {layer.name: layer for layer in target.layers if layer.weights}
    convs, norms = (by_number(source.layers, kind) for kind in ("conv2d", "batch_normalization"))
    pairs = [("block1_conv1", "stem1_conv"), ("block1_conv2", "stem2_conv")]
    pairs += [(f"{a}_bn", f"{b}_bn") for a, b in pairs] + [("predictions", "logits")]
    for conv, norm, stage in zip(convs, norms, (1, 2, 3, 5), strict=True):
        pairs += [(conv.name, f"stage{stage}_block1_shortcut"), (norm.name, f"stage{stage}_block1_shortcut_bn")]
    for number in range(2, 15):
        stage, block = (number - 1, 1) if number < 5 else (4, number - 4) if number < 13 else (5, 1)
        for i in range(1, 4 if stage == 4 else 3):
            to = f"stage{stage}_block{block}_sep{i}" if number < 14 else f"head{i}_separable_layer"
            pairs += [(f"block{number}_sepconv{i}", to), (f"block{number}_sepconv{i}_bn", f"{to}_pointwise_bn")]
    for one, to in pairs:
        weights = source.get_layer(one).get_weights()
        if "sepconv" in one and not one.endswith("_bn"):
            ours.pop(f"{to}_depthwise").set_weights(weights[:1])
            ours.pop(f"{to}_pointwise").set_weights(weights[1:])
        else:
            ours.pop(to).set_weights(weights)
    assert not ours
    images = np.random.default_rng(0).normal(0, 0.5, (2, 96, 96, 3)).astype("float32")
    expected = np.asarray(source(images, training=False))
    np.testing.assert_allclose(target(images, training=False), expected, atol=1e-4 * np.abs(expected).max())
