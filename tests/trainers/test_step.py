"""One step against formulas, and two replicas against one."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
from kcnn import families
from trainers.config import TrainConfig
from trainers.distribute.strategy import make_strategy
from trainers.evaluation_step import eval_function, precise_function
from trainers.network import network, networks
from trainers.optim.optimizers import decays, make_optimizer
from trainers.settings import resolve
from trainers.state import make_state
from trainers.step import draw_key, train_function
from trainers.transfer.parts import Parts


def test_draws_differ_by_all_that_names_them():
    keys = {
        tuple(draw_key(seed, layer, tf.constant(replica), tf.constant(step, tf.int64)).numpy())
        for seed in (0, 1, 2**31 - 1)
        for layer in (0, 1, 500)
        for replica in (0, 1)
        for step in (0, 1, 10**7)
    }
    assert len(keys) == 3 * 3 * 2 * 3


@pytest.fixture(autouse=True, scope="module")
def smooth(tiny):
    """Networks without kinks: where a ReLU's input is within rounding of 0, the last bit decides on a gradient."""
    arch = kcnn.get(tiny["arch"])
    with pytest.MonkeyPatch.context() as patch:
        for name, norm in (("smooth", True), ("bare", False)):  # bare: without batch normalization
            style = dataclasses.replace(arch.style, activation="silu", norm=norm)
            patch.setitem(families.BARE, name, dataclasses.replace(arch, name=name, style=style))
        yield


def run(steps=10, replicas=1, arch="smooth", resolution=16, class_weights=None, **flags):
    """Weights, averages and losses after some steps on fixed data."""
    config = TrainConfig(
        arch=arch,
        width=0.125,
        resolution=resolution,
        sync_bn=True,
        bn_momentum=0.9,
        recipe="digits",
        strategy="mirrored" if replicas > 1 else "one-device",
        replicas=replicas,
        **{"batch_size": 16, "epochs": 5, "lr": 0.01, "drop": 0.0, "drop_path": 0.0, **flags},
    )
    config = resolve(config)
    strategy = make_strategy(config.strategy, config.replicas)
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = network(config, 10)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = replicas > 1
        state = make_state(model, make_optimizer(config, 5, model), averaged=bool(config.ema))
        step = train_function(state, config, strategy, class_weights=class_weights)
    draws = np.random.default_rng(0)
    images = draws.integers(0, 255, (48, resolution, resolution, 3)).astype("uint8")
    labels = draws.integers(0, 10, 48).astype("int32")

    def pipeline(context):
        part = config.global_batch // context.num_replicas_in_sync
        return tf.data.Dataset.from_tensor_slices({"image": images, "label": labels}).batch(part, True).repeat()

    iterator = iter(strategy.distribute_datasets_from_function(pipeline))
    series = step(iterator, tf.constant(steps))
    return state, {k: v.numpy() for k, v in series.items()}


