"""Mixup and CutMix against counted pixels and the moments of Beta."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.data.mixing import beta, mix, outside_box, weights

BATCH, SIDE, CLASSES = 6, 20, 4
# Example i has pixels of value i alone, so that a mixed pixel tells where it came from.
IMAGES = tf.fill((SIDE, SIDE, 3), 1.0) * tf.reshape(tf.range(BATCH, dtype=tf.float32), (BATCH, 1, 1, 1))
TARGETS = tf.one_hot(tf.range(BATCH) % CLASSES, CLASSES)


def keys(count):
    return tf.stack([tf.fill([count], tf.constant(3, tf.int64)), tf.range(count, dtype=tf.int64) * 256], 1)


def over_keys(function, count):
    """function(key) for `count` keys, compiled."""
    types = tf.nest.map_structure(lambda x: x.dtype, function(keys(1)[0]))
    return [
        x.numpy()
        for x in tf.nest.flatten(tf.function(lambda k: tf.map_fn(function, k, fn_output_signature=types))(keys(count)))
    ]


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_beta_has_its_mean_and_variance(alpha):
    (draws,) = over_keys(lambda key: beta(key, alpha), 8000)
    assert (draws >= 0).all() and (draws <= 1).all()
    variance = 1 / (4 * (2 * alpha + 1))
    assert draws.mean() == pytest.approx(0.5, abs=5 * np.sqrt(variance / 8000))
    assert draws.var() == pytest.approx(variance, rel=0.06)


def test_beta_of_one_is_uniform():
    (draws,) = over_keys(lambda key: beta(key, 1.0), 8000)
    # Kolmogorov and Smirnov: at 1.95 / sqrt(n), one sample in a thousand is rejected.
    assert np.abs(np.sort(draws) - (np.arange(8000) + 0.5) / 8000).max() < 1.95 / np.sqrt(8000)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_blends_images_and_targets_by_the_same_share(seed):
    images, targets = mix(IMAGES, TARGETS, tf.constant([seed, 9], tf.int64), mixup=1.0, cutmix=0.0)
    lam = targets[0, 0].numpy()  # its partner, example 5, is of class 1
    assert 0 < lam < 1
    partner = np.arange(BATCH)[::-1]
    np.testing.assert_allclose(images, lam * IMAGES + (1 - lam) * IMAGES.numpy()[partner], rtol=1e-5)
    np.testing.assert_allclose(targets, lam * TARGETS + (1 - lam) * TARGETS.numpy()[partner], rtol=1e-5)


def test_cutmix_labels_by_the_pixels_left():
    images, targets = over_keys(lambda key: mix(IMAGES, TARGETS, key, mixup=0.0, cutmix=1.0), 300)
    own = images == np.arange(BATCH, dtype=np.float32)[:, None, None, None]
    partner = images == np.arange(BATCH, dtype=np.float32)[::-1, None, None, None]
    assert (own | partner).all()
    shares = own[..., 0].mean((2, 3))
    assert (shares == shares[:, :1]).all() and len(np.unique(shares)) > 50
    one_hot = np.asarray(TARGETS)
    expected = shares[..., None] * one_hot + (1 - shares[..., None]) * one_hot[::-1]
    np.testing.assert_allclose(targets, expected, rtol=1e-6)
    clipped = 0
    for image in partner[:, 0, :, :, 0]:
        rows, columns = image.any(1), image.any(0)
        assert image.sum() == rows.sum() * columns.sum()  # a box, and a square where no border cuts it
        inside = not (rows[[0, -1]].any() or columns[[0, -1]].any())
        assert not inside or rows.sum() == columns.sum()
        clipped += rows.sum() != columns.sum()
    assert clipped > 30


def test_a_box_in_the_middle_has_the_drawn_area():
    for lam, side in ((0.75, 100), (0.9, 63), (0.98, 28), (1.0, 0)):  # 200 sqrt(1 - lam)
        boxes = [outside_box(tf.constant([1, i], tf.int64), tf.constant(lam), 200, 200).numpy() == 0 for i in range(40)]
        assert max(box.sum() for box in boxes) == side**2


def test_the_switch_chooses_between_the_two():
    def is_cutmix(key):
        weight, lam = weights(key, SIDE, SIDE, 1.0, 1.0, 0.3)
        return tf.reduce_all((weight == 0) | (weight == 1)), lam, tf.reduce_mean(weight)

    cut, lam, mean = over_keys(is_cutmix, 1500)
    assert cut.mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / 1500))
    np.testing.assert_allclose(lam, mean, rtol=1e-5)
    # An area of the middle of 1 - lam with lam uniform: half of it on average, and less what the border cuts off.
    assert lam[~cut].mean() == pytest.approx(0.5, abs=0.05) and 0.55 < lam[cut].mean() < 0.75


def test_each_key_draws_anew_and_the_same_key_the_same():
    def mixed(key):
        return mix(IMAGES, TARGETS, key, mixup=0.2, cutmix=1.0)

    once, again = over_keys(mixed, 20), over_keys(mixed, 20)
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({image.tobytes() for image in once[0]}) == 20


def test_off_is_the_identity():
    images, targets = mix(IMAGES, TARGETS, keys(1)[0], mixup=0.0, cutmix=0.0)
    assert images is IMAGES and targets is TARGETS


@pytest.mark.parametrize("alphas", [{"mixup": 0.2, "cutmix": 0.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_compiles_with_xla_to_static_shapes(alphas):
    compiled = tf.function(lambda *args: mix(*args, **alphas), jit_compile=True)
    shapes = [x.shape for x in compiled.get_concrete_function(IMAGES, TARGETS, keys(1)[0]).structured_outputs]
    assert shapes == [IMAGES.shape, TARGETS.shape]
    shares = []
    for key in keys(20):
        images, targets = compiled(IMAGES, TARGETS, key)
        np.testing.assert_allclose(tf.reduce_sum(targets, -1), np.ones(BATCH), rtol=1e-5)
        # The mean of the first image is 5 (1 - lam): it is made of 0 and 5.
        np.testing.assert_allclose(tf.reduce_mean(images[0]), 5 * (1 - targets[0, 0]), atol=1e-4)
        shares.append(float(targets[0, 0]))
    assert len(set(shares)) > 10


def test_an_odd_batch_leaves_its_middle_alone():
    images, targets = mix(IMAGES[:5], TARGETS[:5], keys(1)[0], mixup=1.0, cutmix=0.0)
    np.testing.assert_allclose(images[2], IMAGES[2], rtol=1e-6)
    np.testing.assert_allclose(targets[2], TARGETS[2], rtol=1e-6)
