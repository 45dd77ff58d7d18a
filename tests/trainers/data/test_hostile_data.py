"""Data folders of strangers: nothing in them is imported, waited for, or counted twice."""

import io
import json
import os
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from kcnn.errors import InputError
from trainers.data import open_data
from trainers.runs.dashboards import confusion_png


class Even(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(6, 8, 3)), "label": tfds.features.ClassLabel(names=["a", "b"])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(20):
            yield i, {"image": np.full((6, 8, 3), i, np.uint8), "label": i % 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    Even(data_dir=str(folder)).download_and_prepare()
    return folder


@pytest.fixture
def evil(prepared, tmp_path, monkeypatch):
    """A copy of the data set, and in the working directory a module that says when it is imported."""
    shutil.copytree(prepared, tmp_path / "data")
    package = tmp_path / "evil_features"
    package.mkdir()
    (package / "__init__.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "data"


def change(folder, place):
    """Puts the class of a stranger at a place of features.json, "" for the whole."""
    (path,) = folder.rglob("features.json")
    features = json.loads(path.read_text())
    target = features
    for key in filter(None, place.split("/")):
        target = target[key]
    target["pythonClassName"] = "evil_features.payload.X"
    path.write_text(json.dumps(features))


def test_the_data_set_opens_as_it_is(evil):
    assert open_data("tfds:even", data_dir=str(evil)).classes == ("a", "b")


@pytest.mark.parametrize("place", ["", "featuresDict/features/image", "featuresDict/features/label"])
def test_a_feature_class_of_a_stranger_is_not_imported(evil, place):
    change(evil, place)
    with pytest.raises(InputError, match=r"'evil_features.payload.X', which is not one of TensorFlow Datasets"):
        open_data("tfds:even", data_dir=str(evil))
    assert not Path("imported").exists() and "evil_features" not in sys.modules


@pytest.mark.parametrize("name", ["huggingface:even", "evil_features/even", "../even", "even:1.0.0@x", "mine:even"])
def test_names_that_would_fetch_or_import_code_are_refused(evil, name):
    with pytest.raises(InputError):
        open_data(f"tfds:{name}", data_dir=str(evil))
    assert not Path("imported").exists()


# Folders.


def fill(root, classes=("cat", "dog")):
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(np.full((6, 8, 3), i, np.uint8)).save(root / name / f"{i}.png")
    return root


def paths(source):
    return [name for split in (source.train, source.val) for name in map(split.describe, range(split.size))]


@pytest.mark.parametrize("to", ["..", "../dog", "../../data"])
def test_a_link_to_another_class_is_refused(tmp_path, to):
    root = fill(tmp_path / "data")
    (root / "cat" / "more").symlink_to(to, target_is_directory=True)
    with pytest.raises(InputError, match=r"cat.more' of class 'cat' leads to images of class 'dog'"):
        open_data(str(root))


def test_links_elsewhere_are_followed_once_and_loops_end(tmp_path):
    root, other = fill(tmp_path / "data"), fill(tmp_path / "other", ("more",)) / "more"
    (root / "cat" / "more").symlink_to(other, target_is_directory=True)
    (root / "cat" / "again").symlink_to(other, target_is_directory=True)
    (other / "loop").symlink_to(other, target_is_directory=True)
    source = open_data(str(root))
    assert source.train.size + source.val.size == 30 == len(set(paths(source)))


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    root = fill(tmp_path / "data")
    odd = root / "cat" / "odd.png"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(odd.parent)  # the name of a socket may not be long
        socket.socket(socket.AF_UNIX).bind("odd.png")
        os.chdir(here)
    else:
        odd.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"odd.png' is a pipe, a socket or a device, not an image"):
        open_data(str(root))
    source = open_data(str(root), on_corrupt="skip")
    assert source.train.size + source.val.size == 20 and str(odd) in source.corrupt


@pytest.mark.parametrize("name", [b"two\nlines", b"tab\there", b"\xff\xfe", "line\u2028separator".encode()])
def test_classes_that_no_file_could_name_are_refused_at_once(tmp_path, name):
    root = fill(tmp_path / "data")
    os.rename(os.fsencode(root / "cat"), os.path.join(os.fsencode(root), name))
    with pytest.raises(InputError, match=r"class name '.*a name in UTF-8 without line breaks") as error:
        open_data(str(root))
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["a$x^$b", "$", r"\frac{1}{2}", "_^{", "%s {0}", "日本", "<b>&amp;", "a" * 200])
def test_names_that_a_plot_could_take_for_formulas_are_drawn(tmp_path, name):
    root = fill(tmp_path / "data")
    (root / "cat").rename(root / name.replace("/", "-"))
    source = open_data(str(root))
    picture = confusion_png(np.array([[3, 1], [0, 4]]), source.classes)
    assert name in source.classes and Image.open(io.BytesIO(picture)).format == "PNG"


def test_files_whose_names_are_not_utf_8_are_data_like_all_others(tmp_path):
    root = fill(tmp_path / "data")
    os.rename(os.fsencode(root / "cat" / "0.png"), os.path.join(os.fsencode(root), b"cat", b"\xff.png"))
    source = open_data(str(root))
    assert source.train.size + source.val.size == 20
    assert [name for name in paths(source) if "xff" in name] == [str(root / "cat" / r"\xff.png")]
