"""Each operation against Pillow's, on photographs and on images that are flat, dark or tiny."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images

from trainers.data.operations import OPERATIONS, apply

CHINA, FLOWER = (np.ascontiguousarray(photo[100:196, 200:296]) for photo in load_sample_images().images)
FLAT = np.full((41, 53, 3), 77, np.uint8)
FLAT[..., 1] = FLOWER[:41, :53, 1]  # one channel with a picture, two without
IMAGES = {"china": CHINA, "flower": FLOWER, "low contrast": CHINA // 4 + 90, "flat": FLAT, "tiny": FLOWER[:9, :7]}
FACTORS = (0.0, 0.1, 0.4, 0.73, 1.0, 1.3, 1.6, 1.99)


def enhance(kind):
    return lambda image, value: kind(image).enhance(value)


def affine(matrix):
    return lambda image, value: image.transform(
        image.size, Image.Transform.AFFINE, matrix(value, *image.size), Image.Resampling.NEAREST, fillcolor=(128,) * 3
    )


PILLOW = {
    "identity": (lambda image, _: image, (0,)),
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), (0,)),
    "equalize": (lambda image, _: ImageOps.equalize(image), (0,)),
    "invert": (lambda image, _: ImageOps.invert(image), (0,)),
    "solarize": (ImageOps.solarize, (0, 25.6, 128, 200.3, 256)),
    "posterize": (ImageOps.posterize, (1, 2, 4, 5, 8)),
    "brightness": (enhance(ImageEnhance.Brightness), FACTORS),
    "contrast": (enhance(ImageEnhance.Contrast), FACTORS),
    "color": (enhance(ImageEnhance.Color), FACTORS),
    "sharpness": (enhance(ImageEnhance.Sharpness), FACTORS),
    "rotate": (lambda image, value: image.rotate(value, fillcolor=(128,) * 3), (-135, -30, -10, 0, 17.3, 90)),
    "shear_x": (affine(lambda v, w, h: (1, v, 0, 0, 1, 0)), (-0.99, -0.3, 0, 0.1)),
    "shear_y": (affine(lambda v, w, h: (1, 0, 0, v, 1, 0)), (-0.99, -0.3, 0, 0.1)),
    "translate_x": (affine(lambda v, w, h: (1, 0, v * w, 0, 1, 0)), (-0.45, -0.1, 0.01, 0.32)),
    "translate_y": (affine(lambda v, w, h: (1, 0, 0, 0, 1, v * h)), (-0.45, -0.1, 0.01, 0.32)),
}


def test_all_operations_are_compared():
    assert PILLOW.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_pillows(name):
    by_pillow, values = PILLOW[name]
    for kind, image in IMAGES.items():
        for value in values:
            ours = OPERATIONS[name](tf.constant(image), tf.constant(value, tf.float32)).numpy()
            theirs = np.asarray(by_pillow(Image.fromarray(image), value))
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            wrong = np.mean((ours != theirs).any(-1))
            # Pillow turns in fixed-point numbers: now and then it takes the neighbouring pixel.
            assert wrong <= (0.02 if name == "rotate" else 0), (kind, value, wrong)


@pytest.mark.parametrize("name, value", [("rotate", 30), ("shear_x", 0.3), ("shear_y", -0.2), ("translate_x", 0.4)])
def test_what_comes_from_outside_is_grey(name, value):
    white = tf.fill((20, 20, 3), tf.constant(255, tf.uint8))
    moved = OPERATIONS[name](white, tf.constant(value, tf.float32)).numpy()
    assert set(np.unique(moved)) == {128, 255}


def test_sharpness_leaves_what_has_no_middle():
    np.testing.assert_array_equal(
        OPERATIONS["sharpness"](tf.constant(FLOWER[:2, :9]), tf.constant(1.9)), FLOWER[:2, :9]
    )


def test_apply_runs_the_chosen_one_and_keeps_the_shape():
    @tf.function
    def chosen(i, value):
        image = apply(tf.constant(CHINA), i, value)
        assert (image.shape, image.dtype) == (CHINA.shape, tf.uint8)
        return image

    for i, (name, operation) in enumerate(OPERATIONS.items()):
        value = tf.constant(PILLOW[name][1][-1], tf.float32)
        np.testing.assert_array_equal(chosen(tf.constant(i), value), operation(tf.constant(CHINA), value))
