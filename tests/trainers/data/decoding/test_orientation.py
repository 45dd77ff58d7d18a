"""Photographs stand as they are looked at, which Pillow's exif_transpose decides."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from trainers.data import decode, eval_image, train_image
from trainers.data.decoding.orientation import orientation

PHOTO = Image.fromarray(load_sample_image("china.jpg")[:301, :402])


def bytes_of(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(turn, order="II", jfif=False, entries=(), **options):
    """A JPEG with an orientation in a directory of this byte order, among other entries."""
    exif = Image.Exif()
    exif.endian = {"II": "<", "MM": ">"}[order]
    for tag, value in entries:
        exif[tag] = value
    exif[0x0112] = turn
    data = bytes_of(PHOTO, "JPEG", quality=90, exif=exif, **options)
    if jfif:  # Pillow writes no JFIF segment before EXIF
        head = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
        data = data[:2] + head + data[2:].replace(head, b"", 1)
    return data


def seen(data):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


CAMERA = [
    (0x010F, "a maker"),
    (0x0110, "a model"),
    (0x011A, 72.0),
    (0x0131, "a program"),
    (0x0132, "2026:01:01 00:00:00"),
]


@pytest.mark.parametrize("turn", [1, 3, 6, *(pytest.param(turn, marks=pytest.mark.slow) for turn in (2, 4, 5, 7, 8))])
def test_all_orientations_are_seen_as_by_pillow(turn):
    for data in (jpeg(turn), jpeg(turn, "MM", jfif=True, entries=CAMERA), jpeg(turn, progressive=True)):
        upright = seen(data)
        assert int(orientation(tf.constant(data))) == turn
        np.testing.assert_array_equal(decode(data), upright)
        png = bytes_of(Image.fromarray(upright), "PNG")
        for crop in (0.875, 1.0):
            np.testing.assert_array_equal(
                eval_image(tf.constant(data), 96, crop), eval_image(tf.constant(png), 96, crop)
            )
    for seed in range(3):
        drawn = [train_image(tf.constant(x), 96, tf.constant([seed, 5]), crop_scale=(0.08, 0.6)) for x in (data, png)]
        np.testing.assert_array_equal(*drawn)


@pytest.mark.slow
def test_crops_at_half_of_the_size_are_turned_too():
    """At 16 pixels a crop is decoded at an eighth of its size, which moves pixels a little."""
    for turn in range(1, 9):
        data = jpeg(turn)
        png = bytes_of(Image.fromarray(seen(data)), "PNG")
        crop = {"crop_scale": (0.8, 1.0), "flip": False}
        mine, whole = (train_image(tf.constant(x), 16, tf.constant([1, 5]), **crop).numpy() for x in (data, png))
        views = [np.rot90(view, k) for view in (whole, whole[:, ::-1]) for k in range(4)]
        apart = [np.abs(mine.astype(int) - view).mean() for view in views]
        assert 3 * apart[0] < min(apart[1:]), (turn, apart)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0",  # orientation 9
        b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x00\0\0",  # orientation 0
        b"MM\0*\0\0\0\x08\0\0\1\x12\0\3\0\0\0\1\0\x06\0\0",  # a directory of no entries
        b"XX\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x06\0\0",
        b"MM\0*\1\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x06\0\0",  # a directory that begins far behind
    ],
)
def test_what_is_no_orientation_turns_nothing(exif):
    data = bytes_of(PHOTO, "JPEG", exif=b"Exif\0\0" + exif)
    assert int(orientation(tf.constant(data))) == 1
    assert decode(data).shape == (301, 402, 3)


def test_short_bytes_have_no_orientation():
    for length in (0, 3, 6, 12, 20, 24, 30):
        assert int(orientation(tf.constant(jpeg(6)[:length]))) == 1
