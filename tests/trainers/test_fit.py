"""A run from its first file to its last figure."""

import json

import filelock
import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

import kcnn
import trainers
from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.evaluation import evaluate_run
from trainers.loop import calls
from trainers.run import Plan
from trainers.runs import folders
from trainers.runs.progress import Speed

FIGURES = {
    "arch", "data", "steps", "epochs", "train_loss", "val_loss", "val_accuracy", "val_top5", "params", "macs",
    "images_per_second", "seconds",
}  # fmt: skip
STEPS = 22  # an epoch's: 1,442 digits by 64


def test_the_folder_tells_all_of_the_run(finished, tiny):
    names = {p.name for p in finished.folder.iterdir()}
    assert names >= {
        "config.yaml",
        "facts.json",
        "classes.json",
        "metrics.jsonl",
        "result.json",
        "model.keras",
        "checkpoints",
    }
    assert any(name.startswith("events.out.tfevents.") for name in names)
    assert not [n for n in names if "partial" in n]
    result = json.loads((finished.folder / "result.json").read_text())
    assert result == finished.figures
    assert result.keys() >= FIGURES
    assert (result["arch"], result["data"], result["steps"], result["epochs"]) == (tiny["arch"], "digits", 2 * STEPS, 2)
    facts = kcnn.facts(kcnn.scale(kcnn.get(tiny["arch"]), width=0.125), classes=10, resolution=16)
    assert (result["params"], result["macs"]) == (facts.params, facts.macs)
    assert json.loads((finished.folder / "facts.json").read_text())["params"] == facts.params
    assert result["val_accuracy"] > 0.2  # it learns
    assert sorted(p.name for p in (finished.folder / "checkpoints").iterdir()) == [
        "best.npz",
        "step-000000022.npz",
        "step-000000044.npz",
    ]


def test_the_saved_config_is_the_whole_run(finished, tiny):
    _, config, classes = folders.open_run(finished.folder)
    assert classes == tuple("0123456789")
    assert {key: getattr(config.flags, key) for key in tiny} == tiny
    assert None not in (config.recipe, config.epochs, config.optimizer, config.lr, config.crop_scale, config.flip)


def test_metrics_are_one_object_a_line(finished):
    lines = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    training, validation = ([x for x in lines if (key in x)] for key in ("grad_norm", "val_loss"))
    assert len(training) + len(validation) == len(lines)
    # In every epoch at the same steps, and at its end.
    assert [x["step"] for x in training] == [5, 10, 15, 20, 22, 27, 32, 37, 42, 44]
    keys = {"step", "epoch", "loss", "accuracy", "lr", "grad_norm", "images_per_second"}
    assert all(x.keys() == keys for x in training)
    assert [(x["step"], x["epoch"]) for x in validation] == [(22, 1), (44, 2)]
    assert validation[-1]["val_loss"] == finished.figures["val_loss"]
    assert validation[-1]["train_loss"] == finished.figures["train_loss"]


def test_an_epoch_s_loss_is_the_mean_of_its_lines(finished):
    lines = [x for x in folders.read_metrics(finished.folder) if x["epoch"] == 2 and "loss" in x]
    counts = np.diff([STEPS, *(x["step"] for x in lines)])
    np.testing.assert_allclose(np.average([x["loss"] for x in lines], weights=counts), finished.figures["train_loss"])


@pytest.mark.parametrize("every", [1, 3, 7, 22, 50])
@pytest.mark.parametrize("start", [0, 1, 21, 22, 30])
def test_calls_stop_at_lines_checkpoints_and_ends(start, every):
    plan = Plan(steps_per_epoch=22, epochs=9, checkpoint_steps=every, checkpoint_seconds=9e9, log_every=5)
    stops, step = [], start
    for n in calls(start, plan, Speed(64)):
        assert n >= 1
        stops.append(step := step + n)
    epoch = start // 22
    needed = {s for s in range(start + 1, 22 * (epoch + 1) + 1) if (s - 22 * epoch) % 5 == 0 or s % every == 0}
    first = {1} if start == 0 else set()
    assert stops == sorted(needed | first | {22 * (epoch + 1)})


def test_the_dashboard_has_its_curves_and_pictures(finished):
    events = EventAccumulator(str(finished.folder)).Reload()
    tags = set(events.Tags()["tensors"])
    groups = {"train/": ("loss", "accuracy"), "val/": ("loss", "accuracy", "top5"), "gap/": ("accuracy", "loss"),
              "optimizer/": ("lr", "grad_norm"), "speed/": ("images_per_second",)}  # fmt: skip
    assert {tag for tag in tags if "/" in tag and not tag.startswith("_")} == {
        group + name for group, names in groups.items() for name in names
    }
    assert tags >= {"augmented", "confusion matrix", "filters of the first layer", "card"}
    assert all(events.Tensors(tag)[-1].step == 2 * STEPS for tag in ("train/loss", "val/loss"))


def test_the_dashboard_lays_training_and_validation_together_and_tells_the_settings(finished):
    events = EventAccumulator(str(finished.folder)).Reload()
    [event] = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert charts["loss"] == ["^train/loss$", "^val/loss$"]
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    session = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert session.hparams["optimizer"].string_value and session.hparams["batch_size"].number_value


@pytest.mark.slow
@pytest.mark.usefixtures("training_only")
def test_a_profile_is_recorded_and_nothing_is_printed_where_that_is_asked_for(tmp_path, tiny, capfd):
    trainers.fit(TrainConfig(**tiny | {"run_dir": str(tmp_path / "run"), "epochs": 2, "profile": 3, "quiet": True}))
    assert len(list((tmp_path / "run" / "plugins" / "profile").glob("*/*.xplane.pb"))) == 1
    assert "epoch" not in capfd.readouterr().err


