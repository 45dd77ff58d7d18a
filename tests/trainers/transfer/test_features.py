"""Training on features: they are the frozen backbone's, and the run is like any other."""

import dataclasses
import shutil
from collections import namedtuple

import keras
import numpy as np
import pytest

import trainers
import trainers.transfer.features
from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.data import eval_batches, open_data
from trainers.evaluation import evaluate_run
from trainers.runs import checkpoints, folders
from trainers.settings import resolve
from trainers.training import check_devices
from trainers.transfer.features import features, inference
from trainers.transfer.parts import cut


@pytest.fixture(scope="module")
def flags(tiny, finished):
    return tiny | {"weights": str(finished.folder), "features_only": True, "epochs": 2, "ema": 0.9}


@pytest.fixture(scope="module")
def done(tmp_path_factory, flags):
    folder = tmp_path_factory.mktemp("features") / "run"
    return trainers.fit(TrainConfig(**flags, run_dir=str(folder)))


def test_features_are_the_frozen_backbone_s(tmp_path, finished):
    """By index, of the images that evaluation sees; the classifier makes the same logits of them."""
    model, config, _ = checkpoints.load_run(finished.folder)
    still = cut(model, dataclasses.replace(config, freeze="backbone")).still
    split = open_data("digits").val
    found = features(inference(still), split, dataclasses.replace(config, batch_size=100), tmp_path)
    assert isinstance(found, np.memmap) and found.shape == (split.size, 64) and not list(tmp_path.iterdir())
    featured = dataclasses.replace(split, features=found)
    head = cut(model, dataclasses.replace(config, freeze="backbone", features_only=True)).trained
    seen = 0
    pairs = zip(*(eval_batches(s, batch=90, resolution=16, crop=1.0) for s in (split, featured)), strict=True)
    for images, vectors in pairs:
        real = vectors["weight"].numpy() == 1
        np.testing.assert_array_equal(images["index"][real], vectors["index"][real])
        np.testing.assert_array_equal(images["label"][real], vectors["label"][real])
        expected = model(images["image"].numpy().astype("float32"), training=False).numpy()
        np.testing.assert_allclose(head(vectors["image"], training=False).numpy()[real], expected[real], atol=1e-5)
        seen += real.sum()
    assert seen == split.size


def test_the_run_is_like_any_other(done, finished):
    """It has the whole network, and figures that an evaluation of it on images confirms."""
    names = {"card.md", "model.keras", "config.yaml", "facts.json", "metrics.jsonl", "result.json", "checkpoints"}
    assert names <= {path.name for path in done.folder.iterdir()}
    model, config, _ = checkpoints.load_run(done.folder)
    source = checkpoints.load_run(finished.folder)[0]
    for v, old in zip(model.weights, source.weights, strict=True):
        assert (v.numpy() == old.numpy()).all() == ("logits" not in v.path), v.path
    assert evaluate_run(str(done.folder))["accuracy"] == pytest.approx(done.figures["val_accuracy"], abs=0.003)
    assert keras.saving.load_model(done.folder / "model.keras").input_shape == (None, 16, 16, 3)
    assert (config.freeze, config.crop_scale, config.flip, config.recipe) == ("backbone", 1.0, False, "finetune")
    card = (done.folder / "card.md").read_text()
    assert "`--features-only` | `True`" in card and "`--weights`" in card and "crop-scale" not in card


@pytest.mark.usefixtures("training_only")
@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path, done, flags):
    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "run")), callbacks=[Crash()])
    again = trainers.fit(TrainConfig(resume=str(tmp_path / "run")))
    names = ("val_loss", "val_accuracy", "train_loss", "steps")
    assert [again.figures[name] for name in names] == [done.figures[name] for name in names]
    one, two = (checkpoints.load(checkpoints.found(r.folder / "checkpoints")[0])[0] for r in (again, done))
    for key in two:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


@pytest.mark.slow
@pytest.mark.usefixtures("training_only")
@pytest.mark.parametrize("more", [
    {"replicas": 2, "strategy": "mirrored"},
    {"precision": "mixed_bfloat16"},
    {"precise_bn": 1, "accumulate_steps": 2},
])  # fmt: skip
def test_it_trains_however_it_is_run(tmp_path, flags, more):
    result = trainers.fit(TrainConfig(**flags | more, run_dir=str(tmp_path / "run")))
    assert result.figures["val_accuracy"] > 0.5


@pytest.mark.usefixtures("training_only")
def test_a_disk_without_room_is_one_line(tmp_path, flags, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(trainers.transfer.features.shutil, "disk_usage", lambda _: usage(400_000))
    with pytest.raises(InputError, match=r"features of 1,797 images take 0\.0 GB"):
        trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "run")))


@pytest.mark.usefixtures("training_only")
def test_a_broken_image_is_named(tmp_path, photos, shot):
    data = shutil.copytree(photos, tmp_path / "photos")
    (data / "train" / "china" / "3.jpg").write_bytes(b"no picture")
    flags = {"arch": "anynetx-d1x1-w64x512-g512", "width": 0.125, "weights": str(shot.folder), "features_only": True}
    with pytest.raises(InputError, match=r"broken image .*china/3\.jpg"):
        trainers.fit(TrainConfig(**flags, batch_size=16, epochs=1, data=str(data), run_dir=str(tmp_path / "run")))


def test_it_augments_nothing():
    config = resolve(TrainConfig(weights="nowhere", features_only=True, recipe="a2", batch_size=64))
    assert (config.mixup, config.cutmix, config.augment, config.repeats) == (0.0, 0.0, "none", 1)
    assert resolve(config.flags) == config
    assert folders.as_asked(config.flags, TrainConfig()) == config.flags


@pytest.mark.parametrize("strategy", ["multi-worker", "tpu"])
def test_other_machines_are_refused_in_a_line(strategy):
    config = resolve(TrainConfig(arch="resnet-18", weights="nowhere", features_only=True, batch_size=64))
    with pytest.raises(InputError, match=f"features are computed on one machine, without --strategy {strategy}"):
        check_devices(dataclasses.replace(config, strategy=strategy), 2)
