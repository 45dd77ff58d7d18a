"""A run of images with any number of labels, through every command."""

import importlib
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.metrics import average_precision_score

import trainers
from kcnn.terminal import cli
from trainers.config import TrainConfig
from trainers.data import open_data
from trainers.evaluation import evaluate_run
from trainers.runs import checkpoints
from trainers.serving.exports import export_run

pytestmark = pytest.mark.slow
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A list of noise with squares in red, green and blue; an image has none to three of them."""
    root, draws, lines = tmp_path_factory.mktemp("squares"), np.random.default_rng(0), ["path,labels"]
    for i in range(96):
        pixels, labels = draws.integers(0, 60, (16, 16, 3)).astype(np.uint8), []
        for channel, name in enumerate(COLOURS):
            if draws.random() < 0.4:
                top, left = draws.integers(0, 10, 2)
                pixels[top : top + 5, left : left + 5, channel] = 255
                labels.append(name)
        Image.fromarray(pixels).save(root / f"{i}.png")
        lines.append(f"{i}.png,{'|'.join(labels)}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return str(root / "list.csv")


@pytest.fixture(scope="module")
def flags(tiny, data):
    return tiny | {"batch_size": 16, "data": data, "multi_label": True, "val_split": 0.3, "crop_scale": 1.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory, flags):
    more = {"mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1, "class_weights": "auto", "ema": 0.9}
    folder = str(tmp_path_factory.mktemp("runs") / "squares")
    return trainers.fit(TrainConfig(**flags | more, epochs=3, run_dir=folder))


def test_the_figures_are_those_of_the_probabilities_that_are_served(run, data, tmp_path):
    evaluation = evaluate_run(str(run.folder))
    assert evaluation["map"] == pytest.approx(run.figures["val_accuracy"], abs=1e-6)
    assert run.figures["metric"] == "mAP" and "verdict" not in run.figures
    exported = export_run(str(run.folder), out=str(tmp_path / "served"), images=10, seconds=0.0)
    assert exported["max_difference"] < 1e-4
    split = open_data(data, val_split=0.3, multi_label=True).val
    records = list(split.once())
    served = tf.saved_model.load(exported["path"]).signatures["serving_default"]
    answer = served(image_bytes=tf.stack([split.load(r["image"]) for r in records]))
    truth = split.label_sets[[int(r["label"]) for r in records]]
    shares = answer["probabilities"].numpy()
    assert evaluation["map"] == pytest.approx(average_precision_score(truth, shares), abs=1e-6)
    thresholds = [row["threshold"] for row in evaluation["per_class"]]
    classes = [row["class"] for row in evaluation["per_class"]]
    assert exported["thresholds"] == dict(zip(classes, thresholds, strict=True))
    named = ["|".join(np.array(classes)[row >= np.float32(thresholds)]) for row in shares]
    assert [name.decode() for name in answer["predicted"].numpy()] == named and len(set(named)) > 1
    counted = np.array([[c in name.split("|") for c in classes] for name in named])
    recalls = (counted & (truth > 0)).sum(0) / truth.sum(0)
    np.testing.assert_allclose([row["recall"] for row in evaluation["per_class"]], recalls)


def test_predict_names_the_labels_that_reach_their_thresholds(run, data, capsys):
    assert cli.main(["evaluate", str(run.folder)]) == 0
    assert "mAP" in capsys.readouterr().out
    image = data.replace("list.csv", "0.png")
    assert cli.main(["predict", str(run.folder), image, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]
    thresholds = json.loads((run.folder / "thresholds.json").read_text())["last"]
    reached = dict(zip(("blue", "green", "red"), thresholds, strict=True))
    assert row["labels"] == [best for best in row["top"] if best["probability"] >= reached[best["class"]]]
    card = (run.folder / "card.md").read_text()
    assert "**mAP " in card and all(f"| {name} |" in card for name in COLOURS)
    assert not (run.folder / "confusion.png").exists()


def test_a_resumed_run_is_the_same_to_the_bit(run, flags, tmp_path, same_run):
    """The second epoch is repeated, and the third, from the checkpoint of the first."""
    folder = tmp_path / "again"
    shutil.copytree(run.folder, folder)
    for path in checkpoints.found(folder / "checkpoints")[:2]:
        path.unlink()
    (folder / "result.json").unlink()
    again = trainers.fit(TrainConfig(resume=str(folder)))
    same_run(again, run)
    assert (folder / "thresholds.json").read_bytes() == (run.folder / "thresholds.json").read_bytes()


@pytest.mark.parametrize("more", [
    {"strategy": "mirrored", "replicas": 2, "sync_bn": True},
    {"jit": "on", "accumulate_steps": 2, "sam": 0.05},
    {"repeats": 2, "precise_bn": 2, "patience": 1, "tta": "flip"},
], ids=lambda more: next(iter(more)))  # fmt: skip
def test_it_trains_in_other_ways(flags, more, tmp_path, training_only):
    tta = more.pop("tta", "none")
    found = trainers.fit(TrainConfig(**flags | more, epochs=2, run_dir=str(tmp_path / "run")))
    assert 0.3 < found.figures["val_accuracy"] <= 1
    evaluation = evaluate_run(str(found.folder), tta=tta)
    if tta == "none":
        assert evaluation["map"] == pytest.approx(found.figures["val_accuracy"], abs=1e-5)


def test_the_frozen_backbone_and_the_range_test_take_it(run, flags, tmp_path, capsys):
    more = {"weights": str(run.folder), "features_only": True}
    found = trainers.fit(TrainConfig(**flags | more, epochs=1, run_dir=str(tmp_path / "run")))
    assert evaluate_run(str(found.folder))["map"] == pytest.approx(found.figures["val_accuracy"], abs=1e-5)
    training = importlib.import_module("trainers.training")
    assert training.find_lr(TrainConfig(**flags, run_dir=str(tmp_path / "lr")))[1].rate > 0
