"""Grouped convolutions: TensorFlow's own operations, equal to Keras's XLA in all that a training sees."""

import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
from kcnn import layers
from kcnn.layers import Conv2D, convolutions

GROUPS = 4
SHAPES = {
    "same": {"padding": "same"},
    "valid": {"padding": "valid"},
    "same, stride 2": {"padding": "same", "strides": 2},
    "valid, stride 2": {"padding": "valid", "strides": 2},
    "1x1": {"kernel_size": 1},
    "1x1, stride 2": {"kernel_size": 1, "strides": 2},
    "1x3, a bias and an activation": {"kernel_size": (1, 3), "padding": "same", "use_bias": True, "activation": "relu"},
}


def layer(**options):
    """One of ours, with random weights."""
    made = Conv2D(12, **({"kernel_size": 3, "groups": GROUPS, "use_bias": False} | options))
    made.build((None, 9, 9, 8))
    draws = np.random.default_rng(1)
    made.set_weights([draws.normal(0, 0.3, w.shape) for w in made.weights])
    return made


def by_groups(made, x):
    """What a grouped convolution is: one convolution a group."""
    kernel, *bias = (v.value for v in made.weights)
    pairs = zip(tf.split(x, GROUPS, -1), tf.split(kernel, GROUPS, -1), strict=True)
    y = tf.concat([tf.nn.conv2d(a, k, made.strides, made.padding.upper()) for a, k in pairs], -1)
    return made.activation(y + bias[0] if bias else y)


def differentiated(call, made):
    """The output and its gradients."""
    x = tf.constant(np.random.default_rng(2).normal(size=(3, 9, 9, 8)), made.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = call(x)
        loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
    return [y, *tape.gradient(loss, [x, *(v.value for v in made.weights)])]


def assert_close(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        a, b = np.asarray(tf.cast(a, tf.float32)), np.asarray(tf.cast(b, tf.float32))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("direct", [True, False], ids=["whole", "a convolution a group"])
@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_the_layer_and_its_gradients_are_those_of_its_groups(options, direct, monkeypatch):
    if not direct:
        monkeypatch.setattr(convolutions, "_cpu_differentiates_groups", lambda dtype: False)
    made = layer(**options)
    assert_close(differentiated(made, made), differentiated(lambda x: by_groups(made, x), made), 1e-4)


@pytest.mark.parametrize("dtype", ["float64", "mixed_float16", "mixed_bfloat16"])
def test_every_precision_has_gradients(dtype):
    """oneDNN has none of float64, nor of float16 on CPUs without AVX-512."""
    made = layer(dtype=dtype)
    plain = layer()
    found = differentiated(made, made)
    assert found[0].dtype == made.compute_dtype and found[2].dtype == made.variable_dtype
    assert_close(found, differentiated(plain, plain), 1e-4 if dtype == "float64" else 0.02)


def test_settings_it_cannot_have_are_left_to_keras():
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 8)).astype("float32")
    for options in ({"groups": 1}, {"dilation_rate": 2}):
        made = layer(**options)
        theirs = keras.layers.Conv2D.from_config(made.get_config())
        theirs.build(x.shape)
        theirs.set_weights(made.get_weights())
        np.testing.assert_allclose(made(x), theirs(x), rtol=1e-4, atol=1e-5)


def small(padding="symmetric", **changes):
    """A RegNet of three blocks, without kinks: next to one of a ReLU the last bit decides on a gradient."""
    arch = kcnn.get("anynety-d1x2-w16x32-g8")
    return replace(arch, style=replace(arch.style, padding=padding, activation="silu", **changes))


def built(kind, arch, monkeypatch):
    """The network with layers of a kind for its grouped convolutions, always with the same weights."""
    monkeypatch.setattr(layers, "Conv2D", kind)
    keras.utils.set_random_seed(0)
    model = kcnn.build(arch, 5, resolution=32, stem="standard")
    assert sum(type(x) is kind and x.groups > 1 for x in model.layers) == 3
    return model


def test_a_network_of_them_needs_no_xla(monkeypatch):
    model = built(Conv2D, small(), monkeypatch)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(model(x, training=True))
        return tape.gradient(y, model.trainable_variables)

    graph = step.get_concrete_function(tf.TensorSpec((4, 32, 32, 3))).graph.as_graph_def()
    assert not any(f.attr["_XlaMustCompile"].b for f in graph.library.function)


