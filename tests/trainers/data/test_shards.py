"""Converted folders: equal to the folder they come from, resumable, and safe to read."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf

import trainers
from kcnn.errors import InputError
from kcnn.terminal import cli
from trainers.data import Order, open_data, train_batches
from trainers.data.folder import folder_parts, open_whole
from trainers.data.held_out import same_folder
from trainers.data.stored import shards
from trainers.data.stored.convert import convert

PIXELS = [[[7, 7, 7]] * 4] * 4


def fill(root, *folders, count=6):
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            picture = tf.constant(PIXELS, tf.uint8) + tf.cast(9 * number + i, tf.uint8)
            (root / folder / f"{i}.png").write_bytes(tf.io.encode_png(picture).numpy())
    return str(root)


@pytest.fixture
def plain(tmp_path):
    """Class folders alone, one image in a folder below, one with zeros at its end and a name that is no UTF-8."""
    root = fill(tmp_path / "plain", "a", "b/c", count=12)
    Path(root, "a", os.fsdecode(b"\xff.png")).write_bytes(Path(root, "a", "0.png").read_bytes() + b"\0\0")
    return root


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def assert_same_split(one, other):
    assert one.files() == other.files() and one.files()
    assert (one.fingerprint(), one.class_counts) == (other.fingerprint(), other.class_counts)
    for a, b in zip(one.once(), other.once(), strict=True):
        assert one.load(a["image"]) == other.load(b["image"]) and a["label"] == b["label"]


def test_a_converted_folder_gives_what_the_folder_gives(plain, out):
    assert convert(plain, str(out), shard_bytes=1000)["files"] == len(list(out.glob("*.tfrecord"))) > 1
    assert_same_split(*(open_data(name, val_split=0.4).val for name in (plain, str(out))))
    before, after = (open_data(name) for name in (plain, str(out)))
    assert (before.name, before.classes, before.corrupt) == (after.name, after.classes, after.corrupt)
    assert_same_split(before.train, after.train)
    assert_same_split(before.val, after.val)
    pairs = [train_batches(s.train, Order(3, 10, 2), 16).take(6).as_numpy_iterator() for s in (before, after)]
    for one, other in zip(*pairs, strict=True):
        assert all((one[key] == other[key]).all() for key in one)
    assert same_folder(str(out), plain) and not same_folder(str(out), f"{plain}/a")


def test_parts_stay_parts(tmp_path, out):
    root = fill(tmp_path / "parts", *(f"{part}/{label}" for part in ("train", "val", "test") for label in "ab"))
    convert(root, str(out))
    before, after = open_data(root), open_data(str(out))
    for one, other in (before.train, after.train), (before.val, after.val), (before.test(), after.test()):
        assert_same_split(one, other)
    parts = folder_parts(str(out), ("a", "b"))
    assert list(parts) == list(folder_parts(root, ("a", "b")))
    assert_same_split(open_whole(f"{root}/test", ("a", "b")), open_whole(parts["test"], ("a", "b")))


def test_broken_files_stop_the_conversion_or_are_left_out_as_from_the_folder(plain, out, capsys):
    Path(plain, "a", "3.png").write_bytes(b"none")
    Path(plain, "b", "gone.png").symlink_to("nowhere")
    os.mkfifo(f"{plain}/b/pipe.png")
    assert cli.main(["data", "convert", plain, str(out)]) == 2
    assert "pipe" in capsys.readouterr().err
    Path(plain, "b", "pipe.png").unlink()
    assert cli.main(["data", "convert", plain, str(out)]) == 2
    assert "3.png" in capsys.readouterr().err
    shutil.rmtree(out)
    os.mkfifo(f"{plain}/b/pipe.png")
    assert cli.main(["data", "convert", plain, str(out), "--on-corrupt", "skip"]) == 0
    with pytest.raises(InputError, match="pipe"):
        open_data(str(out))
    before, after = (open_data(name, on_corrupt="skip") for name in (plain, str(out)))
    assert_same_split(before.train, after.train)
    assert [Path(name).name for name in before.corrupt] == [Path(name).name for name in after.corrupt]
    assert len(after.corrupt) == 3


def test_a_conversion_cut_short_goes_on_to_equal_files(plain, tmp_path, out):
    cut = tmp_path / "cut"
    for folder in out, cut:
        convert(plain, str(folder), shard_bytes=1000)
    (cut / shards.DATA).rename(cut / shards.BEGUN)
    (cut / "kcnn-00001.index").unlink()
    (cut / ".kcnn-00001.01234567.partial.tfrecord").touch()
    with pytest.raises(InputError, match="did not end"):
        open_data(str(cut))
    whole = (cut / "kcnn-00000.tfrecord").stat().st_ino
    convert(plain, str(cut), shard_bytes=1000)
    assert contents(cut) == contents(out)
    assert (cut / "kcnn-00000.tfrecord").stat().st_ino == whole
    convert(plain, str(cut), shard_bytes=1000)
    Path(plain, "a", "0.png").unlink()
    with pytest.raises(InputError, match="has changed"):
        convert(plain, str(cut), shard_bytes=1000)


def test_damage_is_named(plain, out):
    convert(plain, str(out))
    path = out / "kcnn-00000.tfrecord"
    good = path.read_bytes()
    path.write_bytes(good[:20] + bytes([good[20] ^ 1]) + good[21:])
    with pytest.raises(tf.errors.OpError, match=r"00000\.tfrecord' is damaged at byte 12"):
        open_data(str(out)).train.load(tf.constant(b"0"))
    path.write_bytes(good[:-200])
    with pytest.raises(InputError, match="shorter"):
        open_data(str(out))
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="link"):
        open_data(str(out))
    path.unlink()
    path.write_bytes(good)
    for name in (shards.DATA, shards.NAMES, "kcnn-00000.index"):
        whole = (out / name).read_bytes()
        for content in b"", whole[:-5], b"\xff" * 24, b"[]", b'{"version": 1}':
            (out / name).write_bytes(content)
            with pytest.raises(InputError, match=name):
                open_data(str(out))
        (out / name).write_bytes(whole)
    assert open_data(str(out))


def test_the_command_keeps_out_of_other_folders(plain, tmp_path, out, capsys):
    assert cli.main(["data", "convert", plain, f"{plain}/a/x"]) == 2
    out.mkdir()
    for name in "mine.txt", "kcnn-00000.index":
        (out / name).write_text("mine")
        assert cli.main(["data", "convert", plain, str(out)]) == 2
        assert contents(out) == {name: b"mine"}
        (out / name).unlink()
    (out / ".kcnn-data-begun.01234567.partial.json").symlink_to(tmp_path / "target")
    assert cli.main(["data", "convert", plain, str(out)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 4 and not (tmp_path / "target").exists()
    assert cli.main(["data", "convert", plain, str(tmp_path / "new"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images"] == 25


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_conversion_killed_at_any_moment_goes_on(plain, tmp_path, out):
    """A process is killed once there are so many files, then another that goes on, and so on."""
    convert(plain, str(out), shard_bytes=100)
    cut, kills = tmp_path / "cut", 0
    cut.mkdir()
    code = f"from trainers.data.stored.convert import convert; convert({plain!r}, {str(cut)!r}, shard_bytes=100)"
    for files in (1, 2, 3, 6, 15):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(cut.iterdir())) < files:
            time.sleep(0.0005)
        process.kill()
        kills += process.wait() == -9
    assert kills
    convert(plain, str(cut), shard_bytes=100)
    assert contents(cut) == contents(out)


@pytest.mark.slow
def test_a_run_on_converted_data_is_the_same_run(photos, tiny, tmp_path, out, same_run):
    convert(str(photos), str(out))
    flags = tiny | {"recipe": "default", "resolution": 32, "batch_size": 16, "epochs": 2}
    one, other = (
        trainers.fit(trainers.TrainConfig(**flags, data=str(data), run_dir=str(tmp_path / name)))
        for name, data in (("folder", photos), ("converted", out))
    )
    assert one.figures.pop("data") == str(photos) and other.figures.pop("data") == str(out)
    same_run(other, one)
