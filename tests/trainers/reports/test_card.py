"""The card and its picture, the data's fingerprint, and the verdicts of runs made to end badly."""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import kcnn.train
import trainers
from trainers.config import TrainConfig
from trainers.data import open_data
from trainers.evaluation import evaluate_run, evaluate_train_sample
from trainers.optim.schedules import make_schedule
from trainers.recipes import RECIPES
from trainers.reports.card import settings
from trainers.reports.curves import chart, curves_png, encodable, plan_text
from trainers.reports.verdict import wilson
from trainers.runs import checkpoints, folders
from trainers.settings import resolve

ROOT = Path(__file__).parents[3]
REPEAT = re.compile(r"^python -m kcnn\.train .*$", re.M)


def read(folder):
    return (folder / "card.md").read_text("utf-8")


# The card.


def test_the_card_tells_all_of_the_run(finished):
    card, figures = read(finished.folder), finished.figures
    low, _ = wilson(figures["val_accuracy"], 355)
    assert card.startswith(f"# {figures['arch']} on digits\n")
    assert f"**{figures['val_accuracy']:.2%}** of 355 validation images right (95% interval {100 * low:.1f} to" in card
    assert f"## Verdict: {figures['verdict']}\n\n- {figures['evidence'][0]}" in card
    assert all(f"- {line}" in card for line in figures["advice"])
    assert "| `--width` | `0.125` | `1.0` |" in card and "| `--epochs` | `2` | `12` |" in card
    assert "`--seed`" not in card and "The seed was 0" in card  # as usual
    assert f"| tensorflow | {trainers.fit.__globals__['tf'].__version__} |" in card and "| processor |" in card
    assert f"| training | 1,442 | `{figures['fingerprint']['train']}` |" in card
    saved = yaml.safe_load((finished.folder / "config.yaml").read_text())
    assert yaml.safe_load(card.split("```yaml\n")[1].split("```")[0]) == saved
    picture = Image.open(finished.folder / re.search(r"!\[curves\]\((.*)\)", card)[1])
    assert picture.format == "PNG" and picture.width >= 800


def test_the_settings_are_those_that_were_chosen(monkeypatch):
    chosen = {"epochs": 3, "batch_size": 32, "width": 0.5, "phi": 1.0}
    config = resolve(TrainConfig(arch="resnet-18", recipe="default", **chosen))
    rows = settings(config.flags)
    assert re.findall(r"^\| `--(\S+)`", rows, re.M) == ["width", "phi", "epochs", "batch-size"]
    assert "| `--batch-size` | `32` | `64` |" in rows
    assert settings(resolve(TrainConfig()).flags).endswith("data `digits`; all else as usual.")
    # Settings that are possible together alone.
    monkeypatch.setitem(RECIPES, "slow", RECIPES["digits"] | {"warmup_epochs": 5.0})
    rows = settings(resolve(TrainConfig(recipe="slow", epochs=1, warmup_epochs=0.5)).flags)
    assert "| `--epochs` | `1` |" in rows and "| `--warmup-epochs` | `0.5` |" in rows


def test_the_best_checkpoint_is_named_with_its_epoch(finished):
    found = evaluate_run(str(finished.folder), data=None, split="val", checkpoint="best", batch_size=None)
    lines = [x for x in folders.read_metrics(finished.folder) if "val_accuracy" in x]
    best = max(lines, key=lambda x: x["val_accuracy"])
    assert found["accuracy"] == pytest.approx(best["val_accuracy"])
    assert f"of epoch {best['epoch']}: {found['accuracy']:.1%}" in read(finished.folder)


def test_every_epoch_tells_its_gap(finished):
    lines = [x for x in folders.read_metrics(finished.folder) if "val_accuracy" in x]
    for x in lines:
        assert x["gap"] == pytest.approx(x["train_accuracy"] - x["val_accuracy"])
        assert x["loss_gap"] == pytest.approx(x["val_loss"] - x["train_loss"])


def test_the_dashboard_has_the_gap(finished):
    events = EventAccumulator(str(finished.folder)).Reload()
    assert {"gap/accuracy", "gap/loss"} <= set(events.Tags()["tensors"])