def test_what_was_saved_with_keras_s_layers_still_serves(tmp_path, monkeypatch):
    theirs = built(keras.layers.Conv2D, small(), monkeypatch)
    ours = built(Conv2D, small(), monkeypatch)
    assert [v.path for v in ours.weights] == [v.path for v in theirs.weights]
    assert [x.get_config() for x in ours.layers] == [x.get_config() for x in theirs.layers]
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    for i, model in enumerate((theirs, ours)):
        model.save(tmp_path / f"{i}.keras")
        again = keras.saving.load_model(tmp_path / f"{i}.keras")
        assert [type(x) for x in again.layers] == [type(x) for x in model.layers]
        for a, b in zip(again.get_weights(), ours.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(again(images), ours(images))
    theirs.save_weights(tmp_path / "x.weights.h5")
    ours.load_weights(tmp_path / "x.weights.h5")


def trained(kind, arch, monkeypatch, replicas=1, precision="float32", steps=10):
    """All weights after some steps of SGD at a small rate."""
    devices = [f"CPU:{n}" for n in range(replicas)]
    strategy = tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(precision)
        with strategy.scope():
            model = built(kind, arch, monkeypatch)
    finally:
        keras.config.set_dtype_policy(policy)
    draws = np.random.default_rng(0)
    images = draws.uniform(0, 255, (16, 32, 32, 3)).astype("float32")
    labels = draws.integers(0, 5, 16)
    size = 16 // replicas

    def replica_step():
        context = tf.distribute.get_replica_context()
        start = context.replica_id_in_sync_group * size
        x, y = (tf.slice(a, [start, *[0] * (a.ndim - 1)], [size, *a.shape[1:]]) for a in (images, labels))
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=True))
            loss = tf.reduce_sum(losses) / 16
        variables = [v.value for v in model.trainable_variables]
        gradients = context.all_reduce("sum", tape.gradient(loss, variables))
        for v, g in zip(variables, gradients, strict=True):
            v.assign_sub(1e-3 * g)
        return tf.identity(loss)

    @tf.function
    def step():
        return strategy.run(replica_step)

    for _ in range(steps):
        step()
    return [v.numpy() for v in model.weights]


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_ten_steps_are_those_of_xla(padding, replicas, monkeypatch):
    arch = small(padding)
    ours, theirs = (trained(kind, arch, monkeypatch, replicas) for kind in (Conv2D, keras.layers.Conv2D))
    start = [v.numpy() for v in built(Conv2D, arch, monkeypatch).weights]
    assert max(np.abs(a - b).max() for a, b in zip(ours, start, strict=True)) > 1e-4  # they moved
    assert max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_ten_steps_in_mixed_precision_are_those_of_xla_within_its_rounding(precision, monkeypatch):
    ours, theirs, exact = (
        trained(kind, small(), monkeypatch, precision=p)
        for kind, p in ((Conv2D, precision), (keras.layers.Conv2D, precision), (Conv2D, "float32"))
    )
    off, theirs_off = (max(np.abs(a - b).max() for a, b in zip(w, exact, strict=True)) for w in (ours, theirs))
    assert off < 2 * theirs_off


WITHOUT_ONEDNN = """
import sys
import keras, numpy as np, tensorflow as tf
import kcnn
from kcnn.layers.convolutions import _cpu_differentiates_groups

assert not _cpu_differentiates_groups(tf.float32)
x = np.load(sys.argv[1] + "/x.npy")
for name in ("folded", "plain"):
    serve = tf.saved_model.load(f"{sys.argv[1]}/{name}").signatures["serving_default"]
    (y,) = serve(tf.constant(x)).values()
    np.testing.assert_allclose(y, np.load(f"{sys.argv[1]}/{name}.npy"), rtol=1e-3, atol=1e-4)
model = kcnn.build("anynety-d1-w16-g8", 5, resolution=32)
with tf.GradientTape() as tape:
    y = tf.reduce_sum(tf.function(model)(x, training=True))
assert all(np.isfinite(g).all() for g in tape.gradient(y, model.trainable_variables))
"""


@pytest.mark.slow
def test_all_works_without_onednn(tmp_path, monkeypatch):
    """Training; and serving what was exported here, where TensorFlow fuses what it then refuses to run."""
    from trainers.serving.folding import fold

    model = built(Conv2D, replace(small(), style=replace(small().style, activation="relu")), monkeypatch)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    np.save(tmp_path / "x.npy", images)
    for name, norms in (("folded", True), ("plain", False)):
        served = fold(model, norms=norms).model
        call = tf.function(lambda x, served=served: {"y": served(x, training=False)})
        spec = tf.TensorSpec((None, 32, 32, 3))
        tf.saved_model.save(served, str(tmp_path / name), signatures=call.get_concrete_function(spec))
        np.save(tmp_path / f"{name}.npy", served(images))
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ONEDNN, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
