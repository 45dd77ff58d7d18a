"""Gradients against those of a second way, and what batch normalization and shortcuts are worth."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
from trainers.lab.gradients import effective_field, gradients
from trainers.lab.subject import photographs


def batches(side, count=16):
    return list(photographs(side, count, 16))


def line(depth, scale=1.0):
    """A row of 3x3 convolutions with equal, positive weights: what a place sees has a binomial profile."""
    image = keras.Input((63, 63, 1))
    x = image
    for k in range(depth):
        kernel = np.full((3, 3, 1, 1), scale / 9, np.float32)
        x = keras.layers.Conv2D(1, 3, padding="same", use_bias=False, name=f"conv{k}",
                                kernel_initializer=keras.initializers.Constant(kernel.mean()))(x)  # fmt: skip
    return keras.Model(image, keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("depth", [1, 4, 16])
def test_the_effective_field_of_equal_convolutions_is_the_measured_one(depth):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 63, 63, 1)).astype(np.float32)
    model = line(depth)
    found = effective_field(model, [(pixels, None)], kcnn.facts(model).receptive_field)
    assert found.theoretical == 2 * depth + 1
    profile = np.array([1.0])
    for _ in range(depth):
        profile = np.convolve(profile, [1, 1, 1])
    seen = np.outer(profile, profile) / profile.max() ** 2
    middle = slice(31 - depth, 32 + depth)
    assert found.picture[middle, middle] == pytest.approx(seen, abs=1e-5)
    assert found.picture.max() == 1 and found.picture.sum() == pytest.approx(seen.sum(), rel=1e-4)
    assert found.size == pytest.approx(np.sqrt((seen > 0.0455).sum()), rel=0.05)
    if depth == 16:  # it grows with the root of the depth: 2 sigma on either side, sigma^2 = 2/3 a layer
        assert found.size < 0.75 * found.theoretical


@pytest.mark.slow
def test_norms_are_those_of_finite_differences():
    model = kcnn.build("resnet-18", 3, width=0.0625, depth=0.25, resolution=32)
    [(pixels, _)] = batches(32, 8)
    labels = np.arange(8) % 3
    found = gradients(model, [(pixels, labels)])
    kernel = model.get_layer("logits").kernel
    row = next(r for r in found.layers if r.layer == "logits")

    def loss():
        logits = model(pixels, training=True)
        return float(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)))

    before, numbers = kernel.numpy(), []
    for at in np.ndindex(*before.shape):
        moved = []
        for step in (1e-2, -1e-2):
            value = before.copy()
            value[at] += step
            kernel.assign(value)
            moved.append(loss())
        numbers.append((moved[0] - moved[1]) / 2e-2)
    assert row.gradient == pytest.approx(np.linalg.norm(numbers), rel=1e-2)
    assert row.weight == pytest.approx(np.linalg.norm(before)) and row.ratio == row.gradient / row.weight


def test_the_network_is_left_as_it_was():
    model = kcnn.build("resnet-18", 3, width=0.0625, depth=0.25, resolution=32)
    before = [v.numpy() for v in model.variables]
    gradients(model, batches(32))
    assert all(np.array_equal(v.numpy(), b) for v, b in zip(model.variables, before, strict=True))


def network(name, norm, side=64):
    arch = kcnn.scale(kcnn.get(name), width=0.25)
    return kcnn.build(replace(arch, style=replace(arch.style, norm=norm)), 10, resolution=side, stem="standard")


def test_vanishing_and_exploding_gradients_have_their_names():
    pixels = np.random.default_rng(0).uniform(0, 255, (8, 63, 63, 1)).astype(np.float32)

    def strided(scale):
        image = keras.Input((63, 63, 1))
        x = image
        for k in range(4):
            x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name=f"conv{k}")(x)
        model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
        for layer in model.layers[1:5]:
            layer.kernel.assign(scale * layer.kernel)
        return gradients(model, [(pixels, None)])

    assert strided(0.01).verdict == "vanishing" and strided(100.0).verdict == "exploding"
    assert strided(float("nan")).verdict == "not finite"


@pytest.mark.slow
def test_what_shortcuts_and_normalization_are_worth(capsys):
    """Without normalization a plain network's gradients vanish; with it they grow at each layer (Yang et al., 2019,
    https://arxiv.org/abs/1902.08129); shortcuts pass them on either way."""
    ratios = {}
    for name in ("plain-34", "resnet-34"):
        for norm in (True, False):
            keras.utils.set_random_seed(0)
            ratios[name, norm] = gradients(network(name, norm), batches(64, 32)).first_to_last
    with capsys.disabled():
        print("\nnorm of the gradient, first over last stage, at the start:")
        for (name, norm), ratio in ratios.items():
            print(f"  {name:<10} {'with' if norm else 'without'} batch normalization: {ratio:.3g}")
    assert ratios["plain-34", False] < 0.02 and ratios["plain-34", True] > 20
    assert all(1 < ratios["resnet-34", norm] < 15 for norm in (True, False))
