"""What policies, jitter and erasing draw, and that a key decides it."""

import functools
import itertools
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_image

import kcnn
from kcnn.errors import InputError
from trainers import phases
from trainers.config import TrainConfig
from trainers.data import Augmentation, open_data, train_batches
from trainers.data import augment as module
from trainers.data.augment import AUTOAUGMENT, augment, autoaugment, erased, erased_box, randaugment, trivialaugment
from trainers.data.operations import OPERATIONS
from trainers.run import Run, make_plan
from trainers.settings import resolve

NAMES = list(OPERATIONS)
PHOTO = np.ascontiguousarray(load_sample_image("flower.jpg")[100:164, 200:264])
ALL = Augmentation(policy="randaugment", color_jitter=0.4, erase=0.5)
# For a strength of 0 to 1: the values that an operation of RandAugment or TrivialAugment may get.
EITHER = {
    "rotate": (0, 30, 135), "shear_x": (0, 0.3, 0.99), "shear_y": (0, 0.3, 0.99), "color": (1, 0.9, 0.99),
    "contrast": (1, 0.9, 0.99), "brightness": (1, 0.9, 0.99), "sharpness": (1, 0.9, 0.99),
    "translate_x": (0, 150 / 331, 1 / 7), "translate_y": (0, 150 / 331, 1 / 7),
}  # fmt: skip
ONE_WAY = {"solarize": (256, -256, -256), "posterize": (8, -4, -6)}
FOURTEEN = {"identity", "autocontrast", "equalize", *EITHER, *ONE_WAY}


def over_keys(function, count):
    """function(key) for `count` keys, stacked."""
    keys = tf.stack([tf.fill([count], tf.constant(7, tf.int64)), tf.range(count, dtype=tf.int64)], 1)
    data = tf.data.Dataset.from_tensor_slices(keys).map(function, num_parallel_calls=2)
    return tf.nest.map_structure(lambda x: x.numpy(), next(iter(data.batch(count))))


def near(share, expected, count):
    """Within five standard deviations of a share counted over `count` draws."""
    return abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / count) + 1e-9


def values_of(draws, name):
    operations, values = draws
    return values[operations == NAMES.index(name)]


def test_randaugment_draws_all_operations_alike_at_one_magnitude():
    draws = over_keys(lambda key: randaugment(key, 7.0, layers=3), 8000)
    assert draws[0].shape == draws[1].shape == (8000, 3)
    assert {NAMES[i] for i in np.unique(draws[0])} == FOURTEEN
    for name in FOURTEEN:
        assert near(np.mean(draws[0] == NAMES.index(name)), 1 / 14, draws[0].size)
    assert near(np.mean(draws[0][:, 0] == draws[0][:, 1]), 1 / 14, 8000)  # each layer for itself
    for name, (rest, reach, _) in EITHER.items():
        values = values_of(draws, name)
        np.testing.assert_allclose(np.unique(values), [rest - 0.7 * reach, rest + 0.7 * reach], rtol=1e-6)
        assert near(np.mean(values > rest), 0.5, values.size)
    assert np.unique(values_of(draws, "solarize")) == pytest.approx([256 * 0.3])
    assert np.unique(values_of(draws, "posterize")) == pytest.approx([5.2])


def test_randaugment_of_timm_varies_its_magnitude_and_leaves_out_operations():
    draws = over_keys(lambda key: randaugment(key, 7.0, std=0.5, probability=0.5, layers=2), 10000)
    assert near(np.mean(draws[0] == NAMES.index("identity")), 0.5 + 0.5 / 14, draws[0].size)
    magnitudes = np.abs(values_of(draws, "rotate")) / 3
    assert magnitudes.mean() == pytest.approx(7, abs=0.1) and magnitudes.std() == pytest.approx(0.5, abs=0.06)
    wild = np.abs(values_of(over_keys(lambda key: randaugment(key, 9.0, std=3.0), 3000), "rotate"))
    assert wild.max() == 30 and wild.min() >= 0


@pytest.mark.parametrize("magnitude", [0.0, 10.0])
def test_the_ends_of_randaugments_scale(magnitude):
    draws = over_keys(lambda key: randaugment(key, magnitude), 1000)
    for name, (rest, reach, _) in (EITHER | ONE_WAY).items():
        np.testing.assert_allclose(np.abs(values_of(draws, name) - rest), abs(reach) * magnitude / 10, rtol=1e-6)


def test_trivialaugment_draws_one_operation_at_one_of_31_strengths():
    draws = over_keys(trivialaugment, 20000)
    assert draws[0].shape == (20000, 1)
    for name in FOURTEEN:
        assert near(np.mean(draws[0] == NAMES.index(name)), 1 / 14, 20000)
    for name, (rest, _, reach) in EITHER.items():
        steps = np.unique(np.round((values_of(draws, name) - rest) / reach * 30, 3))
        np.testing.assert_array_equal(steps, np.arange(-30, 31))
    for name, (rest, _, reach) in ONE_WAY.items():
        steps = np.unique(np.round((values_of(draws, name) - rest) / reach * 30, 3))
        np.testing.assert_array_equal(steps, np.arange(31))


