"""Decoded images that are kept: the same pixels as without, and no file is read any more."""

import collections
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image

import trainers
from kcnn.errors import InputError
from trainers.data import Order, eval_batches, open_data, train_batches
from trainers.data.decoding.cache import half, kept


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes of nine images: JPEGs with and without coarser colours, of odd sides, a large one, turned ones, a PNG
    and a GIF."""
    root = tmp_path_factory.mktemp("pictures")
    for name in ("china", "flower"):
        folder = root / name
        folder.mkdir()
        photo = Image.fromarray(load_sample_image(f"{name}.jpg"))
        photo.save(folder / "whole.jpg", quality=90)
        photo.crop((3, 5, 304, 206)).save(folder / "odd.jpg", quality=85, subsampling=2)
        photo.crop((0, 0, 333, 331)).save(folder / "full.jpg", quality=85, subsampling=0)
        photo.crop((9, 9, 80, 70)).convert("L").save(folder / "grey.jpg")
        for turn in (3, 6, 7):
            exif = Image.Exif()
            exif[0x0112] = turn
            photo.crop((turn, 5, 301, 206)).save(folder / f"turned-{turn}.jpg", exif=exif)
        photo.crop((100, 100, 333, 401)).save(folder / "a.png")
        photo.crop((100, 100, 201, 180)).save(folder / "b.gif")
    return root


FREE = collections.namedtuple("Memory", "available")(10**5)
USAGE = collections.namedtuple("Usage", "free")(10**5)


def slow(*row):
    return pytest.param(*row, marks=pytest.mark.slow)


def full(*_):
    raise OSError(28, "No space left on device")


def pixels(batches, count):
    return [np.array(batch["image"]) for batch in batches.take(count)]


@pytest.mark.parametrize(("place", "side"), [("ram", 16), slow("disk", 40), slow("ram", 96)])
def test_crops_and_evaluations_are_the_same_to_the_bit(place, side, pictures, tmp_path):
    plain = open_data(str(pictures), val_split=0.5).train
    cached = kept(plain, place, tmp_path, side)
    assert not list(tmp_path.iterdir())
    order = Order(0, plain.size, 2)
    both = [pixels(train_batches(split, order, side), 30) for split in (cached, plain)]
    for mine, theirs in zip(*both, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for crop, method in ((0.875, "bilinear"), (1.0, "bicubic")):
        both = [pixels(eval_batches(s, batch=4, resolution=side, crop=crop, method=method), 9) for s in (cached, plain)]
        for mine, theirs in zip(*both, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_crops_at_each_half_of_a_jpeg_were_among_those_compared(pictures):
    """A 427 x 640 photograph at 16 pixels is decoded whole, at a half, at a quarter and at an eighth."""
    plain = open_data(str(pictures), val_split=0.5).train
    used = collections.Counter()
    cached = kept(plain, "ram", pictures, 16)
    owner = cached.cut.__self__
    window = type(owner).window

    def counted(self, index, times, box):
        used[int(times)] += 1
        return window(self, index, times, box)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(owner), "window", counted)
        pixels(train_batches(cached, Order(0, plain.size, 2), 16), 30)
    assert set(used) == {0, 1, 2, 3}


def test_sides_of_halves_are_those_of_the_decoder():
    for side in range(1, 40):
        data = tf.io.encode_jpeg(tf.zeros((side, 2 * side, 3), tf.uint8))
        for times in (1, 2, 3):
            shape = tf.io.decode_jpeg(data, ratio=2**times).shape
            assert shape[:2] == (half(side, times), half(2 * side, times))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ram", "disk"])
def test_a_cached_run_reads_no_file_once_it_has_begun(place, photos, tmp_path, tiny, same_run, no_pictures):
    """The folder is gone after the first epoch, and the run is the one without a cache to the bit."""
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    flags = tiny | {"recipe": "default", "data": str(copy), "batch_size": 16, "epochs": 2}
    plain = trainers.fit(trainers.TrainConfig(**flags, run_dir=str(tmp_path / "plain")))

    class Remove(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 0:
                copy.rename(tmp_path / "gone")

    config = trainers.TrainConfig(**flags, cache=place, run_dir=str(tmp_path / "cached"))
    same_run(trainers.fit(config, callbacks=[Remove()]), plain)
    assert not [path.name for path in (tmp_path / "cached").iterdir() if path.name.startswith("tmp")]


@pytest.mark.parametrize(
    ("place", "patched", "advice"),
    [
        ("ram", ("psutil.virtual_memory", lambda: FREE), "--cache disk"),
        ("disk", ("shutil.disk_usage", lambda _: USAGE), "another --run-dir"),
        ("disk", ("os.posix_fallocate", full), "has no room"),
    ],
)
def test_no_room_is_told_before_anything_is_decoded(place, patched, advice, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(*patched)
    with pytest.raises(InputError, match=f"^cache {place}: .*{advice}"):
        kept(open_data(str(pictures), val_split=0.5).train, place, tmp_path, 32)


@pytest.mark.slow
def test_a_broken_image_is_named(photos, tmp_path, tiny):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/train/china/3.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    flags = tiny | {"data": str(tmp_path / "photos"), "batch_size": 16, "epochs": 1, "cache": "ram"}
    with pytest.raises(InputError, match=r"broken image .*china/3\.jpg"):
        trainers.fit(trainers.TrainConfig(**flags, run_dir=str(tmp_path / "run")))
