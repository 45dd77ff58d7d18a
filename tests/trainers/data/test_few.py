"""--images-per-class: so many training images of each class, drawn by the seed, and all else as it was."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.data import open_data
from trainers.data.few import images_per_class
from trainers.runs.asked import source_of


def opened(**flags):
    return source_of(TrainConfig(**flags), open_data)


def described(split):
    return [split.describe(i) for i in range(split.size)]


def test_each_class_has_so_many_and_the_seed_draws_them():
    whole, first, again, other = (
        opened(images_per_class=n, seed=seed) for n, seed in ((None, 0), (7, 0), (7, 0), (7, 1))
    )
    assert first.train.size == 70 and first.train.class_counts == (7,) * 10
    assert first.note == "70 of 1,442 training images, 7 of each class"
    assert described(first.train) == described(again.train) != described(other.train)
    assert first.train.fingerprint() == again.train.fingerprint() != other.train.fingerprint()
    assert first.val is whole.val or first.val.fingerprint() == whole.val.fingerprint()
    # A record is the one that has its description in the whole.
    labels = {
        whole.train.describe(i): (r["label"], r["image"]) for i, r in enumerate(whole.train.once().as_numpy_iterator())
    }
    for i, record in enumerate(first.train.once().as_numpy_iterator()):
        assert labels[first.train.describe(i)] == (record["label"], record["image"]) and record["index"] == i


def test_all_of_a_smaller_class_is_the_most_that_can_be_asked_for(tmp_path):
    for name, count in (("ant", 8), ("bee", 5)):
        for part, n in (("train", count), ("val", 2)):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)).save(tmp_path / part / name / f"{i}.png")
    source = opened(data=str(tmp_path), images_per_class=5)
    records = list(source.train.once().as_numpy_iterator())
    assert Counter(r["label"] for r in records) == {0: 5, 1: 5}
    assert all(source.train.load(r["image"]).numpy().startswith(b"\x89PNG") for r in records)
    assert all(("ant", "bee")[r["label"]] in source.train.describe(i) for i, r in enumerate(records))
    with pytest.raises(InputError, match=r"images-per-class 6: .* has 5 training images of class 'bee'"):
        opened(data=str(tmp_path), images_per_class=6)


def test_images_of_several_labels_have_no_class(tmp_path):
    rows = ""
    for i, labels in enumerate(["x", "x|y", "y"] * 4):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{i}.png")
        rows += f"{i}.png,{labels}\n"
    (tmp_path / "list.csv").write_text("path,labels\n" + rows)
    source = open_data(str(tmp_path / "list.csv"), multi_label=True)
    with pytest.raises(InputError, match="images-per-class 2: images with several labels"):
        images_per_class(source, 2, 0)
