import os
import types
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from kcnn.errors import InputError
from trainers.data import Source, decode, open_data, tfds_source


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")
    sizes = types.MappingProxyType({"train": 23})

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 3)), "note": tfds.features.Text()}
        features |= self.label()
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def label(self):
        return {"label": tfds.features.ClassLabel(names=["even", "odd"])}

    def _split_generators(self, dl_manager):
        return {part: self._generate_examples(size) for part, size in self.sizes.items()}

    def _generate_examples(self, size):
        for i in range(size):
            yield i, {"image": np.full((5, 6, 3), i, np.uint8), "note": "x"} | dict.fromkeys(self.label(), i % 2)


class OnlyTrain(_Builder):
    pass


class TrainAndTest(_Builder):
    sizes = types.MappingProxyType({"train": 23, "test": 7})


class OnlyTest(_Builder):
    sizes = types.MappingProxyType({"test": 7})


class Unlabelled(_Builder):
    def label(self):
        return {}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    several_files = tfds.download.DownloadConfig(num_shards=3)
    for builder in OnlyTrain, TrainAndTest, OnlyTest, Unlabelled:
        builder(data_dir=folder).download_and_prepare(download_config=several_files)
    return folder


def write(path, level=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), level, np.uint8)).save(path)
    return path


def fill(root, classes=("cat", "dog"), count=10):
    for name in classes:
        for i in range(count):
            write(root / name / f"{i}.png", i)
    return root


def records(dataset, count=-1):
    return [{key: value.numpy() for key, value in record.items()} for record in dataset.take(count)]


@pytest.fixture(params=["digits", "tfds:train_and_test", "folder"])
def source(request, prepared, tmp_path) -> Source:
    name = str(fill(tmp_path, count=12)) if request.param == "folder" else request.param
    return open_data(name, data_dir=prepared)


def test_every_record_has_one_format(source):
    for split in source.train, source.val:
        once = records(split.once())
        assert [record["index"] for record in once] == list(range(split.size))
        assert {record["epoch"] for record in once} == {0}
        assert split.stream(0, 2, 0).element_spec == split.once().element_spec
        if split.class_counts is not None:
            counts = Counter(record["label"] for record in once)
            assert split.class_counts == tuple(counts[label] for label in range(len(source.classes)))
        assert decode(split.load(once[0]["image"])).shape[-1] == 3


def test_an_epoch_is_a_permutation_and_the_next_one_another(source):
    size = source.train.size
    drawn = records(source.train.stream(5, size, 0), 2 * size)
    first, second = drawn[:size], drawn[size:]
    assert sorted(r["index"] for r in first) == sorted(r["index"] for r in second) == list(range(size))
    assert [r["index"] for r in first] != [r["index"] for r in second]
    assert {r["epoch"] for r in first} == {0} and {r["epoch"] for r in second} == {1}
    by_index = {r["index"]: r for r in records(source.train.once())}
    assert all(r["image"] == by_index[r["index"]]["image"] for r in first)
    assert all(r["label"] == by_index[r["index"]]["label"] for r in first)


def test_the_stream_resumes_anywhere_bitwise(source):
    epoch_size = source.train.size - 3
    whole = records(source.train.stream(7, epoch_size, 0), 3 * epoch_size)
    for start in 1, epoch_size - 1, epoch_size, 2 * epoch_size + 5:
        assert records(source.train.stream(7, epoch_size, start), 3 * epoch_size - start) == whole[start:]


def test_the_order_hangs_on_the_seed_and_on_no_global_one(source):
    size = source.train.size
    tf.random.set_seed(1)
    drawn = records(source.train.stream(3, size, 0), 2 * size)
    tf.random.set_seed(2)
    assert records(source.train.stream(3, size, 0), 2 * size) == drawn
    assert records(source.train.stream(4, size, 0), 2 * size) != drawn


def test_the_stream_is_endless(source):
    assert source.train.stream(0, source.train.size, 0).cardinality() == tf.data.INFINITE_CARDINALITY


def test_seeds_and_epochs_do_not_repeat_an_order():
    split = open_data("digits").train
    heads = {
        tuple(r["index"] for r in records(split.stream(seed, split.size, epoch * split.size), 5))
        for seed, epoch in [(0, 0), (0, 1), (1, 0), (256, 0), (0, 256), (0, 65536)]
    }
    assert len(heads) == 6


