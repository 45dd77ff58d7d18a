"""Our layers against Keras's own, and against their formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kcnn.layers import BatchNormalization, DropPath


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
