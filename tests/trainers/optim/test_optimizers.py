"""Updates against their formulas and against TensorFlow 1, on one device and on two, and what scales them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
from trainers.config import TrainConfig
from trainers.distribute.strategy import make_strategy
from trainers.optim.optimizers import OPTIMIZERS, decays, l2, layer_factors, learning_rate, make_optimizer, rule_of
from trainers.settings import resolve
from trainers.state import precision as using

LR, DECAY = 0.05, 0.1
LAYERS = ("stem1_conv", "stage1_block1_conv", "stage2_block1_conv", "logits")


def configured(**flags):
    return resolve(
        TrainConfig(**{"recipe": "default", "lr": LR, "schedule": "constant", "weight_decay": DECAY, **flags})
    )


def made(config):
    """A tiny network with weights of size one, and its optimizer."""
    model = keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(3, name=name) for name in LAYERS)])
    draws = np.random.default_rng(1)
    for v in model.trainable_variables:
        v.assign(draws.normal(size=v.shape))
    return model, make_optimizer(config, 10, model)


def gradients_of(model, updates):
    """Of different sizes, from large ones to those that an epsilon is larger than."""
    draws = np.random.default_rng(2)
    return [
        [draws.normal(size=v.shape).astype("float32") * 10.0 ** -(i % 4) for i, v in enumerate(model.weights)]
        for _ in range(updates)
    ]


def updated(replicas=1, updates=5, **flags):
    """Weights before, gradients, and weights after some updates; in the way the step makes them."""
    strategy = make_strategy("mirrored" if replicas > 1 else "one-device", replicas)
    config = configured(**flags)
    with strategy.scope(), using(config.precision):
        model, optimizer = made(config)
    before = [v.numpy() for v in model.weights]
    gradients = gradients_of(model, updates)
    unit = optimizer.dynamic_scale.numpy() if config.precision == "mixed_float16" else 1.0

    @tf.function(reduce_retracing=False)
    def apply(gradients):
        strategy.run(lambda g: optimizer.apply([x * unit for x in g], model.trainable_variables), args=(gradients,))

    for g in gradients:
        apply([tf.constant(x) for x in g])
    for v in (*model.weights, *optimizer.variables):
        for copy in getattr(v.value, "values", ()):  # replicas agree
            np.testing.assert_array_equal(copy.numpy(), v.numpy())
    assert int(optimizer.iterations.numpy()) == updates
    return before, gradients, [v.numpy() for v in model.weights]


# The rules, for one variable: w, gradients, learning rate and decay to w, in float64.


def sgd(w, gradients, lr, decay, momentum=0.9, nesterov=True):
    m = np.zeros_like(w)
    for g in gradients:
        m = momentum * m - lr * g
        w = w + (momentum * m - lr * g if nesterov else m)
    return w


def rmsprop(w, gradients, lr, decay, epsilon=1e-3):
    square, m = np.ones_like(w), np.zeros_like(w)
    for g in gradients:
        square = 0.9 * square + 0.1 * g * g
        m = 0.9 * m + lr * g / np.sqrt(square + epsilon)
        w = w - m
    return w


def averages(gradients):
    """Adam's, without their bias."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        yield m / (1 - 0.9**t), v / (1 - 0.999**t)


def adamw(w, gradients, lr, decay):
    for t, (m, v) in enumerate(averages(gradients), 1):
        unbiased = np.sqrt(1 - 0.999**t)  # epsilon is added to the biased root
        w = w - lr * (m / (np.sqrt(v) + 1e-8 / unbiased) + decay * w)
    return w


def lamb(w, gradients, lr, decay):
    for m, v in averages(gradients):
        u = m / (np.sqrt(v) + 1e-6) + decay * w
        w = w - lr * (np.linalg.norm(w) / np.linalg.norm(u) if w.ndim > 1 else 1.0) * u
    return w


def lion(w, gradients, lr, decay):
    m = np.zeros_like(w)
    for g in gradients:
        w = w - lr * (np.sign(0.9 * m + 0.1 * g) + decay * w)
        m = 0.99 * m + 0.01 * g
    return w


FORMULAS = {"sgd": sgd, "rmsprop": rmsprop, "adamw": adamw, "lamb": lamb, "lion": lion}


