"""Keras's files: every form of them gives the same logits, and nothing outside of a hostile one is read."""

import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest

import kcnn
from kcnn.weights.tensors import open_file

SECRET = 7.0


@pytest.fixture(scope="module")
def applications():
    """A network of keras.applications with statistics that are none of a new network's, its images and logits."""
    model = keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    draws = np.random.default_rng(0)
    for v in model.weights:
        if v.path.endswith(("moving_mean", "moving_variance")):
            v.assign(draws.uniform(0.5, 1.5, v.shape))
    images = draws.uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    return model, images, model.predict(images / 127.5 - 1, verbose=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Keras warns of its older form
@pytest.mark.parametrize("file", ["a.weights.h5", "a.keras", "a.h5", "older.h5"])
def test_each_form_gives_the_logits(file, applications, tmp_path):
    """older.h5 has the layout of Keras's own downloads: a group for each layer, with the names of its weights."""
    model, images, expected = applications
    path = tmp_path / file
    if file == "a.weights.h5":
        model.save_weights(path)
    elif file == "older.h5":
        from keras.src.legacy.saving import legacy_h5_format

        with h5py.File(path, "w") as target:
            legacy_h5_format.save_weights_to_hdf5_group(target, model)
    else:
        model.save(path)
    found = kcnn.build("mobilenet-v2", weights=str(path))(images, training=False)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Keras warns of its older form
def test_layers_inside_a_layer_are_found_in_the_older_form(tmp_path):
    """ConvNeXt's stem is a network of its own, and its layer scales have weights without a name."""
    from keras.src.legacy.saving import legacy_h5_format

    settings = {"weights": None, "classes": 10, "input_shape": (64, 64, 3), "classifier_activation": None}
    model, draws = keras.applications.ConvNeXtTiny(**settings), np.random.default_rng(0)
    for v in model.weights:
        v.assign(draws.normal(0.0, 0.05, v.shape))
    with h5py.File(tmp_path / "a.h5", "w") as target:
        legacy_h5_format.save_weights_to_hdf5_group(target, model)
    images = draws.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    expected = model(images, training=False)
    built = kcnn.build("convnext-tiny", 10, weights=str(tmp_path / "a.h5"), resolution=64)
    assert np.abs(built(images, training=False) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    path = tmp_path_factory.mktemp("ours") / "a.weights.h5"
    kcnn.build("resnet-18", 3, width=0.125, resolution=32).save_weights(path)
    return path


@pytest.fixture
def saved(ours, tmp_path):
    """A file of a tiny network of ours, in Keras 3's form, and one beside it that holds a secret."""
    shutil.copy(ours, tmp_path)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.full((3, 3, 3, 8), SECRET, "f4")
        file["number"] = np.full((3, 3, 3, 8), SECRET, "f4")
    return tmp_path / "a.weights.h5"


def replaced(file, place, value):
    del file[place]
    file[place] = value


def virtual(file, place):
    secret = str(file.filename).replace("a.weights.h5", "secret.h5")
    layout = h5py.VirtualLayout((3, 3, 3, 8), "f4")
    layout[:] = h5py.VirtualSource(secret, "number", (3, 3, 3, 8))
    del file[place]
    file.create_virtual_dataset(place, layout)


def outside(file, place):
    secret = str(file.filename).replace("a.weights.h5", "secret.bin")
    np.full((3, 3, 3, 8), SECRET, "f4").tofile(secret)
    del file[place]
    file.create_dataset(place, (3, 3, 3, 8), "f4", external=[(secret, 0, h5py.h5f.UNLIMITED)])


def filtered(file, place):
    del file[place]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((3, 3, 3, 8))
    plist.set_filter(32999, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((3, 3, 3, 8))
    h5py.h5d.create(file[place.rpartition("/")[0]].id, b"0", h5py.h5t.IEEE_F32LE, space, plist)


def huge(file, place):
    del file[place]
    file.create_dataset(place, (2**40, 2**20), "f4", chunks=(1, 2**10))


def references(file, place):
    replaced(file, place, np.array([file.ref], h5py.ref_dtype))


VARS = "layers/conv2d/vars"
PLACE = f"{VARS}/0"
BAD = {
    "layers in another file": (lambda f: replaced(f, "layers", h5py.ExternalLink("secret.h5", "layers")), "link"),
    "a layer in another file": (lambda f: replaced(f, VARS, h5py.ExternalLink("secret.h5", VARS)), "link"),
    "a tensor in another file": (lambda f: replaced(f, PLACE, h5py.ExternalLink("secret.h5", PLACE)), "link"),
    "a link by name": (lambda f: replaced(f, PLACE, h5py.SoftLink(f"/{VARS}/1")), "link"),
    "virtual": (lambda f: virtual(f, PLACE), "in another file"),
    "stored outside": (lambda f: outside(f, PLACE), "in another file"),
    "an unknown filter": (lambda f: filtered(f, PLACE), "filter"),
    "huge": (lambda f: huge(f, PLACE), "hundred times as large"),
    "object references": (lambda f: references(f, PLACE), "floating-point is needed"),
    "whole numbers": (lambda f: replaced(f, PLACE, np.ones((3, 3, 3, 8), "i4")), "floating-point is needed"),
    "a circle": (lambda f: f.__setitem__("layers/again", f["layers"]), None),
}


@pytest.mark.parametrize("what", BAD)
def test_hostile_hdf5_is_refused_in_a_line(what, saved):
    change, says = BAD[what]
    with h5py.File(saved, "a") as file:
        change(file)
    if says is None:
        assert open_file(saved).shapes
        return
    with pytest.raises(kcnn.InputError, match=says) as error:
        open_file(saved)
    assert "\n" not in str(error.value) and str(saved) in str(error.value)


def test_a_keras_archive_runs_nothing_and_unpacks_no_bomb(saved, tmp_path):
    """Its config is not even looked at."""
    path, bomb, pickle = tmp_path / "a.keras", tmp_path / "bomb.keras", tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"class_name": "Lambda", "module": "os", "config": {"function": "system"}}')
        archive.write(saved, "model.weights.h5")
    assert open_file(path).shapes == open_file(saved).shapes
    name = next(iter(open_file(path).shapes))
    np.testing.assert_array_equal(open_file(path).read(name), open_file(saved).read(name))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10**7))
    with zipfile.ZipFile(pickle, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    path.write_bytes(path.read_bytes()[:-200])
    for file, says in ((bomb, "a hundredfold"), (pickle, "pickle"), (path, "file is needed|archive without")):
        with pytest.raises(kcnn.InputError, match=says) as error:
            open_file(file)
        assert "\n" not in str(error.value)