def test_the_command_says_the_verdict(finished, capsys):
    kcnn.train.run(TrainConfig(resume=str(finished.folder)))
    out = capsys.readouterr().out
    assert f"\nverdict    {finished.figures['verdict']}: " in out and f"\ncard       {finished.folder}/card.md" in out
    figures = {"verdict": "overfit", "evidence": ["Loss rose by 0.5. And so on.", "x"], "advice": ["this", "that"]}
    assert kcnn.train.judged(figures) == "verdict    overfit: Loss rose by 0.5\nto try     this\n"
    assert kcnn.train.judged({}) == ""  # a run of an earlier version


@pytest.mark.slow
def test_training_images_are_judged_as_validation_s_are(finished):
    whole = evaluate_run(str(finished.folder), data=None, split="train", checkpoint="last", batch_size=100)
    assert finished.figures["plain_train_accuracy"] == pytest.approx(whole["accuracy"])
    assert finished.figures["plain_train_loss"] == pytest.approx(whole["loss"], rel=1e-4)
    model, config, classes = checkpoints.load_run(finished.folder)
    split = open_data("digits").train
    some, again = (evaluate_train_sample(model, split, len(classes), config, 100) for _ in range(2))
    counts = some.confusion.sum(1)
    assert counts.sum() == 100 and counts.min() >= 3  # of all classes
    np.testing.assert_array_equal(some.confusion, again.confusion)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.slow
def test_a_run_resumed_for_longer_says_so(tmp_path, finished):
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    assert "To the bit they are the same only in runs with `--deterministic`" in read(folder)
    result = trainers.fit(TrainConfig(resume=str(folder), epochs=3))
    assert "after 3 epochs" in read(folder) and "started for 2 epochs and resumed for 3" in read(folder)
    assert REPEAT.search(read(folder))[0].endswith("--epochs 3")
    assert result.figures["epochs"] == 3


def test_the_command_on_the_card_plans_the_same_run(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = shlex.split(REPEAT.search(read(finished.folder))[0])
    with pytest.raises(SystemExit) as left:
        kcnn.train.main([*command[3:], "--dry-run", "--json"])
    assert not left.value.code
    plan = json.loads(capsys.readouterr().out.splitlines()[-1])
    saved = yaml.safe_load((finished.folder / "config.yaml").read_text())
    assert plan["config"] == saved | {"run_dir": plan["config"]["run_dir"], "dry_run": True}
    assert plan["run_dir"] != str(finished.folder)


@pytest.mark.slow
def test_the_command_on_the_card_gives_the_same_weights(tmp_path, tiny):
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in tiny.items()]
    first = ["python", "-m", "kcnn.train", *flags, "--epochs=1", "--deterministic", "--run-dir=logs/one"]

    # A process of its own, as a deterministic run makes all of TensorFlow deterministic.
    script = f"""
import re, shlex, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from kcnn.train import main
for command in {first}, None:
    command = command or shlex.split(re.search({REPEAT.pattern!r}, Path("logs/one/card.md").read_text(), re.M)[0])
    try:
        main([*command[3:], "--json"])
    except SystemExit as left:
        assert not left.code
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    one, two = (tmp_path / result["run_dir"] for result in results)
    assert "the same weights to the bit" in read(one)
    assert two != one and two.parent == one.parent
    (_, a, _), (_, b, _) = (checkpoints.newest(folder / "checkpoints") for folder in (one, two))
    assert a.keys() == b.keys() and len(a) > 100
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    assert (one / "config.yaml").read_text() == (two / "config.yaml").read_text()


# Verdicts of real runs.


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A folder of digits, 6 a class to train on and 20 to validate with."""
    from sklearn.datasets import load_digits

    root, digits = tmp_path_factory.mktemp("few"), load_digits()
    for label in range(10):
        images = digits.images[digits.target == label][:26]
        for i, image in enumerate(images):
            folder = root / ("train" if i < 6 else "val") / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15).astype(np.uint8)).save(folder / f"{i}.png")
    return root