@pytest.mark.parametrize("replicas, flags", [(1, {}), (2, {}), (2, {"precision": "mixed_float16"})],
                         ids=["one", "two", "float16"])  # fmt: skip
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_follow_their_formulas(name, replicas, flags):
    before, gradients, after = updated(replicas, optimizer=name, layer_decay=0.5, **flags)
    for i, (start, end) in enumerate(zip(before, after, strict=True)):
        lr = LR * 0.5 ** (3 - i // 2)  # kernel and bias of four layers
        decay = DECAY if start.ndim > 1 else 0.0
        expected = FORMULAS[name](start.astype("float64"), [g[i].astype("float64") for g in gradients], lr, decay)
        np.testing.assert_allclose(end - start, expected - start, rtol=2e-4, atol=2e-6, err_msg=f"{name} {i}")


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_rmsprop_is_tensorflow_1_s(momentum):
    before, gradients, after = updated(optimizer="rmsprop", momentum=momentum)
    reference = tf.compat.v1.train.RMSPropOptimizer(LR, decay=0.9, momentum=momentum, epsilon=1e-3)
    variables = [tf.Variable(w) for w in before]
    for gs in gradients:
        reference.apply_gradients(zip(map(tf.constant, gs), variables, strict=True))
    for ours, theirs, start in zip(after, variables, before, strict=True):
        np.testing.assert_allclose(ours - start, theirs.numpy() - start, rtol=1e-4, atol=1e-7)
    # And the places that it does not have: epsilon outside the root, an average that starts at 0.
    start, end = (side[6].astype("float64") for side in (before, after))  # the kernel with gradients of about 0.01
    assert before[6].ndim == 2
    square, g = 0.9 + 0.1 * gradients[0][6] ** 2, gradients[0][6]
    _, _, once = updated(optimizer="rmsprop", momentum=momentum, updates=1, epsilon=1.0)
    np.testing.assert_allclose(once[6] - start, -LR * g / np.sqrt(square + 1.0), rtol=1e-3, atol=1e-7)
    assert np.abs(once[6] - (start - LR * g / (np.sqrt(square) + 1.0))).max() > 1e-5
    assert (end != start).all()


@pytest.mark.parametrize("flags", [{"momentum": 0.0}, {"momentum": 0.5}])
def test_sgd_is_keras_s(flags):
    before, gradients, after = updated(optimizer="sgd", **flags)
    momentum = flags["momentum"]
    reference = keras.optimizers.SGD(LR, momentum=momentum, nesterov=momentum > 0)
    variables = [keras.Variable(w) for w in before]
    for gs in gradients:
        reference.apply(list(map(tf.constant, gs)), variables)
    for ours, theirs in zip(after, variables, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_adamw_is_keras_s():
    before, gradients, after = updated(optimizer="adamw")
    reference = keras.optimizers.AdamW(LR, weight_decay=DECAY, epsilon=1e-8)
    variables = [keras.Variable(w) for w in before]
    reference.exclude_from_weight_decay([v for v in variables if len(v.shape) < 2])
    for gs in gradients:
        reference.apply(list(map(tf.constant, gs)), variables)
    for ours, theirs in zip(after, variables, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=5e-6)


def test_lamb_moves_a_kernel_by_a_share_of_its_length():
    before, _, after = updated(updates=1, optimizer="lamb")
    for start, end in zip(before, after, strict=True):
        share = np.linalg.norm(end - start) / np.linalg.norm(start)
        if start.ndim > 1:
            assert share == pytest.approx(LR, rel=1e-4)
        else:  # Adam's first update has the size of the learning rate everywhere
            np.testing.assert_allclose(np.abs(end - start), LR, rtol=1e-2)


def test_lamb_starts_from_zero():
    model, optimizer = made(configured(optimizer="lamb", weight_decay=0.0))
    kernel = model.weights[0]
    kernel.assign(np.zeros(kernel.shape))
    optimizer.apply([tf.ones(v.shape) for v in model.weights], model.trainable_variables)
    np.testing.assert_allclose(kernel.numpy(), -LR, rtol=1e-4)


def test_decay_is_added_once():
    coupled = {"sgd": DECAY, "rmsprop": DECAY, "adamw": 0.0, "lamb": 0.0, "lion": 0.0}
    for name in OPTIMIZERS:  # without a gradient, decoupled decay alone moves a weight
        model, optimizer = made(configured(optimizer=name))
        assert l2(optimizer) == coupled[name]
        before = [v.numpy() for v in model.weights]
        optimizer.apply([tf.zeros(v.shape) for v in model.weights], model.trainable_variables)
        for v, start in zip(model.weights, before, strict=True):
            assert (v.numpy() != start).all() == (not coupled[name] and decays(v)), (name, v.path)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("kind", ["float32", "mixed_float16"])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_can_be_scaled_in_a_run(schedule, kind, replicas):
    strategy = make_strategy("mirrored" if replicas > 1 else "one-device", replicas)
    config = configured(optimizer="sgd", momentum=0.0, precision=kind, schedule=schedule, epochs=2, warmup_epochs=0.0)
    with strategy.scope():
        model, optimizer = made(config)
    rule_of(optimizer).lr_scale.assign(0.5)
    assert float(learning_rate(optimizer)) == pytest.approx(0.5 * LR)

    @tf.function
    def apply(g):
        strategy.run(lambda: optimizer.apply([g * tf.ones(v.shape) for v in model.weights], model.trainable_variables))
        return learning_rate(optimizer)

    unit = 1.0 if kind == "float32" else float(optimizer.dynamic_scale.numpy())
    shape = [0.5 * (1 + np.cos(np.pi * i / 20)) if schedule == "cosine" else 1.0 for i in range(3)]
    before = model.weights[0].numpy()
    assert float(apply(tf.constant(unit))) == pytest.approx(0.5 * LR * shape[1], rel=1e-5)  # the next one
    np.testing.assert_allclose(before - model.weights[0].numpy(), 0.5 * LR, rtol=1e-3)
    rule_of(optimizer).lr_scale.assign(0.25)  # is seen without compiling again
    before = model.weights[0].numpy()
    assert float(apply(tf.constant(unit))) == pytest.approx(0.25 * LR * shape[2], rel=1e-5)
    np.testing.assert_allclose(before - model.weights[0].numpy(), 0.25 * LR * shape[1], rtol=1e-3)
    for copy in getattr(rule_of(optimizer).lr_scale, "values", ()):
        assert float(copy) == 0.25
    assert all(v.path != "lr_scale" for v in optimizer.variables)


def test_a_constant_rate_can_be_set():
    for precision in ("float32", "mixed_float16"):
        model, optimizer = made(configured(precision=precision))
        optimizer.learning_rate = 0.5
        rule_of(optimizer).lr_scale.assign(0.5)
        assert float(learning_rate(optimizer)) == 0.25
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
        again.build(model.trainable_variables)  # Keras saves and loads its state
        assert [v.path for v in again.variables] == [v.path for v in optimizer.variables]
        assert rule_of(again).decay == rule_of(optimizer).decay == DECAY


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_variables_are_all_its_state(name):
    config = configured(optimizer=name, schedule="cosine", epochs=2, warmup_epochs=0.5)
    (first, one), (second, two) = made(config), made(config)
    gradients = [list(map(tf.constant, g)) for g in gradients_of(first, 5)]
    for g in gradients[:3]:
        one.apply(g, first.trainable_variables)
    for old, new in zip((*first.weights, *one.variables), (*second.weights, *two.variables), strict=True):
        new.assign(old.numpy())
    for g in gradients[3:]:
        one.apply(g, first.trainable_variables)
        two.apply(g, second.trainable_variables)
    for old, new in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(new.numpy(), old.numpy())


def test_layers_learn_slower_towards_the_stem():
    model = kcnn.build("efficientnet-b0", 10, resolution=32, width=0.25)
    variables = model.trainable_variables
    factors = layer_factors([v.path for v in variables], 0.9)
    by_layer = {v.path.split("/")[0]: f for v, f in zip(variables, factors, strict=True)}
    assert by_layer["logits"] == by_layer["head1_conv"] == 1.0
    assert by_layer["stage7_block1_expand"] == pytest.approx(0.9)
    assert by_layer["stage6_block4_expand"] == by_layer["stage6_block4_project"] == pytest.approx(0.81)
    assert by_layer["stem1_conv"] == pytest.approx(0.9**17) == min(factors)  # 16 blocks and the head are above it
    assert set(layer_factors([v.path for v in variables], 1.0)) == {1.0}


def test_layers_come_in_the_order_of_the_network():
    paths = ["stem1_conv/k", *(f"stage1_block{i}_conv/k" for i in range(1, 13)), "stage2_block1_conv/k", "aux1/k"]
    assert layer_factors(paths, 0.5) == [0.5 ** (14 - i) for i in range(15)]