def test_autoaugment_draws_the_papers_pairs():
    count = 30000
    operations, values = over_keys(autoaugment, count)
    expected = Counter()
    for pair in AUTOAUGMENT:
        for kept in itertools.product((True, False), repeat=2):
            share = np.prod([p if keep else 1 - p for (_, p, _), keep in zip(pair, kept, strict=True)])
            names = [name if keep else "identity" for (name, _, _), keep in zip(pair, kept, strict=True)]
            expected[tuple(names)] += share / 25
    drawn = Counter((NAMES[a], NAMES[b]) for a, b in operations)
    assert drawn.keys() == {names for names, share in expected.items() if share > 0}
    assert all(near(drawn[names] / count, share, count) for names, share in expected.items())
    # Levels on the paper's ranges, by tenths.
    assert {round(float(v), 3) for v in values_of((operations, values), "rotate")} == {-27, -24, -9, 9, 24, 27}
    assert {round(float(v), 3) for v in values_of((operations, values), "shear_x")} == {-0.15, 0.15}
    assert {round(float(v), 3) for v in values_of((operations, values), "posterize")} == {6.0, 6.4, 6.8, 7.2}
    assert {round(float(v), 3) for v in values_of((operations, values), "solarize")} == {76.8, 102.4, 128, 179.2, 204.8}
    assert {round(float(v), 3) for v in values_of((operations, values), "color")} == {0.1, 0.46, 0.82, 1.54}
    assert {round(float(v), 3) for v in values_of((operations, values), "contrast")} == {1.54}
    assert {round(float(v), 3) for v in values_of((operations, values), "sharpness")} == {1.36}


@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment", "autoaugment"])
def test_a_policy_applies_what_it_draws(policy):
    draws = {
        "randaugment": lambda key: randaugment(key, 9.0),
        "trivialaugment": trivialaugment,
        "autoaugment": autoaugment,
    }[policy]
    changes = over_keys(lambda key: augment(tf.constant(PHOTO), key, Augmentation(policy=policy)), 12)
    drawn = over_keys(lambda key: draws(tf.random.split(key, 3)[0]), 12)
    for image, operations, values in zip(changes, *drawn, strict=True):
        expected = tf.constant(PHOTO)
        for operation, value in zip(operations, values, strict=True):
            expected = OPERATIONS[NAMES[operation]](expected, tf.constant(value))
        np.testing.assert_array_equal(image, expected)
    assert len({image.tobytes() for image in changes}) > 6


@pytest.mark.parametrize("settings", [ALL, Augmentation(policy="autoaugment")])
def test_a_key_decides_all(settings):
    def change(key):
        image = augment(tf.constant(PHOTO), key, settings)
        assert (image.shape, image.dtype) == (PHOTO.shape, tf.uint8)
        return image

    keys = tf.constant([[seed, i] for seed in (7, 8) for i in range(20)], tf.int64)
    images = tf.data.Dataset.from_tensor_slices(keys).map(change, num_parallel_calls=2).batch(40)
    once, again = (next(iter(images)).numpy() for _ in range(2))
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(once[3], change(keys[3]))
    one, other = once[:20], once[20:]
    assert len({image.tobytes() for image in one}) > 5
    assert np.mean((one != other).any((1, 2, 3))) > 0.5


def test_nothing_is_the_default():
    np.testing.assert_array_equal(augment(tf.constant(PHOTO), tf.constant([1, 2], tf.int64), Augmentation()), PHOTO)


def test_jitter_is_three_enhancements_in_random_order(monkeypatch):
    seen = []

    def spy(image, choice, value, operations):
        seen[-1].append((int(choice), float(value)))
        return apply(image, choice, value, operations)

    apply = module.apply
    monkeypatch.setattr(module, "apply", spy)
    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for i in range(200):
        seen.append([])
        image = module.jitter(tf.constant(PHOTO[:16, :16]), tf.constant([1, i], tf.int64), 0.4)
        expected = Image.fromarray(PHOTO[:16, :16])
        for choice, factor in seen[-1]:
            expected = kinds[choice](expected).enhance(factor)
        np.testing.assert_array_equal(image, expected)
    orders = Counter(tuple(choice for choice, _ in steps) for steps in seen)
    assert len(orders) == 6 and min(orders.values()) > 10  # of 33
    factors = np.array([factor for steps in seen for _, factor in steps])
    assert 0.6 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4
    assert factors.mean() == pytest.approx(1, abs=0.04)


def test_jitter_above_one_does_not_invert():
    black = tf.zeros((4, 4, 3), tf.uint8)
    grey = over_keys(lambda key: module.jitter(black + 100, key, 3.0), 300)[:, 0, 0, 0]
    assert grey.min() < 20 and grey.max() == 255  # 100 times 0 to 4, cut off


