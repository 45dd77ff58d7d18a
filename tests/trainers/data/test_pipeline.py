import itertools
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcnn.errors import InputError
from trainers.data import (
    Augmentation,
    Order,
    broken_files,
    eval_batches,
    eval_image,
    open_data,
    train_batches,
    training_records,
)
from trainers.data.augment import USUAL

AUGMENTED = {"augmentation": Augmentation(policy="randaugment", std=0.5, color_jitter=0.4, erase=0.5)}


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def collect(dataset, count=-1):
    return [{key: value.numpy() for key, value in batch.items()} for batch in dataset.take(count)]


def join(batches, key):
    return np.concatenate([batch[key] for batch in batches])


def train(split, start=0, shard=(0, 1), threads=2, augmentation=USUAL, **order):
    """Batches of `batch` images for each shard."""
    order = {"seed": 5, "epoch_size": 50, "start": start} | order
    batch = order.pop("batch", 8) * shard[1]
    return train_batches(split, Order(batch=batch, **order), 12, augmentation, shard, threads)


def test_batches_have_static_shapes_and_no_end(digits):
    batches = train(digits.train)
    assert batches.element_spec == {
        "image": tf.TensorSpec((8, 12, 12, 3), tf.uint8),
        "label": tf.TensorSpec((8,), tf.int32),
        "index": tf.TensorSpec((8,), tf.int64),
    }
    assert batches.cardinality() == tf.data.INFINITE_CARDINALITY
    assert train(digits.train, shard=(1, 2)).cardinality() == tf.data.INFINITE_CARDINALITY


@pytest.mark.parametrize("start", [8, 50, 77])
def test_training_resumes_bitwise_at_any_example(digits, start):
    whole = collect(train(digits.train), 25)
    tail = collect(train(digits.train, start), 10)
    for key in "image", "label", "index":
        np.testing.assert_array_equal(join(tail, key), join(whole, key)[start : start + 80], strict=True)


def test_the_number_of_threads_changes_nothing(digits):
    one, four = (collect(train(digits.train, threads=threads, **AUGMENTED), 10) for threads in (1, 4))
    np.testing.assert_array_equal(join(one, "image"), join(four, "image"), strict=True)