def test_the_confusion_matrix_is_a_picture_an_epoch(finished):
    events = EventAccumulator(str(finished.folder), size_guidance={"tensors": 0}).Reload()
    pictures = events.Tensors("confusion matrix")
    assert [p.step for p in pictures] == [STEPS, 2 * STEPS]
    assert pictures[0].tensor_proto.string_val[2].startswith(b"\x89PNG")


def test_evaluation_gives_the_run_s_own_figures(finished):
    again = evaluate_run(str(finished.folder), data=None, split="val", checkpoint="last", batch_size=50)
    np.testing.assert_allclose(
        [again["loss"], again["accuracy"], again["top5"]],
        [finished.figures[k] for k in ("val_loss", "val_accuracy", "val_top5")],
        rtol=1e-5,
    )
    assert again["images"] == sum(row["count"] for row in again["per_class"]) == 355
    assert np.trace(again["confusion"]) / 355 == pytest.approx(again["accuracy"])
    assert json.loads((finished.folder / "evaluation.json").read_text()) == again
    assert (finished.folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
    [folder] = (finished.folder / "evaluations").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    tags = set(events.Tags()["tensors"])
    assert {"evaluation/accuracy", "confusion matrix", "0/pr_curves", "9/pr_curves"} <= tags
    places = (folder / "images.tsv").read_text().splitlines()
    assert len(places) == 1 + 355 == 1 + len((folder / "logits.tsv").read_text().splitlines())
    assert (
        places[0] == "label\tanswer" and 'tensor_path: "logits.tsv"' in (folder / "projector_config.pbtxt").read_text()
    )
    assert Image.open(folder / "images.png").size == (19 * 32, 19 * 32)


@pytest.mark.slow
@pytest.mark.usefixtures("training_only")
def test_two_replicas_train_end_to_end(tmp_path, tiny):
    pair = tiny | {"batch_size": 256, "strategy": "mirrored", "replicas": 2, "sync_bn": True, "ema": 0.9}
    result = trainers.fit(TrainConfig(**pair, epochs=1, run_dir=str(tmp_path / "two")))
    again = evaluate_run(str(result.folder), data=None, split="val", checkpoint="best", batch_size=None)
    np.testing.assert_allclose(again["loss"], result.figures["val_loss"], rtol=1e-4)
    assert again["accuracy"] == pytest.approx(result.figures["val_accuracy"])


@pytest.mark.usefixtures("no_pictures")
def test_mixed_precision_trains_end_to_end(tmp_path, tiny):
    result = trainers.fit(TrainConfig(**tiny, epochs=1, precision="mixed_bfloat16", run_dir=str(tmp_path / "half")))
    assert keras.config.dtype_policy().name == "float32"
    assert keras.saving.load_model(result.folder / "model.keras").dtype_policy.name == "float32"


@pytest.mark.usefixtures("training_only")
@pytest.mark.parametrize("weight, what", [(0, "(gradient's norm|loss)"), (-1, "loss")])  # with oneDNN relu(nan) is 0
def test_the_last_good_checkpoint_is_named(tmp_path, tiny, weight, what):
    class Poison(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.weights[weight].assign(self.model.weights[weight] * np.nan)

    config = TrainConfig(**tiny, epochs=2, run_dir=str(tmp_path / "nan"))
    with pytest.raises(InputError, match=rf"the {what} is nan at step 23: .*checkpoints/step-000000022.npz"):
        trainers.fit(config, callbacks=[Poison()])
    assert len(folders.read_metrics(tmp_path / "nan")) == 6  # the first epoch's


@pytest.mark.parametrize("flags, words", [
    ({"arch": "resnet-34"}, "arch 'resnet-34'.* has 'anynetx-d1x1-"),
    ({"batch_size": 32}, "batch-size 32.* has 64"),
    ({"seed": 5}, "seed 5"),
    ({"data": "tfds:mnist"}, "data 'tfds:mnist'"),
])  # fmt: skip
def test_a_resumed_run_stays_what_it_is(finished, flags, words):
    with pytest.raises(InputError, match=words):
        trainers.fit(TrainConfig(resume=str(finished.folder), **flags))


def test_what_is_no_run_cannot_be_resumed(tmp_path):
    with pytest.raises(InputError, match=r"no run \(it has no config.yaml\)"):
        trainers.fit(TrainConfig(resume=str(tmp_path)))
    with pytest.raises(InputError, match="no folder"):
        trainers.fit(TrainConfig(resume=str(tmp_path / "nowhere")))
    assert not list(tmp_path.iterdir())


def test_a_finished_run_is_not_run_again(finished):
    before = (finished.folder / "result.json").read_bytes()
    assert trainers.fit(TrainConfig(resume=str(finished.folder))) == finished
    assert trainers.fit(TrainConfig(resume="auto", run_dir=str(finished.folder))) == finished
    assert (finished.folder / "result.json").read_bytes() == before


def test_a_folder_with_a_run_takes_no_other(finished, tiny):
    with pytest.raises(InputError, match=r"holds a run already \(finished\)"):
        trainers.fit(TrainConfig(**tiny, run_dir=str(finished.folder)))


def test_a_folder_in_use_is_left_alone(tmp_path, tiny):
    folder = tmp_path / "busy"
    folder.mkdir()
    with filelock.FileLock(folder / ".lock"), pytest.raises(InputError, match="busy is in use by a live run"):
        trainers.fit(TrainConfig(**tiny, run_dir=str(folder)))
    assert [p.name for p in folder.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match=f"cannot write to {tmp_path}"):
        trainers.fit(TrainConfig(**tiny, run_dir=str(tmp_path / "a" / "b")))
    assert not list(tmp_path.iterdir())