@pytest.mark.parametrize("size", [(48, 48), (40, 60)])
def test_erased_boxes_have_the_papers_sizes_anywhere(size):
    count = 4000
    top, left, height, width = over_keys(lambda key: erased_box(key, *size), count).T.astype(float)
    assert (
        (top >= 0).all() and (left >= 0).all() and (top + height <= size[0]).all() and (left + width <= size[1]).all()
    )
    share, ratio = height * width / np.prod(size), height / width
    # A side is rounded to whole pixels.
    slack = 0.5 * (height + width + 0.5) / np.prod(size)
    assert (share >= 0.02 - slack).all() and (share <= 0.33 + slack).all()
    assert (ratio <= 3.3 * (1 + 1 / width)).all() and (ratio >= 0.3 * (1 - 1 / height)).all()
    assert share.mean() == pytest.approx(0.175, abs=0.01)
    if size == (48, 48):  # flat and high alike
        assert near(np.mean(ratio[ratio != 1] > 1), 0.5, count)
    # Each corner is reached.
    for at, side, whole in ((top, height, size[0]), (left, width, size[1])):
        assert (at == 0).any() and (at + side == whole).any()


def test_erasing_fills_the_box_with_uniform_noise_and_leaves_the_rest():
    images = over_keys(lambda key: erased(tf.constant(PHOTO), key, 1.0), 200)
    noise = []
    for i, image in enumerate(images):
        seeds = tf.random.split(tf.constant([7, i], tf.int64), 3)
        top, left, height, width = erased_box(seeds[1], 64, 64).numpy()
        box = np.zeros((64, 64), bool)
        box[top : top + height, left : left + width] = True
        np.testing.assert_array_equal(image[~box], PHOTO[~box])
        changed = (image != PHOTO).any(-1)
        assert changed[box].mean() > 0.99
        noise.append(image[box].ravel())
    levels = np.bincount(np.concatenate(noise), minlength=256) / sum(map(len, noise))
    np.testing.assert_allclose(levels, 1 / 256, rtol=0.1)


def test_erasing_has_its_probability():
    images = over_keys(functools.partial(erased, tf.constant(PHOTO), probability=0.25), 1500)
    assert near(np.mean((images != PHOTO).any((1, 2, 3))), 0.25, 1500)


def test_a_single_pixel_can_be_augmented():
    images = over_keys(lambda key: augment(tf.zeros((1, 1, 3), tf.uint8), key, replace(ALL, erase=1.0)), 30)
    assert images.shape == (30, 1, 1, 3)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"augment_magnitude": 11.0}, "augment-magnitude 11.0: a number from 0 to 10 is needed"),
        ({"augment_layers": 0}, "augment-layers 0: a whole number from 1 to 100 is needed"),
        ({"augment_probability": 1.5}, "augment-probability 1.5: a probability, 0 to 1, is needed"),
        ({"augment_std": -1.0}, "augment-std -1.0: a number of 0 or more is needed"),
        ({"erase": -0.1}, "erase -0.1: a probability"),
        ({"color_jitter": float("nan")}, "color-jitter nan: a number of at most 3.4e+38 is needed"),
        ({"repeats": 0}, "repeats 0: 1 to the batch's 8 images is needed"),
        ({"repeats": 9}, "repeats 9: 1 to the batch's 8 images is needed"),
        ({"mixup": -0.2}, "mixup -0.2: a number of 0 or more"),
        ({"cutmix": float("inf")}, "cutmix inf: a number of at most 3.4e+38 is needed"),
        ({"mix_switch": 2.0}, "mix-switch 2.0: a probability"),
        ({"mix_off_epochs": 5}, "mix-off-epochs 5: at most the run's 4 epochs is needed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_flags_that_cannot_be_are_refused(flags, message):
    with pytest.raises(InputError, match=re.escape(message)):
        resolve(TrainConfig(batch_size=8, epochs=4, **flags))


def test_a_run_gets_what_its_flags_say(tiny, tmp_path, monkeypatch):
    seen = []

    def spy(split, order, resolution, augmentation, shard):
        seen.append({"repeats": order.repeats} | vars(augmentation))
        return train_batches(split, order, resolution, augmentation, shard)

    monkeypatch.setattr(phases, "train_batches", spy)
    flags = {"augment": "randaugment", "augment_magnitude": 4.0, "augment_std": 0.5, "augment_layers": 1,
             "augment_probability": 0.7, "color_jitter": 0.3, "erase": 0.2, "repeats": 3}  # fmt: skip
    config = resolve(TrainConfig(**tiny, **flags))
    source, facts = open_data("digits"), kcnn.facts(config.arch, classes=10)
    run = Run(config, tmp_path, source, tf.distribute.get_strategy(), facts, make_plan(config, 1442), None)
    batches = phases.training_data(run, config, 0)
    assert next(iter(batches))["image"].shape == (64, 16, 16, 3)
    expected = {"policy": "randaugment", "magnitude": 4.0, "std": 0.5, "layers": 1, "probability": 0.7,
                "color_jitter": 0.3, "erase": 0.2, "repeats": 3}  # fmt: skip
    assert {key: seen[0][key] for key in expected} == expected
