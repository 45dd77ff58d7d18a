"""Folding changes no answer, of any family."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
from kcnn import layers
from kcnn.families.repvgg import merged
from kcnn.layers import BatchNormalization, Conv2D
from trainers.serving.folding import fold

# One or two of each family with normalizations: (name, pixels, whether some must stay).
FAMILIES = [
    ("vgg-11-bn", 32, False), ("inception-v3", 80, False), ("resnet-18", 32, False), ("resnet-50-v2", 32, True),
    ("resnext-50-32x4d", 32, False), ("densenet-121", 32, True), ("xception", 72, False), ("mobilenet-v2", 32, False),
    ("mobilenet-v3-small", 32, False), ("efficientnet-b0", 32, False), ("regnety-200mf", 32, False),
]  # fmt: skip

QUICK = ("resnet-18", "resnet-50-v2", "mobilenet-v2")


def used(model, seed=0):
    """The model with statistics and scales as of a long training."""
    draws = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.moving_mean.shape
            layer.set_weights(
                [
                    draws.uniform(0.5, 1.5, count),
                    draws.normal(0, 0.3, count),
                    draws.normal(0, 0.3, count),
                    draws.uniform(0.5, 1.5, count),
                ]
            )
    return model


def images(count, side):
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "name, side, some_stay", [pytest.param(*row, marks=() if row[0] in QUICK else pytest.mark.slow) for row in FAMILIES]
)
def test_a_folded_network_answers_alike(name, side, some_stay):
    keras.utils.set_random_seed(0)
    model = used(kcnn.build(name, 5, width=0.125, depth=0.2, resolution=side))
    norms = {layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    before = [w.copy() for w in model.get_weights()]
    folded = fold(model)
    assert set(folded.folded) | set(folded.kept) == norms and folded.folded and bool(folded.kept) == some_stay
    assert {x.name for x in folded.model.layers if isinstance(x, keras.layers.BatchNormalization)} == set(folded.kept)
    x = images(3, side)
    expected = tf.function(model)(x, training=False).numpy()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(tf.function(folded.model)(x, training=False), expected, rtol=1e-4, atol=1e-4)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_three_branches_become_one_convolution():
    """RepVGG leaves with one convolution a block, and as the facts of its merged form say."""
    keras.utils.set_random_seed(0)
    model = used(kcnn.build("repvgg-a0", 5, width=0.25, depth=0.2, resolution=32))
    ready = fold(model)
    blocks = {layer.name.rpartition("_add")[0] for layer in model.layers if layer.name.endswith("_add")}
    convolutions = [layer for layer in ready.model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(blocks) == len(convolutions) > 5 and not ready.kept
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    arch = merged(kcnn.scale(kcnn.get("repvgg-a0"), width=0.25, depth=0.2))
    facts = kcnn.facts(arch, 5, resolution=32)
    assert facts.params == ready.model.count_params() and facts.macs == kcnn.facts(ready.model).macs
    x = images(3, 32)
    np.testing.assert_allclose(ready.model(x, training=False), model(x, training=False), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("theirs", [False, True], ids=["ours", "Keras's"])
def test_without_norms_only_grouped_convolutions_change(theirs, monkeypatch):
    monkeypatch.setattr(layers, "Conv2D", keras.layers.Conv2D if theirs else Conv2D)
    model = used(kcnn.build("resnext-50-32x4d", 5, width=0.125, depth=0.2, resolution=32))
    ready = fold(model, norms=False)
    assert not ready.folded and len(ready.kept) > 10
    made = {layer.name: layer for layer in ready.model.layers}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.groups > 1:
            assert type(made[layer.name]) is Conv2D and made[layer.name].groups == layer.groups
        else:
            assert type(made[layer.name]) is type(layer)
    np.testing.assert_allclose(ready.model(images(2, 32)), model(images(2, 32)), rtol=1e-4, atol=1e-5)
    graph = tf.function(ready.model).get_concrete_function(tf.TensorSpec((1, 32, 32, 3))).graph.as_graph_def()
    assert not any(f.attr["_XlaMustCompile"].b for f in graph.library.function)


def test_what_others_read_or_bend_stays():
    x = inputs = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(4, 1, name="shared")(x)
    bent = keras.layers.Conv2D(4, 1, activation="relu", name="bent")(x)
    plain = keras.layers.Conv2D(4, 1, use_bias=False, name="plain")(x)
    flat = keras.layers.GlobalAveragePooling2D()(x)
    outputs = [
        shared,
        BatchNormalization(name="of_shared")(shared),
        BatchNormalization(name="of_bent")(bent),
        BatchNormalization(name="of_plain", scale=False)(plain),
        BatchNormalization(name="of_dense", center=False)(keras.layers.Dense(3)(flat)),
        BatchNormalization(name="of_input")(x),
    ]
    model = used_all(keras.Model(inputs, outputs))
    folded = fold(model)
    assert set(folded.folded) == {"of_plain", "of_dense"}
    assert set(folded.kept) == {"of_shared", "of_bent", "of_input"}
    for a, b in zip(folded.model(images(2, 8)), model(images(2, 8)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def used_all(model):
    draws = np.random.default_rng(2)
    for v in model.weights:
        v.assign(draws.uniform(0.5, 1.5, v.shape))
    return model