def test_digits_are_real_stratified_and_fixed():
    source = open_data("digits", val_split=0.5, seed=3)
    assert (source.train.size, source.val.size) == (1442, 355)
    assert source.classes == tuple("0123456789")
    assert min(source.val.class_counts) >= 34 and max(source.val.class_counts) <= 36
    assert source.train.describe(17) == "example 17 of digits/train"
    pixels = decode(records(source.train.once(), 1)[0]["image"]).numpy()
    assert pixels.shape == (8, 8, 3) and pixels.max() == 239  # 15 of 16 in scikit-learn's first zero


def test_tfds_takes_test_for_validation(prepared):
    source = open_data("train_and_test", data_dir=prepared)
    assert (source.train.size, source.val.size) == (23, 7)
    assert source.classes == ("even", "odd")
    assert source.train.describe(3) == "example 3 of train_and_test/train"


def test_tfds_carves_validation_from_train(prepared):
    source = open_data("tfds:only_train:1.0.0", data_dir=prepared, val_split=0.2)
    assert (source.train.size, source.val.size) == (18, 5)
    images = {r["image"] for split in (source.train, source.val) for r in records(split.once())}
    assert len(images) == 23
    assert source.val.describe(0) == "example 18 of only_train:1.0.0/train"


def test_equal_fingerprints_are_equal_data(tmp_path):
    def prints(root):
        source = open_data(str(root))
        return source.train.fingerprint(), source.val.fingerprint()

    one = prints(fill(tmp_path / "a" / "pets"))
    assert prints(fill(tmp_path / "b" / "other")) == one  # wherever it lies
    assert len(set(one)) == 2
    other = write(tmp_path / "b" / "other" / "cat" / "0.png")
    other.write_bytes(other.read_bytes() + b"0")
    assert prints(tmp_path / "b" / "other") != one
    (tmp_path / "a" / "pets" / "cat" / "9.png").rename(tmp_path / "a" / "pets" / "dog" / "99.png")
    assert prints(tmp_path / "a" / "pets") != one
    train = open_data(str(tmp_path / "b" / "other")).train
    other.unlink()
    assert len(train.fingerprint()) == 16  # a file that has gone is no error


def test_digits_and_tfds_have_fingerprints(prepared):
    digits = open_data("digits")
    assert (digits.train.fingerprint(), digits.val.fingerprint()) == ("15e655974c4b7e91", "2ca4a1bfff5a6755")
    sources = [open_data(f"tfds:{name}", data_dir=prepared) for name in ("only_train", "only_train", "train_and_test")]
    one, same, other = ((s.train.fingerprint(), s.val.fingerprint()) for s in sources)
    assert one == same and len({*one, *other}) == 4


def test_a_test_part_is_opened_on_demand(prepared):
    assert open_data("digits").test is None and open_data("tfds:only_train", data_dir=prepared).test is None
    source = open_data("tfds:train_and_test", data_dir=prepared)
    assert [r["label"] for r in records(source.test().once())] == [r["label"] for r in records(source.val.once())]


def test_tfds_without_network_fails_fast(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source, "_online", lambda: False)
    with pytest.raises(InputError, match=f"'mnist'.*no network.*data_dir.*{tmp_path}"):
        open_data("tfds:mnist", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "name, message",
    [
        ("imagenete", "'imagenete' is not 'digits'.*folder.*TFDS.*imagenette"),
        ("tfds:mnits", "'mnits'.*mnist"),
        ("no folder/here", "'no folder/here' is not 'digits'.*folder.*TFDS"),
        ("imagenette/nope", "'imagenette/nope' cannot be opened"),
        ("unlabelled", "one Image and one ClassLabel.*'note': 'Text'"),
        ("only_test", "no training examples.*test"),
        ("/no/such/folder", "'/no/such/folder' does not exist"),
    ],
)
def test_names_that_lead_nowhere(name, message, prepared):
    with pytest.raises(InputError, match=message) as error:
        open_data(name, data_dir=prepared)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, message", [({"val_split": 1.5}, "val_split is 1.5"), ({"on_corrupt": "ignore"}, "on_corrupt is 'ignore'")]
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        open_data("digits", **options)


def test_skip_is_refused_for_tfds(prepared):
    with pytest.raises(InputError, match=r"'skip' is for folders"):
        open_data("tfds:only_train", data_dir=prepared, on_corrupt="skip")


