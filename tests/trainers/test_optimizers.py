"""The fused updates against Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainers.optimizers import FUSED


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_updates_are_keras_s(name, nesterov):
    def make():
        if name == "sgd":
            return keras.optimizers.SGD(0.1, momentum=0.9, nesterov=nesterov)
        return keras.optimizers.AdamW(0.1, weight_decay=0.05)

    draws = np.random.default_rng(0)
    gradients = draws.normal(size=(5, 3, 2)).astype("float32")
    ends = []
    for fused in (False, True):
        optimizer, variable = make(), keras.Variable(np.ones((3, 2), "float32"))
        optimizer.build([variable])
        if fused:
            optimizer.update_step = lambda g, v, lr, o=optimizer: FUSED[name](o, g, v, lr)
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)], [variable])
        ends.append([v.numpy() for v in (variable, *optimizer.variables)])
    for keras_s, ours in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, keras_s, rtol=1e-5, atol=1e-6)
