"""Weights of a run as a start: which are taken, which start anew, and what is refused."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest

import trainers
from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.runs import checkpoints, folders
from trainers.settings import resolve
from trainers.transfer.start import same_network, start_from_run

DIGITS = tuple("0123456789")


def config(tiny, folder, **more):
    flags = {key: tiny[key] for key in ("arch", "width")}
    return resolve(TrainConfig(**flags | {"weights": str(folder)} | more))


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished.folder, tmp_path / "copied")


def test_the_classes_decide_about_the_classifier(tiny, finished):
    whole = start_from_run(str(finished.folder), config(tiny, finished.folder), DIGITS)
    model = checkpoints.load_run(finished.folder)[0]
    assert whole.arrays.keys() == {v.path for v in model.weights} and "anew" not in whole.report
    for v in model.weights:
        np.testing.assert_array_equal(whole.arrays[v.path], v.numpy())
    for classes in (("cat", "dog"), tuple(f"other {i}" for i in range(10))):
        part = start_from_run(str(finished.folder), config(tiny, finished.folder), classes)
        assert whole.arrays.keys() - part.arrays.keys() == {"logits/kernel", "logits/bias"}
        assert "logits/bias, logits/kernel start anew" in part.report


def test_resolution_and_stem_are_the_run_s(tiny, finished):
    """Where no flag says otherwise; the run's config then holds them."""
    found = config(tiny, finished.folder)
    assert (found.resolution, found.flags.stem, found.recipe) == (16, "small", "finetune")
    assert resolve(dataclasses.replace(found.flags, weights="gone")).arch == found.arch
    larger = config(tiny, finished.folder, resolution=96)
    assert larger.resolution == 96 and larger.arch.stem == found.arch.stem
    assert start_from_run(str(finished.folder), larger, DIGITS).arrays


def test_other_networks_are_refused(tiny, finished):
    for flags, says in (
        ({"arch": "resnet-18"}, f"its network is .*-w0.125; with --arch {tiny['arch']}"),
        ({"width": 0.25}, "its network is"),
    ):
        with pytest.raises(InputError, match=says):
            start_from_run(str(finished.folder), config(tiny, finished.folder, **flags), DIGITS)


def test_another_stem_is_told():
    small, standard = (resolve(TrainConfig(arch="resnet-18", resolution=side)) for side in (32, 224))
    same_network("run", small, small.arch)
    with pytest.raises(InputError, match="has another stem; leave out --stem"):
        same_network("run", small, standard.arch)


def test_damaged_and_unfinished_runs_are_refused(tiny, finished, copied, tmp_path):
    settled = config(tiny, finished.folder)
    for folder, says in (
        (tmp_path / "nowhere", "weights .*nowhere.* is no folder"),
        (tmp_path, "is no run"),
    ):
        with pytest.raises(InputError, match=says):
            start_from_run(str(folder), settled, DIGITS)
    path = checkpoints.found(copied / "checkpoints")[0]
    arrays = {key: array.copy() for key, array in checkpoints.load(path)[0].items()}
    arrays["model/stem1_conv/kernel"][0] = np.nan
    with open(path, "wb") as file:
        np.savez(file, **arrays, extra=np.array("{}"))
    with pytest.raises(InputError, match="a number of 'stem1_conv/kernel' is nan"):
        start_from_run(str(copied), settled, DIGITS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged"):
        start_from_run(str(copied), settled, DIGITS)
    for other in checkpoints.found(copied / "checkpoints"):
        other.unlink()
    with pytest.raises(InputError, match="has no checkpoint any more"):
        start_from_run(str(copied), settled, DIGITS)
    (copied / folders.RESULT).unlink()
    with pytest.raises(InputError, match="unfinished; go on with it first"):
        start_from_run(str(copied), settled, DIGITS)


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("training_only")
@pytest.mark.slow
def test_a_resumed_run_needs_its_source_no_more(tiny, copied, tmp_path, capsys):
    flags = tiny | {"weights": str(copied), "epochs": 2, "run_dir": str(tmp_path / "run")}
    with pytest.raises(KeyboardInterrupt):
        trainers.fit(TrainConfig(**flags), callbacks=[Stop()])
    assert "starts from 47 tensors of" in capsys.readouterr().out
    shutil.rmtree(copied)
    assert trainers.fit(TrainConfig(resume=str(tmp_path / "run"))).figures["epochs"] == 2
    assert "starts from" not in capsys.readouterr().out


def test_a_run_without_its_source_leaves_nothing(tiny, tmp_path):
    with pytest.raises(InputError, match="neither a known source nor a file"):
        trainers.fit(TrainConfig(**tiny, weights=str(tmp_path / "gone"), run_dir=str(tmp_path / "run")))
    assert not list(tmp_path.iterdir())
