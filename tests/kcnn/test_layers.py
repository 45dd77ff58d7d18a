"""Our layers against Keras's own, and against their formulas."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from kcnn.layers import BatchNormalization, Conv2D, DepthwiseConv2D, DropPath, norms


def pair(**options):
    """Our layer and Keras's, with the same random weights."""
    draws = np.random.default_rng(0)
    layers = BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    for layer in layers:
        layer.build((None, 6, 6, 5))
    weights = [draws.uniform(0.5, 1.5, w.shape) for w in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False, "epsilon": 1e-5, "momentum": 0.9}])
@pytest.mark.parametrize("training", [True, False])
def test_batch_normalization_is_keras_s(options, training):
    x = tf.constant(np.random.default_rng(1).normal(3.0, 2.0, (4, 6, 6, 5)).astype("float32"))
    found = []
    for layer in pair(**options):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(y * tf.cos(y))
        wanted = [x, *(v.value for v in layer.trainable_variables)]
        found.append([y, *tape.gradient(loss, wanted), *(w for w in layer.get_weights())])
    for ours, keras_s in zip(*found, strict=True):
        np.testing.assert_allclose(ours, keras_s, rtol=2e-3, atol=1e-4)


def test_weights_are_interchangeable_with_keras_s():
    ours, keras_s = pair()
    assert [v.name for v in ours.weights] == [v.name for v in keras_s.weights]
    assert [v.name for v in ours.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]


def test_one_operation_normalizes():
    layer, _ = pair()
    graph = tf.function(lambda x: layer(x, training=True)).get_concrete_function(tf.TensorSpec((4, 6, 6, 5))).graph
    assert [op.type for op in graph.get_operations()].count("FusedBatchNormV3") == 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("flags, apart", [("fma avx2", True), ("avx2 avx512f", False), ("", False)])
def test_it_is_kept_apart_from_convolutions_where_onednn_is_slow_at_both(monkeypatch, flags, apart, training):
    layer, _ = pair()
    monkeypatch.setattr(norms, "cpuinfo", lambda: {"flags": flags})
    norms._fusing_is_slow.cache_clear()
    graph = tf.function(lambda x: layer(x, training=training)).get_concrete_function(tf.TensorSpec((4, 6, 6, 5))).graph
    norms._fusing_is_slow.cache_clear()
    assert ("EnsureShape" in [op.type for op in graph.get_operations()]) == (apart and not training)


@pytest.mark.parametrize("shape", [(7, 5), (7, 3, 5)])
def test_other_than_images_take_the_plain_formula(shape):
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    np.testing.assert_allclose(
        BatchNormalization()(x, training=True), keras.layers.BatchNormalization()(x, training=True)
    )


def test_a_frozen_layer_keeps_its_statistics():
    layer, _ = pair()
    layer.trainable = False
    before = layer.get_weights()
    layer(np.ones((2, 6, 6, 5), "float32"), training=True)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bfloat16_keeps_statistics_in_float32():
    layer = BatchNormalization(dtype="mixed_bfloat16")
    y = layer(np.random.default_rng(0).normal(size=(4, 6, 6, 5)).astype("float32"), training=True)
    assert y.dtype == tf.bfloat16 and all(v.dtype == "float32" for v in layer.weights)


@pytest.mark.parametrize("layer", [BatchNormalization(synchronized=True, epsilon=1e-5), DropPath(0.25, seed=3)])
def test_layers_are_saved_with_their_settings(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()


def test_drop_path_drops_whole_examples_at_its_rate():
    x = np.ones((4000, 2, 2, 3), "float32")
    y = DropPath(0.25, seed=0)(x, training=True).numpy()
    kept = y[:, 0, 0, 0] > 0
    assert (y == y[:, :1, :1, :1]).all()
    np.testing.assert_allclose(y[kept], 1 / 0.75)
    assert abs(kept.mean() - 0.75) < 0.03
    np.testing.assert_array_equal(DropPath(0.25)(x, training=False), x)


POINTS = [{}, {"use_bias": True}, {"use_bias": True, "activation": "relu"}]
WIDE = [
    {"kernel_size": 5},
    {"kernel_size": 5, "strides": 2},
    {"kernel_size": 7, "strides": 2, "use_bias": True, "activation": "relu"},
    {"kernel_size": (5, 6), "padding": "valid"},
    {"kernel_size": 5, "strides": 2, "padding": "valid"},
]
CASES = [(Conv2D, keras.layers.Conv2D, {"filters": 6, "kernel_size": 1, "use_bias": False} | case) for case in POINTS]
CASES += [
    (DepthwiseConv2D, keras.layers.DepthwiseConv2D, {"padding": "same", "use_bias": False} | case) for case in WIDE
]


@pytest.mark.parametrize("ours, keras_s, options", CASES)
@pytest.mark.parametrize("side", [9, 10])
def test_convolutions_train_as_keras_s(ours, keras_s, options, side):
    """The output and all gradients, in a graph of unknown and of known batch."""
    draws = np.random.default_rng(2)
    x = draws.normal(size=(3, side, side, 4)).astype("float32")
    found = []
    for kind in (ours, keras_s):
        layer = kind(**options)
        layer.build((None, side, side, 4))
        layer.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in layer.weights])
        for batch in (None, 3):
            found.append(differentiated(layer, x, batch))
            assert layer(x, training=False).shape == found[-1][0].shape
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


def differentiated(layer, x, batch):
    variables = [v.value for v in layer.trainable_variables]

    @tf.function(input_signature=[tf.TensorSpec((batch, *x.shape[1:]))])
    def graph(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True) if "training" in inspect.signature(layer.call).parameters else layer(x)
            loss = tf.reduce_sum(y * tf.cos(y))
        return [y, *tape.gradient(loss, [x, *variables])]

    return [t.numpy() for t in graph(x)]


@pytest.mark.parametrize("layer, wanted, unwanted", [
    (lambda: Conv2D(6, 1), "MatMul", "Conv2D"),
    (lambda: DepthwiseConv2D(5, padding="same"), "DepthwiseConv2dNative", "Conv2D"),
])  # fmt: skip
def test_training_on_a_cpu_takes_the_faster_operations(layer, wanted, unwanted):
    """A 1x1 convolution and its gradients are products; the gradient of a 5x5 depthwise kernel has explicit padding."""
    layer, x = layer(), tf.ones((2, 8, 8, 4))
    layer.build(x.shape)

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(x, training=True)))
        return tape.gradient(loss, layer.trainable_variables[0].value)

    operations = gradients.get_concrete_function().graph.get_operations()
    types = [op.type for op in operations]
    assert wanted in types and unwanted not in types
    filters = [op for op in operations if op.type == "DepthwiseConv2dNativeBackpropFilter"]
    assert [op.get_attr("padding") for op in filters] == [b"EXPLICIT"] * types.count("DepthwiseConv2dNative")
    served = tf.function(lambda: layer(x, training=False)).get_concrete_function().graph
    assert {"Conv2D", "DepthwiseConv2dNative"} & {op.type for op in served.get_operations()}
