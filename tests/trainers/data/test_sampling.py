"""A few examples stand for a whole split: all classes are among them, in the split's proportions."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from trainers.data import sampling
from trainers.data.sampling import sample, stratified
from trainers.data.splits import indexed_split
from trainers.serving.references import samples


def sorted_split(sizes, known=True):
    """A split sorted by class, as folders are, of which nothing but the labels may be read."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    images = [b"%d" % i for i in range(len(labels))]

    def load(image):
        return tf.strings.join([image, " loaded"])

    split = indexed_split(images, labels, len(sizes), lambda index, _: f"example {index}", load)
    return split if known else replace(split, class_counts=None), labels


@pytest.mark.parametrize("sizes, count, least, most", [
    ([20] * 12, 100, 8, 9), ([20] * 12, 12, 1, 1), ([20] * 12, 7, 0, 1), ([20] * 12, 240, 20, 20), ([3, 3], 100, 3, 3),
])  # fmt: skip
def test_classes_of_one_size_are_drawn_alike(sizes, count, least, most):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    chosen = stratified(labels, count)
    drawn = np.bincount(labels[chosen], minlength=len(sizes))
    assert len(set(chosen)) == len(chosen) == min(count, len(labels))
    assert drawn.min() == least and drawn.max() == most and (np.diff(chosen) > 0).all()


def test_shares_are_kept_and_no_class_is_left_out():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 5], [9000, 900, 90, 10]))
    drawn = np.bincount(labels[stratified(labels, 1000)], minlength=6)
    np.testing.assert_allclose(drawn, [900, 90, 9, 0, 0, 1], atol=1)
    drawn = np.bincount(labels[stratified(labels, 20)], minlength=6)
    np.testing.assert_allclose(drawn, [17, 1, 1, 0, 0, 1], atol=1)


def test_a_seed_is_a_draw():
    labels = np.repeat(np.arange(5), 100)
    one, same, other = (stratified(labels, 50, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    # From all over each class, not its first examples.
    assert (one % 100).max() > 80 and np.median(one % 100) == pytest.approx(50, abs=20)


@pytest.mark.parametrize("known", [True, False], ids=["a folder", "a data set without counts"])
def test_a_sample_has_all_classes(known):
    split, labels = sorted_split([20] * 12, known)
    part = sample(split, 100, 12)
    records = [{key: value.numpy() for key, value in record.items()} for record in part.once()]
    assert part.size == len(records) == 100
    assert set(np.bincount([r["label"] for r in records], minlength=12)) <= {8, 9}
    assert all(labels[r["index"]] == r["label"] and r["image"] == b"%d" % r["index"] for r in records)
    assert [r["index"] for r in records] == [r["index"].numpy() for r in sample(split, 100, 12).once()]
    assert sample(split, 240, 12) is split and sample(split, 1000, 12) is split


@pytest.mark.parametrize("known", [True, False], ids=["a folder", "a data set without counts"])
def test_what_exports_are_checked_and_calibrated_on_has_all_classes(known):
    split, labels = sorted_split([20] * 12, known)
    pictures, drawn = samples(split, 100, 12)
    assert set(np.bincount(drawn, minlength=12)) <= {8, 9}
    assert [labels[int(picture.split()[0])] for picture in pictures] == drawn
    assert all(picture.endswith(b" loaded") for picture in pictures)


@pytest.mark.parametrize("classes", [12, 13], ids=["all classes are there", "one is not"])
def test_of_a_large_data_set_as_much_is_read_as_it_takes(monkeypatch, classes):
    monkeypatch.setattr(sampling, "ENOUGH", 100)
    monkeypatch.setattr(sampling, "_READ", 50)
    split, labels = sorted_split([50] * 12, known=False)
    read = []

    def noted(seed, epoch_size, start):
        def note(record):
            tf.py_function(lambda index: read.append(int(index)), [record["index"]], [])
            return record

        return split.stream(seed, epoch_size, start).map(note)

    part = sample(replace(split, stream=noted), 60, classes)
    assert len(read) <= 200 if classes == 12 else len(read) >= 600
    records = [{key: value.numpy() for key, value in record.items()} for record in part.once()]
    drawn = np.bincount([r["label"] for r in records], minlength=12)
    assert len(records) == 60 and drawn.min() >= 1 and (classes == 12 or set(drawn) == {5})
    assert all(labels[r["index"]] == r["label"] for r in records)
    assert [r["index"] for r in records] == [r["index"].numpy() for r in part.once()]


def test_a_large_data_set_that_is_sorted_is_read_until_all_classes_were_seen(monkeypatch):
    monkeypatch.setattr(sampling, "ENOUGH", 100)
    monkeypatch.setattr(sampling, "_READ", 50)
    split, _ = sorted_split([50] * 12, known=False)
    ordered = replace(split, stream=lambda seed, epoch_size, start: split.once().skip(start).repeat())
    part = sample(ordered, 60, 12)
    assert set(np.bincount([int(r["label"]) for r in part.once()], minlength=12)) == {5}
