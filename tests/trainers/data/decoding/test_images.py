import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

from trainers.data import decode, eval_array, eval_image, train_image
from trainers.data.decoding.headers import checked
from trainers.data.decoding.images import _decode_box, _resize

PHOTO = load_sample_images().images[0]  # (427, 640, 3)
SMALL = Image.fromarray(PHOTO[100:160:2, 200:280:2])  # 40 x 30


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


ODD = {
    "jpeg": encoded(SMALL, "JPEG", quality=95),
    "jpeg progressive": encoded(SMALL, "JPEG", progressive=True),
    "jpeg grey": encoded(SMALL.convert("L"), "JPEG"),
    "jpeg cmyk": encoded(SMALL.convert("CMYK"), "JPEG"),
    "jpeg rgb": encoded(SMALL, "JPEG", keep_rgb=True),
    "png": encoded(SMALL, "PNG"),
    "png palette": encoded(SMALL.convert("P"), "PNG"),
    "png palette with transparency": encoded(SMALL.convert("P"), "PNG", transparency=3),
    "png grey": encoded(SMALL.convert("L"), "PNG"),
    "png grey alpha": encoded(SMALL.convert("LA"), "PNG"),
    "png rgba": encoded(SMALL.convert("RGBA"), "PNG"),
    "png 1 bit": encoded(SMALL.convert("1"), "PNG"),
    "bmp": encoded(SMALL, "BMP"),
    "bmp grey": encoded(SMALL.convert("L"), "BMP"),
    "bmp rgba": encoded(SMALL.convert("RGBA"), "BMP"),
    "bmp palette": encoded(SMALL.convert("P"), "BMP"),
    "gif": encoded(SMALL.convert("P"), "GIF"),
    "gif of two frames": encoded(
        SMALL.convert("P"), "GIF", save_all=True, append_images=[SMALL.rotate(180).convert("P")]
    ),
    "webp": encoded(SMALL, "WEBP", lossless=True),
    "one pixel": encoded(SMALL.resize((1, 1)), "PNG"),
}


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("kind", ODD)
def test_decodes_what_pillow_decodes(kind):
    pixels = decode(ODD[kind])
    assert pixels.dtype == tf.uint8
    np.testing.assert_array_equal(pixels, by_pillow(ODD[kind]))


@pytest.mark.parametrize("kind", ODD)
def test_the_fused_path_equals_decode_then_crop(kind):
    np.testing.assert_array_equal(
        eval_image(tf.constant(ODD[kind]), 24), eval_array(decode(ODD[kind]), 24), strict=True
    )


def test_sixteen_bits_become_the_upper_eight():
    deep = np.asarray(SMALL).astype(np.uint16) * 256 + 77
    np.testing.assert_array_equal(decode(tf.io.encode_png(deep)), np.asarray(SMALL))
    grey = encoded(Image.fromarray(deep[..., 0]), "PNG")
    np.testing.assert_array_equal(decode(grey), np.repeat(np.asarray(SMALL)[..., :1], 3, -1))


@pytest.mark.parametrize(
    "data",
    [b"", b"BM", b"\xff\xd8\xff", b"no image", ODD["jpeg"][:-200], ODD["png"][:-60], encoded(SMALL, "TIFF")],
    ids=["empty", "bmp head", "jpeg head", "text", "cut jpeg", "cut png", "tiff"],
)
@pytest.mark.parametrize("read", [decode, lambda data: eval_image(tf.constant(data), 8)], ids=["decode", "eval"])
def test_broken_bytes_raise(data, read):
    with pytest.raises(tf.errors.InvalidArgumentError):
        read(data)


@pytest.mark.parametrize("quality, options", [(90, {}), (60, {"progressive": True}), (95, {"subsampling": 0})])
@pytest.mark.parametrize("crop", [0.5, 0.875, 1.0])
def test_a_photograph_gives_the_same_pixels_on_both_paths(quality, options, crop):
    data = encoded(Image.fromarray(PHOTO), "JPEG", quality=quality, **options)
    np.testing.assert_array_equal(
        eval_image(tf.constant(data), 96, crop=crop), eval_array(decode(data), 96, crop=crop), strict=True
    )


def test_evaluation_is_near_pillows_resize_of_the_central_square():
    side = round(0.875 * 427)
    top, left = (427 - side) // 2, (640 - side) // 2
    square = Image.fromarray(PHOTO[top : top + side, left : left + side])
    difference = eval_array(PHOTO, 128).numpy().astype(int) - np.asarray(square.resize((128, 128), Image.BILINEAR))
    assert np.abs(difference).max() <= 1