def test_another_epoch_draws_another_crop(tmp_path):
    for name, i in itertools.product("ab", range(2)):
        (tmp_path / name).mkdir(exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (60, 70, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / name / f"{i}.png")
    split = open_data(str(tmp_path)).train
    batches = collect(train(split, batch=2, epoch_size=2), 20)
    for index in 0, 1:
        images = [batch["image"][batch["index"] == index].tobytes() for batch in batches]
        assert len(set(images)) == 20


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_are_blocks_of_the_same_stream(digits, shards):
    whole = collect(train(digits.train, start=16, batch=4 * shards), 6)
    parts = [collect(train(digits.train, start=16, batch=4, shard=(w, shards)), 6) for w in range(shards)]
    for key in "image", "label", "index":
        together = [np.concatenate([part[step][key] for part in parts]) for step in range(6)]
        np.testing.assert_array_equal(np.concatenate(together), join(whole, key), strict=True)


@pytest.mark.parametrize("repeats", [2, 3])
def test_repeats_put_each_image_several_times_into_a_batch(digits, repeats):
    jitter = Augmentation(color_jitter=0.4)
    batches = collect(train(digits.train, batch=16, epoch_size=64, repeats=repeats, augmentation=jitter), 8)
    images = -(-16 // repeats)
    for batch in batches:
        counts = Counter(batch["index"].tolist())
        # Where repeats do not divide the batch, its last copy is short.
        assert len(counts) == images and sorted(counts.values()) == sorted(
            len(range(i, 16, images)) for i in range(images)
        )
        np.testing.assert_array_equal(batch["index"], batch["index"][np.arange(16) % images])
        by_index = {i: {x.tobytes() for x in batch["image"][batch["index"] == i]} for i in counts}
        assert np.mean([len(seen) == counts[i] for i, seen in by_index.items()]) > 0.9
    # An epoch of four batches has as many different images as fit, and each in one batch only.
    for epoch in batches[:4], batches[4:]:
        assert len(set(join(epoch, "index"))) == 4 * images
    assert set(join(batches[:4], "index")) != set(join(batches[4:], "index"))


@pytest.mark.parametrize("start", [21, 48, 71])
def test_repeats_resume_at_any_example(digits, start):
    whole, tail = (training_records(digits.train, Order(5, 48, 16, n, 3)).take(100 - n) for n in (0, start))
    read = [[(int(r["epoch"]), int(r["index"]), int(r["copy"])) for r in records] for records in (whole, tail)]
    assert read[1] == read[0][start:]


def test_augmented_repeats_resume_bitwise(digits):
    options = {"batch": 16, "epoch_size": 48, "repeats": 3, **AUGMENTED}
    whole, tail = collect(train(digits.train, **options), 5), collect(train(digits.train, 48, **options), 2)
    for key in "image", "label", "index":
        np.testing.assert_array_equal(join(tail, key), join(whole, key)[48:], strict=True)


def test_shards_share_out_the_copies(digits):
    options = {"start": 32, "epoch_size": 64, "repeats": 2}
    whole = collect(train(digits.train, batch=16, **options), 3)
    parts = [collect(train(digits.train, batch=8, shard=(w, 2), **options), 3) for w in range(2)]
    for key in "image", "label", "index":
        together = [np.concatenate([part[step][key] for part in parts]) for step in range(3)]
        np.testing.assert_array_equal(np.concatenate(together), join(whole, key), strict=True)
    for one, other in zip(*parts, strict=True):
        np.testing.assert_array_equal(one["index"], other["index"])


def test_repeats_need_whole_batches(digits):
    with pytest.raises(InputError, match="epoch_size is 50; with repeats, give a multiple of the batch of 8"):
        train(digits.train, repeats=2)
    for repeats in 0, 9:
        with pytest.raises(InputError, match=f"repeats is {repeats}; give 1 to 8"):
            train(digits.train, repeats=repeats)


def test_augmentation_does_not_move_the_crops(digits):
    plain, erased = (collect(train(digits.train, augmentation=Augmentation(erase=erase)), 2) for erase in (0.0, 0.5))
    same = (join(plain, "image") == join(erased, "image")).all((1, 2, 3))
    assert 0 < same.sum() < 16  # those that were not erased


@pytest.mark.parametrize("epoch_size", [0, 1443])
def test_an_epoch_is_at_most_the_split(digits, epoch_size):
    with pytest.raises(InputError, match=f"epoch_size is {epoch_size}; give 1 to 1442"):
        train(digits.train, epoch_size=epoch_size)


@pytest.mark.parametrize("batch, shards", [(32, 1), (30, 3), (71, 1), (400, 2)])
def test_evaluation_sees_each_example_once(digits, batch, shards):
    parts = [collect(eval_batches(digits.val, batch=batch, resolution=8, shard=(w, shards))) for w in range(shards)]
    assert {len(part) for part in parts} == {-(-355 // (batch * shards))}
    batches = list(itertools.chain(*parts))
    assert all(b["image"].shape == (batch, 8, 8, 3) and b["weight"].shape == (batch,) for b in batches)
    weight, index = join(batches, "weight"), join(batches, "index")
    assert sorted(index[weight == 1]) == list(range(355))
    assert weight.sum() == 355 and set(weight) <= {0, 1}
    assert (index[weight == 0] == -1).all() and not join(batches, "image")[weight == 0].any()


def test_evaluation_is_eval_image_in_order(digits):
    batches = eval_batches(digits.val, batch=71, resolution=16, crop=1.0)
    assert batches.cardinality() == 5
    images = join(collect(batches), "image")
    for record in digits.val.once().take(3):
        expected = eval_image(record["image"], 16, crop=1.0)
        np.testing.assert_array_equal(images[record["index"]], expected, strict=True)


@pytest.fixture
def damaged(tmp_path):
    for name, i in itertools.product(("cat", "dog"), range(10)):
        path = tmp_path / "train" / name / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), i, np.uint8)).save(path)
        path = tmp_path / "val" / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), i, np.uint8)).save(path)
    source = open_data(str(tmp_path))
    for part in "train", "val":
        for name in "cat/3", "dog/5":
            (file,) = (tmp_path / part).glob(name + ".*")
            file.write_bytes(file.read_bytes()[:-30]) if name == "cat/3" else file.unlink()
    return source


def test_broken_and_missing_files_are_named(damaged):
    split = damaged.train
    with pytest.raises(tf.errors.OpError):
        collect(train(split, batch=4, epoch_size=20), 5)
    broken = broken_files(split, split.stream(5, 20, 0), 40)
    assert sorted(broken) == [split.describe(3), split.describe(15)]
    order = [int(record["index"]) for record in split.stream(5, 20, 0).take(20)]
    first = min(order.index(3), order.index(15))
    assert broken_files(split, split.stream(5, 20, 0), first) == {}
    assert list(broken_files(split, split.stream(5, 20, first), 1)) == [split.describe(order[first])]


def test_broken_files_are_named_in_evaluation(damaged):
    with pytest.raises(tf.errors.OpError):
        collect(eval_batches(damaged.val, batch=8, resolution=8))
    broken = broken_files(damaged.val, damaged.val.once())
    assert [name.split("/val/")[1] for name in broken] == ["cat/3.png", "dog/5.png"]