SGD = {"optimizer": "sgd", "lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-3}
TWO, PARTS, BOTH = (
    {"replicas": 2},
    {"batch_size": 4, "accumulate_steps": 4},
    {"replicas": 2, "batch_size": 8, "accumulate_steps": 2},
)


@pytest.mark.slow
@pytest.mark.parametrize("what, other, flags", [  # the norms of the gradients are about 1 and 0.25
    ("SGD, L2, clipped gradient", TWO, SGD | {"clip_norm": 0.5}),
    ("AdamW, smoothing, average of weights", TWO,
     {"optimizer": "adamw", "lr": 1e-4, "label_smoothing": 0.1, "ema": 0.9}),
    ("class weights", TWO, SGD | {"class_weights": tuple(np.linspace(0.2, 4.0, 10))}),
    ("accumulated gradient, clipped", PARTS, SGD | {"arch": "bare", "clip_norm": 0.1}),
    ("accumulated gradient, class weights", PARTS,
     SGD | {"arch": "bare", "class_weights": tuple(np.linspace(0.2, 4.0, 10))}),
    ("accumulated on two replicas, AdamW", BOTH, {"arch": "bare", "optimizer": "adamw", "lr": 1e-4}),
], ids=str)  # fmt: skip
def test_20_steps_are_the_same_however_the_batch_is_cut(what, other, flags, capsys):
    """N replicas of batch B, and K batches of B one after the other, are one batch of N B or K B."""
    one, one_series = run(20, **flags)
    two, two_series = run(20, **flags | other)
    differences = {name: np.abs(two_series[name] - one_series[name]).max() for name in ("loss", "grad_norm")}
    statistics = {id(v) for v in one.model.non_trainable_variables}
    pairs = list(zip(one.model.weights, two.model.weights, strict=True))
    differences["weights"] = max(far(a, b) for a, b in pairs if id(a) not in statistics)
    differences["statistics"] = max((far(a, b) for a, b in pairs if id(a) in statistics), default=0.0)
    differences["average"] = max((far(a, b) for a, b in zip(one.ema, two.ema, strict=True)), default=0.0)
    with capsys.disabled():
        cut = " x ".join(f"{k}={v}" for k, v in other.items())
        print(f"\n{what}, {cut}:", "  ".join(f"{k} {v:.1e}" for k, v in differences.items()), end=" ")
    assert max(differences.values()) < 1e-5
    if "replicas" in other:  # and the replicas agree among themselves
        for v in two.model.weights:
            first, second = (x.numpy() for x in v.value.values)
            np.testing.assert_array_equal(first, second)


def far(a, b):
    return float(np.abs(a.numpy() - b.numpy()).max(initial=0.0))


def test_an_average_follows_its_formula():
    state, _ = run(steps=1, ema=0.9)
    keras.utils.set_random_seed(1)
    before = network(resolve(TrainConfig(arch="smooth", width=0.125, resolution=16)), 10)
    for start, now, average in zip(before.weights, state.model.weights, state.ema, strict=True):
        decay = min(0.9, 1 / 10)
        np.testing.assert_allclose(average.numpy(), decay * start.numpy() + (1 - decay) * now.numpy(), atol=1e-6)


def test_the_gradient_is_clipped_after_it_is_summed():
    clipped, series = run(
        steps=1, optimizer="sgd", momentum=0.0, weight_decay=0.0, clip_norm=0.5, schedule="constant", warmup_epochs=0.0
    )
    keras.utils.set_random_seed(1)
    before = network(resolve(TrainConfig(arch="smooth", width=0.125, resolution=16)), 10)
    moved = [
        b.numpy() - a.numpy()
        for a, b in zip(before.trainable_variables, clipped.model.trainable_variables, strict=True)
    ]
    assert series["grad_norm"][0] > 0.5  # what is shown is the norm before
    np.testing.assert_allclose(np.sqrt(sum((m**2).sum() for m in moved)) / 0.01, 0.5, rtol=1e-3)


def test_biases_and_normalization_do_not_decay():
    model = network(resolve(TrainConfig(arch="mobilenet-v2", width=0.35, resolution=32)), 10)
    for v in model.trainable_variables:
        assert decays(v) == ("kernel" in v.name), v.path


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(precision):
    from trainers.state import precision as using

    with using(precision):
        state, series = run(steps=8, precision=precision, arch="mobilenet-v2", depth=0.1)
    assert np.isfinite(series["loss"]).all()
    assert all(v.dtype == "float32" for v in state.model.weights)
    assert np.abs(series["loss"][0] - np.log(10)) < 0.5


def test_dropout_repeats_by_seed():
    first, again, other = (run(steps=2, seed=seed, drop=0.5)[1]["loss"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_evaluation_counts_each_example_once():
    model = network(resolve(TrainConfig(arch="smooth", width=0.125, resolution=16)), 10)
    strategy = make_strategy("mirrored", 2)
    draws = np.random.default_rng(0)
    images, labels = draws.integers(0, 255, (12, 16, 16, 3)).astype("uint8"), draws.integers(0, 10, 12).astype("int32")
    weight = np.array([1.0] * 9 + [0.0] * 3, "float32")
    with strategy.scope():
        function = eval_function(model, [], 10, strategy)
    data = strategy.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensor_slices({"image": images, "label": labels, "weight": weight}).batch(
            3, True
        )
    )
    sums = function(iter(data), tf.constant(2))
    logits = model(images[:9].astype("float32")).numpy()
    expected = keras.losses.sparse_categorical_crossentropy(labels[:9], logits, from_logits=True)
    np.testing.assert_allclose(sums["loss"], np.sum(expected), rtol=1e-5)
    assert sums["confusion"].numpy().sum() == 9
    for label, predicted in zip(labels[:9], logits.argmax(1), strict=True):
        assert sums["confusion"][label, predicted] > 0
    top5 = sum(label in row.argsort()[-5:] for label, row in zip(labels[:9], logits, strict=True))
    assert sums["top5"] == top5


def test_config_resolves_to_itself():
    once = resolve(TrainConfig())
    assert resolve(once.flags) == once
    assert dataclasses.asdict(once)["epochs"] is not None


@pytest.mark.parametrize("arch, weights", [
    ("googlenet", [0.3, 0.3]), pytest.param("inception-v3", [0.4], marks=pytest.mark.slow)])  # fmt: skip
def test_auxiliary_heads_train_and_are_not_evaluated(arch, weights):
    config = resolve(
        TrainConfig(arch=arch, width=0.125, depth=0.1, resolution=75, batch_size=4, recipe="digits", drop=0.0, lr=1e-3)
    )
    keras.utils.set_random_seed(1)
    model, plain = networks(config, 10)
    assert [a.weight for a in config.arch.aux] == weights
    assert isinstance(model.outputs, list) and len(model.outputs) == 1 + len(weights)
    assert len(plain.outputs) == 1 and {id(v) for v in plain.weights} < {id(v) for v in model.weights}
    assert [v.path for v in plain.weights] == [v.path for v in network(config, 10).weights]
    state = make_state(model, make_optimizer(config, 5, model), averaged=False, plain=plain)
    images, labels = (
        np.random.default_rng(0).integers(0, 255, (4, 75, 75, 3)).astype("uint8"),
        np.arange(4, dtype="int32"),
    )
    data = tf.data.Dataset.from_tensors({"image": images, "label": labels}).repeat()
    before = [v.numpy() for v in model.trainable_variables]
    strategy = make_strategy()
    step = train_function(state, config, strategy)
    step(iter(strategy.experimental_distribute_dataset(data)), tf.constant(1))
    moved = [v.path for v, b in zip(model.trainable_variables, before, strict=True) if (v.numpy() != b).any()]
    assert any("aux1" in path for path in moved)


def test_sam_takes_the_gradient_where_the_loss_is_highest_nearby():
    """Against two gradients taken by hand: at w, and at w + rho g / |g|."""
    flags = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "warmup_epochs": 0.0}
    state, series = run(steps=1, sam=0.5, **flags)
    keras.utils.set_random_seed(1)
    model = network(resolve(TrainConfig(arch="smooth", width=0.125, resolution=16, bn_momentum=0.9)), 10)
    draws = np.random.default_rng(0)
    images = draws.integers(0, 255, (48, 16, 16, 3))[:16].astype("float32")
    labels = draws.integers(0, 10, 48)[:16]

    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(labels, model(images, training=True), from_logits=True)
            )
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    before = [v.numpy() for v in model.trainable_variables]
    first = gradient()
    norm = np.sqrt(sum(float(tf.reduce_sum(g**2)) for g in first))
    np.testing.assert_allclose(series["grad_norm"][0], norm, rtol=1e-4)
    for v, w, g in zip(model.trainable_variables, before, first, strict=True):
        v.assign(w + 0.5 * g / norm)
    second = gradient()
    assert max(float(tf.reduce_max(tf.abs(a - b))) for a, b in zip(first, second, strict=True)) > 0.01
    for v, w, g in zip(state.model.trainable_variables, before, second, strict=True):
        np.testing.assert_allclose(v.numpy(), w - 0.01 * g, atol=1e-5, err_msg=v.path)