def plain(few, tiny, **more):
    """A run on few digits without any means against overfitting."""
    flags = {"arch": tiny["arch"], "width": 0.125, "data": str(few), "recipe": "digits", "resolution": 16,
             "batch_size": 30, "crop_scale": 1.0, "weight_decay": 0.0}  # fmt: skip
    return TrainConfig(**flags | more)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_few_images_seen_often_are_overfitted(few, tiny, tmp_path):
    figures = trainers.fit(plain(few, tiny, epochs=20, lr=1e-2, run_dir=str(tmp_path / "run"))).figures
    assert (figures["plain_train_accuracy"], figures["plain_train_images"]) == (1.0, 60)
    assert figures["val_accuracy"] < 0.9
    assert figures["verdict"] == "overfit" and "## Verdict: overfit" in read(tmp_path / "run")
    assert any(line.startswith("`--weight-decay 0.0001` (now 0)") for line in figures["advice"])


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_rate_of_next_to_nothing_underfits(few, tiny, tmp_path):
    config = plain(few, tiny, epochs=5, lr=1e-6, schedule="constant", run_dir=str(tmp_path / "run"))
    figures = trainers.fit(config).figures
    assert figures["verdict"] == "underfit"
    assert figures["advice"][:2] == [
        "`--epochs 10` (now 5): more time to fit",
        "`--lr 3e-06` (now 1e-06): larger steps; or smaller ones, if the loss jumps about",
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_rate_beyond_all_bounds_diverges(few, tiny, tmp_path):
    config = plain(few, tiny, epochs=6, lr=30.0, optimizer="sgd", warmup_epochs=6.0, run_dir=str(tmp_path / "run"))
    figures = trainers.fit(config).figures
    assert figures["verdict"] == "diverged" and figures["advice"][0] == "`--lr 10` (now 30): smaller steps"
    assert "The gradient's norm was" in figures["evidence"][0]


# The pictures.


def test_curves_can_be_drawn_of_what_is_no_number():
    line = {"loss": 1.0, "accuracy": 0.5, "val_loss": None, "val_accuracy": 0.4, "grad_norm": 1.0, "lr": 0.1}
    png = curves_png([line, line | {"loss": float("nan"), "val_loss": float("inf")}, line], 50, 0.6)
    assert Image.open(io.BytesIO(png)).format == "PNG"


def test_the_planned_rates_are_the_schedule_s():
    config = resolve(TrainConfig(epochs=5, warmup_epochs=2.0, schedule="cosine", lr=0.5, precision="mixed_float16"))
    rate = make_schedule(config, 10)
    expected = {0: 0.5 / 20, 9: 0.25, 19: 0.5, 20: 0.5, 35: 0.25, 49: 0.25 * (1 + np.cos(np.pi * 29 / 30))}
    assert [float(rate(step)) for step in expected] == pytest.approx(list(expected.values()), abs=1e-7)
    rate = make_schedule(resolve(TrainConfig(schedule="constant", warmup_epochs=0.0, lr=0.5)), 10)
    assert (float(rate(0)), float(rate(99))) == (0.5, 0.5)


def test_a_plan_shows_rate_and_resolution(monkeypatch):
    config = resolve(TrainConfig(epochs=10, warmup_epochs=2.0, schedule="cosine", lr=0.5))
    text = plan_text(config, 22)
    assert "learning rate" in text and "       0.5 " in text and "resolution 32 throughout" in text
    assert text.splitlines()[-2].split() == ["epoch", "0", "10"]
    monkeypatch.setattr("trainers.reports.curves.resolution", lambda config, epoch: 16 + 2 * epoch)
    grown = plan_text(config, 22).splitlines()
    assert grown[7].startswith("        34 " + " " * 20) and grown[7].endswith("█" * 6)
    assert grown[9].endswith("█" * 40) and "throughout" not in grown[-1]
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert plan_text(config, 22).isascii()


def test_columns_are_as_high_as_their_values():
    values = [0.01, 1.0, 2.0, 4.0, 8.0, 8.0]
    lines = chart("rate", values, " ▁▂▃▄▅▆▇█", 2)
    assert lines.splitlines() == ["           rate", "         8     ██", "           ▁▂▄███"]
    assert encodable("█", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert not encodable("█", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