def test_a_full_crop_of_the_right_size_changes_nothing():
    np.testing.assert_array_equal(eval_array(PHOTO[:64, :64], 64, 1.0), PHOTO[:64, :64])


def draw(seed, data=ODD["jpeg"], **options):
    return train_image(tf.constant(data), 24, tf.constant(seed, tf.int64), **options).numpy()


def test_training_draws_hang_on_the_seed_alone():
    np.testing.assert_array_equal(draw((1, 2)), draw((1, 2)), strict=True)
    assert len({draw((1, index)).tobytes() for index in range(10)}) == 10
    assert len({draw((seed, 1)).tobytes() for seed in range(10)}) == 10


def test_without_crop_the_draws_are_the_image_and_its_mirror():
    square = encoded(SMALL.crop((0, 0, 30, 30)), "PNG")
    whole = eval_image(tf.constant(square), 24, crop=1.0).numpy()
    options = {"data": square, "crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
    seen = {draw((0, index), **options).tobytes() for index in range(20)}
    assert seen == {whole.tobytes(), np.ascontiguousarray(whole[:, ::-1]).tobytes()}
    assert {draw((0, index), flip=False, **options).tobytes() for index in range(20)} == {whole.tobytes()}


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (1, 200), (300, 2)])
def test_odd_shapes_can_be_cropped(size):
    for index in range(5):
        for kind in "PNG", "JPEG":
            assert draw((3, index), encoded(SMALL.resize(size), kind)).shape == (24, 24, 3)


def test_runs_inside_a_graph_with_a_static_shape():
    assert tf.function(lambda data: eval_image(data, 16)).get_concrete_function(
        tf.TensorSpec((), tf.string)
    ).structured_outputs.shape == (16, 16, 3)


@pytest.mark.parametrize("size", [(1, 1), (3, 300), (64, 64), (427, 640), (700, 900)])
@pytest.mark.parametrize("kind", ["photo", "pixels black or white"])
def test_the_resize_is_tensorflows_to_the_bit_and_near_pillows(size, kind):
    image = np.asarray(Image.fromarray(PHOTO).resize(size[::-1]))
    if kind != "photo":
        image = np.random.default_rng(0).integers(0, 2, (*size, 3)).astype(np.uint8) * 255
    ours = _resize(tf.constant(image), 48).numpy()
    theirs = tf.image.resize(image, (48, 48), antialias=True)
    np.testing.assert_array_equal(ours, tf.cast(tf.round(theirs), tf.uint8), strict=True)
    by_pillow = np.asarray(Image.fromarray(image).resize((48, 48), Image.BILINEAR))
    assert np.abs(ours.astype(int) - by_pillow).max() <= 1


@pytest.mark.parametrize("enough, ratio", [(165, 1), (164, 2), (83, 2), (82, 4), (41, 8), (1, 8), (None, 1)])
def test_a_much_too_large_jpeg_is_decoded_at_less_than_its_size(enough, ratio):
    data = encoded(Image.fromarray(PHOTO[:400, :400]), "JPEG", quality=95)
    part = _decode_box(checked(tf.constant(data)), lambda height, width: tf.stack([16, 32, 352, 328]), enough).numpy()
    blocks = by_pillow(data)[16 : 16 + 352, 32 : 32 + 328].reshape(352 // ratio, ratio, 328 // ratio, ratio, 3)
    assert part.shape == (352 // ratio, 328 // ratio, 3)
    assert np.abs(part - blocks.mean((1, 3))).mean() < (3 if ratio > 1 else 1e-9)


@pytest.mark.parametrize("kind", ODD)
def test_odd_pictures_that_are_far_too_large_are_cropped(kind):
    data = tf.constant(ODD[kind])
    image = train_image(data, 2, tf.constant((1, 2), tf.int64), crop_scale=(1.0, 1.0), flip=False)
    assert image.shape == (2, 2, 3)


def test_a_crop_of_a_large_photograph_is_near_pillows():
    data = encoded(Image.fromarray(PHOTO[:400, :400]), "JPEG", quality=95)
    options = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "flip": False, "data": data}
    expected = np.asarray(Image.fromarray(by_pillow(data)).resize((24, 24), Image.BILINEAR))
    difference = np.abs(draw((0, 1), **options).astype(int) - expected)
    assert 0 < difference.mean() < 1.5 and difference.max() < 16
