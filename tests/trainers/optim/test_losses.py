"""Losses against Keras's, and where numbers are extreme."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainers.config import TrainConfig
from trainers.optim.losses import LOSSES, cross_entropy, focal, loss_function, one_hot, smooth
from trainers.settings import resolve

DRAWS = np.random.default_rng(0)
LOGITS = DRAWS.normal(size=(9, 5)).astype("float32") * 3
LABELS = DRAWS.integers(0, 5, 9)
SOFT = DRAWS.dirichlet(np.ones(5), 9).astype("float32")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_keras_s(smoothing):
    expected = keras.losses.categorical_crossentropy(
        np.eye(5, dtype="float32")[LABELS], LOGITS, from_logits=True, label_smoothing=smoothing
    )
    np.testing.assert_allclose(cross_entropy(LOGITS, smooth(one_hot(LABELS, 5), smoothing)), expected, rtol=1e-5)


def test_binary_cross_entropy_is_the_mean_over_classes():
    p = 1 / (1 + np.exp(-LOGITS.astype("float64")))
    expected = -(SOFT * np.log(p) + (1 - SOFT) * np.log(1 - p)).mean(-1)
    np.testing.assert_allclose(LOSSES["bce"](LOGITS, SOFT), expected, rtol=1e-5)
    np.testing.assert_allclose(
        LOSSES["bce"](LOGITS, SOFT), keras.losses.binary_crossentropy(SOFT, LOGITS, True), rtol=1e-5
    )


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_is_keras_s(gamma):
    hot = np.eye(5, dtype="float32")[LABELS]
    expected = keras.losses.categorical_focal_crossentropy(hot, LOGITS, alpha=1.0, gamma=gamma, from_logits=True)
    np.testing.assert_allclose(focal(LOGITS, hot, gamma), expected, rtol=1e-4, atol=1e-6)


def test_focal_by_hand():
    # p = 0.9 and 0.1: (1 - p)^2 is 0.01 and 0.81, and -log p 0.10536 and 2.302585.
    logits = np.log([[0.9, 0.1]]).astype("float32")
    np.testing.assert_allclose(focal(logits, [[1.0, 0.0]]), [0.0010536], rtol=1e-4)
    np.testing.assert_allclose(focal(logits, [[0.0, 1.0]]), [1.865094], rtol=1e-5)
    np.testing.assert_allclose(focal(LOGITS, SOFT, 0.0), cross_entropy(LOGITS, SOFT), rtol=1e-5)


def test_the_focus_is_the_configuration_s():
    flags = {"recipe": "default", "loss": "focal"}
    given = loss_function(resolve(TrainConfig(**flags, focal_gamma=0.0)))(LOGITS, SOFT)
    np.testing.assert_allclose(given, cross_entropy(LOGITS, SOFT), rtol=1e-5)
    default = loss_function(resolve(TrainConfig(**flags)))(LOGITS, SOFT)
    np.testing.assert_allclose(default, focal(LOGITS, SOFT, 2.0), rtol=1e-6)
    assert loss_function(resolve(TrainConfig(recipe="default"))) is cross_entropy


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_extremes_are_finite_and_compiled_the_same(name, gamma, dtype):
    loss = loss_function(resolve(TrainConfig(recipe="default", loss=name, focal_gamma=gamma)))
    logits = tf.cast([[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4], [0.0, 0.0, 0.0], [20.0, 0.0, -20.0]], dtype)
    targets = smooth(one_hot([0, 0, 1, 0], 3), 0.1)

    def value_and_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(logits, targets)
        return value, tape.gradient(value, logits)

    value, gradient = value_and_gradient(logits)
    assert value.dtype == tf.float32 and value.shape == (4,) and gradient.dtype == logits.dtype
    assert np.isfinite(value).all() and np.isfinite(tf.cast(gradient, tf.float32)).all()
    compiled, slope = tf.function(value_and_gradient, jit_compile=True)(logits)
    np.testing.assert_allclose(compiled, value, rtol=1e-5)
    np.testing.assert_allclose(tf.cast(slope, tf.float32), tf.cast(gradient, tf.float32), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_slopes_are_those_of_differences(name):
    x = tf.constant(LOGITS[:3])
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = LOSSES[name](x, SOFT[:3])
    gradient, h = tape.gradient(value, x).numpy(), 1e-2
    for c in range(5):
        step = np.zeros_like(LOGITS[:3])
        step[:, c] = h
        difference = (LOSSES[name](x + step, SOFT[:3]) - LOSSES[name](x - step, SOFT[:3])) / (2 * h)
        np.testing.assert_allclose(gradient[:, c], difference, rtol=1e-2, atol=2e-4)


def test_smoothing_by_hand():
    np.testing.assert_allclose(smooth(one_hot([1], 4), 0.1), [[0.025, 0.925, 0.025, 0.025]], rtol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(smooth(tf.constant(SOFT), 0.3), -1), 1.0, rtol=1e-6)