def test_a_folder_is_split_within_each_class(tmp_path):
    fill(tmp_path, ("кот", "犬 dog"), 10)
    write(tmp_path / "рыба" / "deep" / "é.JPG")
    for stray in ".hidden.png", ".cache/a.png", "notes.txt":
        (tmp_path / "кот" / stray).parent.mkdir(exist_ok=True)
        (tmp_path / "кот" / stray).write_bytes(b"")
    source = open_data(str(tmp_path), val_split=0.3)
    assert source.name == tmp_path.name
    assert source.classes == ("кот", "рыба", "犬 dog")
    assert (source.train.class_counts, source.val.class_counts) == ((7, 1, 7), (3, 0, 3))
    paths = [split.describe(i) for split in (source.train, source.val) for i in range(split.size)]
    assert len(set(paths)) == 21 and all(os.path.isfile(path) for path in paths)
    again = open_data(str(tmp_path), val_split=0.3, seed=9)
    assert [again.val.describe(i) for i in range(6)] == [source.val.describe(i) for i in range(6)]


def test_even_two_images_leave_one_for_validation(tmp_path):
    source = open_data(str(fill(tmp_path, count=2)), val_split=0.01)
    assert (source.train.class_counts, source.val.class_counts) == ((1, 1), (1, 1))


@pytest.mark.parametrize("held_out", ["val", "validation"])
def test_a_folder_with_its_own_split(tmp_path, held_out):
    fill(tmp_path / "train", count=3)
    fill(tmp_path / held_out, count=2)
    source = open_data(str(tmp_path))
    assert (source.train.class_counts, source.val.class_counts) == ((3, 3), (2, 2))
    assert source.val.describe(3) == str(tmp_path / held_out / "dog" / "1.png")


def test_a_lone_train_folder_is_split_and_a_class_may_be_called_train(tmp_path):
    fill(tmp_path / "a" / "train")
    assert open_data(str(tmp_path / "a")).classes == ("cat", "dog")
    fill(tmp_path / "b", ("bus", "train"))
    assert open_data(str(tmp_path / "b")).classes == ("bus", "train")


def test_links_are_followed_once(tmp_path):
    fill(tmp_path / "data")
    (tmp_path / "data" / "cat" / "loop").symlink_to(tmp_path / "data" / "cat")
    (tmp_path / "data" / "linked").symlink_to(fill(tmp_path / "elsewhere") / "dog")
    assert open_data(str(tmp_path / "data")).train.class_counts == (9, 9, 9)


def file_instead(root):
    return write(root / "x.png")


def nothing(root):
    return root


def one_class(root):
    return fill(root, ("cat",))


def empty_class(root):
    (fill(root) / "eel").mkdir()
    return root


def other_classes(root):
    fill(root / "train")
    fill(root / "val", ("cat", "doge"))
    return root


def singles(root):
    return fill(root, count=1)


@pytest.mark.parametrize(
    "make, message",
    [
        (file_instead, "x.png' is a file"),
        (nothing, "two class folders or more.*found none"),
        (one_class, "two class folders or more.*only 'cat'"),
        (empty_class, "eel' has no images"),
        (other_classes, "not in both: 'dog', 'doge'"),
        (singles, "leaves no validation images"),
    ],
)
def test_folders_that_cannot_be_used(make, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        open_data(str(make(tmp_path)))
    assert "\n" not in str(error.value)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="may not be read"):
        open_data(str(tmp_path))


def test_skip_leaves_out_what_cannot_be_decoded(tmp_path):
    fill(tmp_path / "train", count=5)
    fill(tmp_path / "val", count=3)
    cut = tmp_path / "train" / "cat" / "2.png"
    cut.write_bytes(cut.read_bytes()[:40])
    (tmp_path / "train" / "dog" / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "val" / "dog" / "0.png").write_bytes(b"")
    source = open_data(str(tmp_path), on_corrupt="skip")
    assert (source.train.class_counts, source.val.class_counts) == ((4, 5), (3, 2))
    expected = ["train/cat/2.png", "train/dog/gone.jpg", "val/dog/0.png"]
    assert source.corrupt == tuple(str(tmp_path / name) for name in expected)
    assert all(decode(source.train.load(r["image"])).shape == (6, 8, 3) for r in records(source.train.once()))
    assert open_data(str(tmp_path)).train.class_counts == (5, 6)


def test_skip_refuses_a_class_without_an_intact_image(tmp_path):
    for path in (fill(tmp_path) / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="every training image of class 'dog'"):
        open_data(str(tmp_path), on_corrupt="skip")
