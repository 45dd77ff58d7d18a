"""Networks that no name describes: an Arch of one's own, and a Keras model of one's own."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import yaml

import kcnn
import kcnn.train
import trainers
from trainers.config import TrainConfig
from trainers.evaluation import evaluate_run
from trainers.network import read_own
from trainers.runs import checkpoints, folders
from trainers.settings import resolve

FLAGS = {"epochs": 1, "batch_size": 128, "resolution": 16, "lr": 1e-3, "warmup_epochs": 0.0}


def own(classes=10, side=16, activation=None):
    """A network of two layers, with weights that a seed would not give."""
    inputs = keras.Input((side, side, 3))
    x = keras.layers.Rescaling(1 / 128, -1)(inputs)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, activation=activation)(x), name="mine")


class Stop(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.start = [w.copy() for w in self.model.get_weights()]
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    flags = {key: value for key, value in FLAGS.items() if key != "resolution"}
    return trainers.fit(TrainConfig(**flags, run_dir=str(folder)), own())


@pytest.mark.usefixtures("training_only")
@pytest.mark.slow
def test_an_arch_of_one_s_own_trains_resumes_and_is_evaluated(tmp_path):
    arch = kcnn.scale(kcnn.get("resnet-18"), width=0.125, depth=0.25)
    arch = dataclasses.replace(arch, name="slim", stages=arch.stages[:1])
    result = trainers.fit(TrainConfig(arch=arch, **FLAGS, run_dir=str(tmp_path / "run")))
    assert result.figures["arch"] == "slim"
    model, config, classes = checkpoints.load_run(tmp_path / "run")
    assert config.arch.stages == arch.stages and config.flags.arch == arch
    assert [v.path for v in model.weights] == [v.path for v in kcnn.build(config.arch, len(classes)).weights]
    assert evaluate_run(str(tmp_path / "run"))["accuracy"] == pytest.approx(result.figures["val_accuracy"])
    more = trainers.fit(TrainConfig(resume=str(tmp_path / "run"), epochs=2))
    assert more.figures["epochs"] == 2


@pytest.mark.usefixtures("training_only")
def test_a_network_of_one_s_own_starts_from_its_weights(tmp_path):
    model, stop = own(), Stop()
    flags = {key: value for key, value in FLAGS.items() if key != "resolution"}
    with pytest.raises(KeyboardInterrupt):
        trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "run")), model, [stop])
    for start, given in zip(stop.start, model.get_weights(), strict=True):
        np.testing.assert_array_equal(start, given)


@pytest.mark.usefixtures("training_only")
@pytest.mark.slow
def test_a_network_of_one_s_own_is_evaluated_and_goes_on(trained):
    assert trained.figures["arch"] == "mine" and trained.figures["params"] == own().count_params()
    assert json.loads((trained.folder / folders.NETWORK).read_text())["config"]["name"] == "mine"
    figures = evaluate_run(str(trained.folder))
    assert figures["accuracy"] == pytest.approx(trained.figures["val_accuracy"])
    more = trainers.fit(TrainConfig(resume=str(trained.folder), epochs=2))
    assert more.figures["epochs"] == 2


@pytest.mark.parametrize("model, says", [
    (lambda: own(classes=7), "has 7 outputs, the data has 10 classes"),
    (lambda: own(activation="softmax"), "ends with softmax: logits are needed"),
    (lambda: own(side=None), r"takes \(None, None, None, 3\): pixels"),
    (lambda: keras.Sequential([keras.layers.Dense(10)], name="lazy"), "'lazy' is no functional network"),
])  # fmt: skip
def test_networks_that_cannot_be_trained_are_refused(tmp_path, model, says):
    with pytest.raises(kcnn.InputError, match=says):
        trainers.fit(TrainConfig(epochs=1, run_dir=str(tmp_path / "run")), model())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags, says", [
    ({"width": 0.5}, "width 0.5: a network of your own is trained as it is"),
    ({"phi": 1.0}, "phi 1.0: a network of your own"),
    ({"precision": "mixed_bfloat16"}, "is trained in float32"),
])  # fmt: skip
def test_a_network_of_one_s_own_is_not_scaled(tmp_path, flags, says):
    with pytest.raises(kcnn.InputError, match=says):
        trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "run")), own())


def test_network_json_of_a_stranger_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    data = json.loads(own().to_json())
    layer = next(x for x in data["config"]["layers"] if x["class_name"] == "Conv2D")
    for part in (
        {"module": "evil", "class_name": "Payload", "registered_name": None, "config": {}},
        {"module": "keras.utils", "class_name": "get_file", "registered_name": None, "config": {}},
        {"module": "builtins", "class_name": "eval", "registered_name": None, "config": "1"},
    ):
        layer["config"]["kernel_initializer"] = part
        with pytest.raises(
            kcnn.InputError, match=r"network.json, cannot be read: it names (evil|keras.utils|builtins)"
        ):
            read_own(json.dumps(data), 10)
    for text in ("", "[]", "{}", "{" * 5000, own().to_json()[:-1]):
        with pytest.raises(kcnn.InputError, match=r"network.json, cannot be read"):
            read_own(text, 10)


@pytest.mark.slow
@pytest.mark.usefixtures("training_only")
def test_a_command_goes_on_with_an_arch_of_one_s_own_and_repeats_it(tmp_path, capsys):
    arch = dataclasses.replace(kcnn.get("anynetx-d1x1-w64x512-g512"), name="slim")
    arch = kcnn.scale(arch, width=0.125)
    folder = tmp_path / "run"
    trainers.fit(TrainConfig(arch=arch, **FLAGS, run_dir=str(folder)))
    capsys.readouterr()
    assert command("--resume", folder, "--epochs", 2) == 0
    assert command("--config", folder / "config.yaml", "--run-dir", tmp_path / "again", "--dry-run") == 0
    assert "slim" in capsys.readouterr().out
    assert command("--resume", folder, "--width", 0.5) == command("--resume", folder, "--arch", "resnet-18") == 2
    # A flag at its default is a flag, too.
    flags = dataclasses.replace(folders.read_config(folder).flags, stem="small")
    folders.create(tmp_path / "small", resolve(flags), {}, tuple("0123456789"))
    capsys.readouterr()
    assert command("--resume", tmp_path / "small", "--stem", "auto") == 2
    assert "stem 'auto': the run in" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--epochs", 4]], ids=["as it was", "longer"])
def test_a_command_goes_on_with_a_run_of_an_earlier_version(tmp_path, flags, capsys):
    """A setting that it did not have yet is what the recipe, and else the default, says today."""
    later = {"interpolation", "freeze", "features_only", "data_changed", "built_as"}
    folder = tmp_path / "run"
    folders.create(folder, resolve(TrainConfig(**FLAGS)), {}, tuple("0123456789"))
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert set(saved) >= later
    (folder / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in saved.items() if k not in later}))
    assert command("--resume", folder, "--dry-run", *flags) == 0
    assert f"into {folder}" in capsys.readouterr().out


def command(*argv):
    with pytest.raises(SystemExit) as left:
        kcnn.train.main([str(a) for a in argv])
    return left.value.code
