"""What a served network makes of odd and hostile requests. It runs in this process, without an export."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from trainers.config import TrainConfig
from trainers.data import reason
from trainers.serving.signatures import make_signatures


@pytest.fixture(scope="module")
def served():
    pixels = keras.Input((8, 8, 3))
    model = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(pixels)))
    config = TrainConfig(resolution=8, eval_crop=1.0, interpolation="bilinear")
    return make_signatures(model, config, ("a", "b"), ("image", "image_uint8", "classify"), max_pixels=1000)[1]


def refusal(call, **request):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        call(**request)
    return reason(error.value)


def encoded(side, format):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(out, format)
    return out.getvalue()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused_by_place(served, value):
    images = np.full((3, 9, 9, 3), 100, np.float32)
    assert served["image"](image=tf.constant(images))["probabilities"].shape == (3, 2)
    images[2, 8, 8, 2] = value
    words = refusal(served["image"], image=tf.constant(images))
    assert words == "picture 2 of the request has pixels that are not finite numbers"


def test_values_beyond_a_pixel_s_are_the_nearest(served):
    images = np.full((2, 9, 9, 3), 1e30, np.float32), np.full((2, 9, 9, 3), -1e30, np.float32)
    for image, value in zip(images, (255, 0), strict=True):
        answer = served["image"](image=tf.constant(image))["probabilities"]
        expected = served["image_uint8"](image=tf.fill((2, 9, 9, 3), tf.constant(value, tf.uint8)))["probabilities"]
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("shape, words", [
    ((0, 8, 8, 3), "the request holds no picture"), ((2, 0, 8, 3), "no pixels"), ((2, 8, 0, 3), "no pixels"),
])  # fmt: skip
def test_requests_without_pixels_are_refused(served, shape, words):
    assert words in refusal(served["image"], image=tf.zeros(shape))
    assert words in refusal(served["image_uint8"], image=tf.zeros(shape, tf.uint8))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_a_picture_beyond_the_limit_is_refused_by_place(served, format):
    small, large = encoded(31, format), encoded(32, format)
    words = refusal(served["serving_default"], image_bytes=tf.constant([small, large]))
    assert words == "picture 1 of the request has 1024 pixels, beyond the limit of 1000"
    example = tf.train.Example()
    example.features.feature["image_bytes"].bytes_list.value.append(large)
    words = refusal(served["classify"], inputs=tf.constant([example.SerializeToString()]))
    assert words.startswith("picture 0 of the request has 1024 pixels")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_cut_off_anywhere_a_picture_never_ends_the_server(served, format):
    """It is answered or refused; what matters is that this process is still there."""
    data = encoded(30, format)
    for end in (0, 2, 5, 12, 17, 25, 31, 60, len(data) // 2, len(data) - 1):
        try:
            answer = served["serving_default"](image_bytes=tf.constant([data[:end]]))
            np.testing.assert_allclose(tf.reduce_sum(answer["probabilities"]), 1, atol=1e-5)
        except tf.errors.InvalidArgumentError as error:
            assert reason(error).isprintable()
    assert served["serving_default"](image_bytes=tf.constant([data]))["scores"].shape == (1, 2)
