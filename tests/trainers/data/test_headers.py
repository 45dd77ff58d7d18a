"""Sizes are read before anything is decoded, and what is too large or no picture is refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from trainers.serving.headers import area, checked

DRAWS = np.random.default_rng(0)


@pytest.fixture(scope="module")
def measure():
    return tf.function(area, input_signature=[tf.TensorSpec((), tf.string)])


@pytest.fixture(scope="module")
def check():
    return tf.function(lambda data: checked(data, tf.constant(3), 10**6),
                       input_signature=[tf.TensorSpec((), tf.string)])  # fmt: skip


def picture(height=37, width=61, mode="RGB"):
    return Image.fromarray(DRAWS.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)


def encoded(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def frames(count, height, width):
    first, *others = (picture(height, width) for _ in range(count))
    return encoded(first, "GIF", save_all=True, append_images=others)


def png_header(width, height):
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))


@pytest.mark.parametrize("format, options", [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("BMP", {}), ("GIF", {}),
    ("WEBP", {}), ("WEBP", {"lossless": True}),
])  # fmt: skip
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pillow_s_pictures_are_measured(measure, format, options, mode):
    for height, width in ((37, 61), (1, 1), (300, 2)):
        assert measure(encoded(picture(height, width, mode), format, **options)) == height * width


def test_all_frames_of_a_gif_count(measure):
    assert measure(frames(4, 50, 60)) == 4 * 50 * 60
    small, large = encoded(picture(2, 2), "GIF"), encoded(picture(300, 300), "GIF")
    # The frame of the second behind that of the first, as made by hand: a small canvas, and what does not fit.
    flags = large[10]
    table = large[13 : 13 + 3 * 2 ** (flags % 8 + 1)]
    frame = large[large.index(b",\0\0\0\0", 13 + len(table)) :]
    local = frame[:9] + bytes([frame[9] | 128 | flags % 8]) + table + frame[10:]
    assert measure(small[:-1] + local) == 4 + 300 * 300


def test_webp_with_transparency_and_animation(measure):
    assert measure(encoded(picture(20, 30, "RGBA"), "WEBP")) == 600
    first, second = picture(50, 60), picture(50, 60)
    assert measure(encoded(first, "WEBP", save_all=True, append_images=[second])) == 3000


def test_a_bmp_upside_down(measure):
    data = bytearray(encoded(picture(10, 20), "BMP"))
    data[22:26] = struct.pack("<i", -10)
    assert measure(bytes(data)) == 200


@pytest.mark.parametrize("data", [
    encoded(picture(), "JPEG"), encoded(picture(), "PNG"), encoded(picture(), "GIF"), encoded(picture(), "BMP"),
    encoded(picture(), "WEBP"), encoded(picture(1000, 1000), "PNG"),
], ids=["jpeg", "png", "gif", "bmp", "webp", "just allowed"])  # fmt: skip
def test_sound_pictures_pass_as_they_are(check, data):
    assert check(data).numpy() == data


@pytest.mark.parametrize("data, words", [
    (b"", "picture 3 of the request is none"),
    (b"GIF", "picture 3 of the request is none"),
    (b"<svg width='1'></svg>" * 9, "its bytes are not those of a JPEG, PNG, GIF, BMP or WebP"),
    (png_header(60000, 60000), "picture 3 of the request has 3600000000 pixels, beyond the limit of 1000000"),
    (png_header(2**32 - 1, 2**32 - 1), "beyond the limit"),
    (b"BM" + b"\0" * 16 + struct.pack("<ii", 2**31 - 1, -(2**31)) + b"\0" * 40, "beyond the limit"),
    (frames(12, 300, 300), "has 1080000 pixels"),
    (encoded(picture(1001, 1000), "JPEG"), "has 1001000 pixels"),
    (b"GIF89a" + b"\0" * 7 + b"\x21\xf9" + b"\1\1" * 70000, "a GIF has more than 65536 blocks"),
    (b"\xff\xd8\xff\xe0", "Invalid JPEG"),
], ids=range(10))  # fmt: skip
def test_others_are_refused(check, data, words):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        check(data)
    assert words in error.value.message


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_cut_off_anywhere_a_picture_never_ends_the_server(exported, format):
    """It is answered or refused; what matters is that this process is still there."""
    serve = tf.saved_model.load(str(exported[0] / "1"))
    data = encoded(picture(), format)
    for end in (2, 5, 12, 17, 25, 31, 60, len(data) // 2, len(data) - 1):
        try:
            outputs = serve.signatures["serving_default"](image_bytes=tf.constant([data[:end]]))
            np.testing.assert_allclose(tf.reduce_sum(outputs["probabilities"]), 1, atol=1e-5)
        except tf.errors.InvalidArgumentError:
            pass
    assert serve.signatures["serving_default"](image_bytes=tf.constant([data]))["scores"].shape == (1, 2)