def test_mixing_reaches_the_loss():
    plain, mixed = (run(steps=2, mixup=alpha)[1]["loss"] for alpha in (0.0, 1.0))
    assert (np.abs(mixed - plain) > 1e-3).all()


def test_precise_statistics_are_the_means_over_batches(smooth):
    """Of the averaged weights, on two replicas as on one."""
    found = []
    draws = np.random.default_rng(1)
    images = draws.integers(0, 255, (32, 16, 16, 3)).astype("uint8")
    for replicas in (1, 2):
        state, _ = run(steps=3, replicas=replicas, ema=0.5, **SGD)
        strategy = make_strategy("mirrored" if replicas > 1 else "one-device", replicas)
        with strategy.scope():
            function = precise_function(state, Parts(None, state.plain, ()), strategy)
        data = strategy.distribute_datasets_from_function(
            lambda _, part=16 // replicas: (
                tf.data.Dataset.from_tensor_slices({"image": images}).batch(part, True).repeat()
            )
        )
        function(iter(data), tf.constant(2))
        found.append({v.path: a.numpy() for v, a in zip(state.model.weights, state.ema, strict=True)})
    one, two = found
    for path in one:
        np.testing.assert_allclose(two[path], one[path], atol=1e-4, err_msg=path)
    # By hand, for the first layer, whose input hangs on no other statistics.
    model = network(resolve(TrainConfig(arch="smooth", width=0.125, resolution=16)), 10)
    for v in model.weights:
        v.assign(one[v.path])
    stem = model.get_layer("stem1_conv_bn")
    inputs = keras.Model(model.input, stem.input)
    means = [inputs(part.astype("float32")).numpy().mean((0, 1, 2)) for part in (images[:16], images[16:])]
    np.testing.assert_allclose(one[stem.moving_mean.path], np.mean(means, 0), atol=1e-4)
