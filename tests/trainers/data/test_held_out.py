"""Which images a finished network is tested on."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.data import open_data
from trainers.data.held_out import open_held_out
from trainers.runs import folders, provenance
from trainers.settings import resolve
from trainers.training import prepare

CLASSES = ("ant", "bee", "cat")


def fill(root, classes=CLASSES, count=10):
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((6, 8, 3), i, np.uint8)).save(root / name / f"{i}.png")
    return root


def opened(data, part=None, trained="digits", **config):
    return open_held_out(TrainConfig(data=str(trained), **config), CLASSES, "RUN", data and str(data), part)


def labels(held_out):
    return np.bincount([int(r["label"]) for r in held_out.split.once()], minlength=len(CLASSES)).tolist()


def test_a_folder_of_class_folders_is_taken_whole(tmp_path):
    found = opened(fill(tmp_path / "new"))
    assert (found.part, found.split.size, labels(found)) == ("all", 30, [10, 10, 10])
    assert found.place == f"all of {tmp_path / 'new'}" and found.data == str(tmp_path / "new")


def test_some_classes_are_enough_and_keep_their_numbers(tmp_path):
    found = opened(fill(tmp_path / "new", ("cat", "ant")))
    assert labels(found) == [10, 0, 10] and found.split.class_counts == (10, 0, 10)
    first = next(iter(found.split.once()))
    assert found.split.describe(0) == first["image"].numpy().decode() == str(tmp_path / "new" / "ant" / "0.png")


@pytest.mark.parametrize("names, words", [
    (("ant", "dog"), "the data's 2 classes are not the 3 of the run.*'dog'"),
    (("x", "y"), "the data's 2 classes are not the 3 of the run.*'x', 'y'"),
    ((), "has no class folders"),
])  # fmt: skip
def test_other_classes_are_refused(tmp_path, names, words):
    (tmp_path / "new").mkdir()
    with pytest.raises(InputError, match=words):
        opened(fill(tmp_path / "new", names))


def test_parts_are_found_and_chosen(tmp_path):
    for i, part in enumerate(("train", "validation", "test")):
        fill(tmp_path / "new" / part, count=i + 2)
    for part, size, chosen in ((None, 9, "val"), ("val", 9, "val"), ("test", 12, "test"), ("train", 6, "train")):
        found = opened(tmp_path / "new", part)
        assert (found.part, found.split.size) == (chosen, size)
    assert found.place == f"all of {tmp_path / 'new' / 'train'}"


def test_a_part_alone_is_enough(tmp_path):
    fill(tmp_path / "new" / "test", ("bee",))
    found = opened(tmp_path / "new")
    assert (found.part, labels(found), found.place) == ("test", [0, 10, 0], f"all of {tmp_path / 'new' / 'test'}")
    with pytest.raises(InputError, match=r"split val: .*new has no such part, only test"):
        opened(tmp_path / "new", "val")


def test_a_class_may_be_called_like_a_part(tmp_path):
    classes = ("plane", "test", "train")
    fill(tmp_path / "new", classes)
    found = open_held_out(TrainConfig(data="digits"), classes, "RUN", str(tmp_path / "new"))
    assert (found.part, found.split.size) == ("all", 30)
    fill(tmp_path / "parts" / "test", classes)
    found = open_held_out(TrainConfig(data="digits"), classes, "RUN", str(tmp_path / "parts"))
    assert (found.part, found.split.size) == ("test", 30)


def test_the_run_s_own_folder_is_never_taken_whole(tmp_path, monkeypatch):
    own = fill(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    for data in (None, own, "own", tmp_path / "link", f"{own}/../own/"):
        if data == tmp_path / "link":
            data.symlink_to(own)
        found = opened(data, trained=own)
        assert (found.part, found.split.size) == ("val", 3)
    assert opened(own, "train", trained=own).split.size == 27
    with pytest.raises(InputError, match=r"split test: .* has no part of that name"):
        opened(None, "test", trained=own)


def test_the_run_s_own_test_folder_is_a_part(tmp_path):
    for part, count in (("train", 4), ("val", 3), ("test", 2)):
        fill(tmp_path / "own" / part, count=count)
    found = opened(None, "test", trained=tmp_path / "own")
    assert (found.part, labels(found), found.place) == ("test", [2, 2, 2], f"the test split of {tmp_path / 'own'}")
    (tmp_path / "own" / "test" / "dog").mkdir()  # is no matter to the others
    assert opened(None, trained=tmp_path / "own").split.size == 9
    with pytest.raises(InputError, match="'dog'"):
        opened(None, "test", trained=tmp_path / "own")


def test_test_is_left_alone_where_there_is_no_val(tmp_path):
    for part, count in (("train", 10), ("test", 2)):
        fill(tmp_path / "own" / part, count=count)
    source = open_data(str(tmp_path / "own"))
    assert (source.train.size, source.val.size, source.test().size) == (27, 3, 6)
    assert re.match("validation: 3 of the 30 images of .*/own/train, as .* kcnn evaluate RUN --split test", source.note)
    found = opened(None, trained=tmp_path / "own")
    assert (found.part, found.split.fingerprint()) == ("val", source.val.fingerprint())
    assert opened(None, "test", trained=tmp_path / "own").split.size == 6
    fill(tmp_path / "own" / "val", count=1)
    assert not open_data(str(tmp_path / "own")).note


def test_a_run_of_an_earlier_version_keeps_test_as_its_validation(tmp_path, tiny):
    for part, count in (("train", 30), ("test", 2)):
        fill(tmp_path / "own" / part, count=count)
    config = resolve(TrainConfig(**tiny | {"batch_size": 8}, data=str(tmp_path / "own"), epochs=1))
    run = tmp_path / "run"
    assert prepare(config, run).source.val.size == 9
    before = open_data(config.data, test_is_val=True)
    assert (before.train.size, before.val.size, before.note) == (90, 6, "")
    provenance.record(create(run, config), before, [])
    assert prepare(config, run).source.val.size == 6  # also where it is resumed a second time
    for record in ({"test_is_val": True}, {}, None):
        data = json.loads((run / "data.json").read_text())
        data.pop("test_is_val", None)
        (run / "data.json").write_text(json.dumps(data | (record or {})))
        if record is None:
            (run / "data.json").unlink()
        assert not provenance.difference(run, prepare(config, run).source)
        found = open_held_out(config, CLASSES, str(run))
        assert (found.part, found.split.fingerprint()) == ("val", before.val.fingerprint())
    provenance.record(run, open_data(config.data), [])
    assert open_held_out(config, CLASSES, str(run)).split.size == 9


def create(folder, config):
    folders.create(folder, config, {}, CLASSES)
    return folder


def test_parts_that_training_would_make_can_be_asked_for(tmp_path):
    moved = fill(tmp_path / "moved")
    assert opened(moved, "val").split.size == 3 and opened(moved, "train").split.size == 27
    with pytest.raises(InputError, match="split test"):
        opened(moved, "test")


def test_corrupt_images_are_left_out_where_the_run_did_so(tmp_path):
    (fill(tmp_path / "new") / "ant" / "0.png").write_bytes(b"no image")
    found = opened(tmp_path / "new", on_corrupt="skip")
    assert labels(found) == [9, 10, 10]
    assert all(tf.io.decode_png(found.split.load(r["image"])).shape == (6, 8, 3) for r in found.split.once())
    # Data sets that have no files to leave out are opened all the same.
    config = TrainConfig(data=str(tmp_path / "new"), on_corrupt="skip")
    assert open_held_out(config, tuple("0123456789"), "RUN", "digits").split.size == 355


@pytest.mark.parametrize("data, words", [("", "''"), ("no/such/folder", "no/such/folder"), ("./nowhere", "not exist")])
def test_no_data_is_one_line(tmp_path, monkeypatch, data, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words) as told:
        open_held_out(TrainConfig(data="digits"), CLASSES, "RUN", data)
    assert "\n" not in str(told.value)
