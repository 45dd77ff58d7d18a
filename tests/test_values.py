"""The values that commands are given: where they come from, and the line in which a bad one is refused."""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

import kcnn.evaluate
import kcnn.train
from kcnn.terminal import cli
from trainers.recipes import RECIPES
from trainers.runs import folders
from trainers.settings import read


def run(main, *argv):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as left:
        main([str(a) for a in argv])
    return left.value.code


def train(*argv):
    return run(kcnn.train.main, *argv)


def as_flags(values):
    return [f"--{key.replace('_', '-')}={value}" for key, value in values.items()]


def refused(capsys, here, *argv):
    """The one line in which a training is refused, which left nothing behind."""
    before = sorted(here.rglob("*"))
    assert train(*argv) == 2
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert len(line) < 1200
    assert out == "" and line.startswith("kcnn train: error: ") and "`kcnn train --help` tells more" in line
    assert sorted(here.rglob("*")) == before
    return line


# What is wrong with a training.


@pytest.mark.parametrize("flags, words", [
    ("--arch resnet-51", "resnet-51 resnet-50"),
    ("--arch ''", "''"),
    ("--data nowhere/", "nowhere"),
    ("--data tfds:no_such_set", "no_such_set"),
    ("--recipe nope", "'nope' auto digits default"),
    ("--time soon", "time 'soon' 30m"),
    ("--time 0s", "time '0s' 30m"),
    ("--time 5m --epochs 3", "time '5m' --epochs 3 both"),
    ("--batch 8", "--batch"),
    ("extra", "extra"),
    ("--epochs many", "many"),
    ("--epochs", "--epochs"),
    ("--epochs 0", "epochs 0 1"),
    ("--epochs 2.7", "--epochs 2.7 whole"),
    (f"--epochs {'9' * 400}", "epochs 999 2147483647"),
    (f"--epochs {'9' * 5000}", "--epochs 999 int"),
    (f"--batch-size {'9' * 400}", "batch-size 999 2147483647"),
    ("--checkpoint-every 1.5", "--checkpoint-every 1.5 whole"),
    (f"--checkpoint-every {'9' * 400}m", "checkpoint-every 999 minutes"),
    ("--run-dir ''", "--run-dir '' folder"),
    ("--run-dir logs/\udcff", r"run-dir 'logs/\udcff' UTF-8"),
    ("--data \udcff/", r"data '\udcff/' UTF-8"),
    ("--config ''", "--config '' file"),
    ("--resume ''", "--resume ''"),
    ("--weights ''", "weights ''"),
    ("--weights nowhere", "weights 'nowhere' no folder"),
    ("--freeze top", "freeze 'top' none backbone"),
    ("--freeze 0", "freeze '0' none backbone"),
    ("--freeze backbone", "freeze 'backbone' random --weights"),
    ("--unfreeze-epoch 2", "unfreeze-epoch 2 --freeze"),
    ("--freeze 1 --unfreeze-epoch 1", "unfreeze-epoch 1 2 12"),
    ("--freeze 1 --unfreeze-epoch 13", "unfreeze-epoch 13 2 12"),
    ("--features-only", "freeze 'backbone' random --weights"),
    ("--features-only --freeze 2", "freeze '2' backbone features-only"),
    ("--features-only --mixup 0.2", "mixup 0.2 0.0 features-only"),
    ("--features-only --progressive 16", "progressive [16.0] features-only"),
    ("--features-only --unfreeze-epoch 3", "unfreeze-epoch 3 features-only"),
    ("--features-only --weights nowhere --strategy multi-worker", "multi-worker"),
    ("--replicas 2147483647", "replicas 2147483647 4,096"),
    ("--worker-timeout inf", "worker-timeout inf"),
    ("--worker-timeout 1e30", "worker-timeout 1e+30 million"),
    ("--precise-bn 1000000", "precise-bn 1000000 22 batches"),
    ("--augment-layers 2147483647", "augment-layers 2147483647 100"),
    ("--schedule step --step-epochs 1e-30", "step-epochs 1e-30 100,000"),
    ("--show-recipe nope", "'nope' digits default"),
    ("--batch-size -4", "batch-size -4"),
    ("--batch-size 5000", "batch-size 5000 1442"),
    ("--batch-size 1 --mixup 0.2", "batch-size 1 mixup 2 images"),
    ("--resolution 0", "resolution 0"),
    ("--arch vgg-11 --resolution 8", "8"),
    ("--width 0", "0"),
    ("--width -1", "-1"),
    ("--width nan", "nan"),
    ("--depth 0", "0"),
    ("--stem large", "large"),
    ("--replicas 0", "replicas 0"),
    ("--replicas 2 --strategy one-device", "replicas 2 mirrored"),
    ("--replicas 2 --strategy mirrored --batch-size 63", "batch-size 63 2"),
    ("--strategy tpus", "tpus mirrored"),
    ("--precision float8", "float8 float32"),
    ("--checkpoint-every 0", "checkpoint-every 0"),
    ("--keep 0", "keep 0"),
    ("--lr 0", "lr 0.0 above"),
    ("--lr nan", "lr nan"),
    ("--lr inf", "lr inf"),
    ("--lr 1e308", "lr 1e+308 3.4e+38"),
    ("--lr 1e-60", "lr 1e-60 above"),
    ("--lr-base -1", "lr-base -1"),
    ("--weight-decay -0.1", "weight-decay -0.1"),
    ("--clip-norm -1", "clip-norm -1"),
    ("--warmup-epochs -1", "warmup-epochs -1"),
    ("--warmup-epochs 3 --epochs 2", "warmup-epochs 3 2"),
    ("--drop 1", "drop 1.0"),
    ("--drop-path 1.5", "drop-path 1.5"),
    ("--label-smoothing 1", "label-smoothing 1"),
    ("--ema 1", "ema 1.0"),
    ("--momentum 1", "momentum 1"),
    ("--bn-momentum 1", "bn-momentum 1"),
    ("--crop-scale 0", "crop-scale 0"),
    ("--eval-crop 1.1", "eval-crop 1.1"),
    ("--val-split 0", "val-split 0"),
    ("--val-split 1", "val-split 1"),
    ("--seed -1", "seed -1"),
    ("--seed 2147483648", "seed 2147483648"),
    ("--on-corrupt ignore", "ignore error skip"),
    ("--optimizer adam", "adam sgd"),
    ("--schedule linear", "linear cosine"),
    ("--schedule one-cycle --warmup-epochs 2", "warmup-epochs 2.0 one-cycle"),
    ("--schedule step --step-epochs 6 3", "step-epochs [6.0, 3.0] ascending"),
    ("--step-epochs many", "many"),
    ("--min-lr 1", "min-lr 1.0"),
    ("--layer-decay 1.1", "layer-decay 1.1"),
    ("--loss hinge", "hinge bce"),
    ("--focal-gamma -1", "focal-gamma -1"),
    ("--sam -1", "sam -1"),
    ("--epsilon 0", "epsilon 0"),
    ("--resume nowhere", "nowhere"),
    ("--config nowhere.yaml", "nowhere.yaml"),
])  # fmt: skip
def test_a_bad_value_is_one_line_that_names_it(here, capsys, flags, words):
    line = refused(capsys, here, *shlex.split(flags))
    for word in words.split():
        assert word in line, line


@pytest.mark.parametrize("text, words", [
    ("epoch: 3\n", "'epoch' no flag"),
    ("epochs: [1\n", "not YAML"),
    ("just words\n", "str epochs: 10"),
    ("- epochs\n", "list"),
    ("epochs: many\n", "many"),
    ("epochs: 0\n", "epochs 0"),
    ("strategy: tpus\n", "tpus"),
    ("arch: [resnet-18]\n", "resnet-18"),
    (b"arch: \xff\xfe\n", "not UTF-8"),
    ("a: &a [x, x]\nb: [*a, *a]\n", "bad.yaml aliases"),
    ("1: 2\n", "bad.yaml 1 no name"),
    (f"epochs: {'[' * 20000}", "bad.yaml deep"),
    ("epochs: 2.7\n", "epochs 2.7 whole"),
    (f"epochs: {'9' * 400}\n", "bad.yaml digits"),
    ("epochs: {a: 1}\n", "epochs"),
    ("data: ''\n", "data ''"),
])  # fmt: skip
def test_a_bad_config_is_one_line_that_names_it(here, capsys, text, words):
    Path("bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    line = refused(capsys, here, "--config", "bad.yaml")
    for word in words.split():
        assert word in line, line


def folder_of(layout):
    for name, count in layout.items():
        Path("data", name).mkdir(parents=True)
        for i in range(count):
            Path("data", name, f"{i}.jpg").write_bytes(b"")


@pytest.mark.parametrize("layout, words", [
    ({}, "data"),
    ({"cat": 3}, "cat two"),
    ({"cat": 3, "dog": 0}, "dog no images"),
    ({"train/cat": 2, "train/dog": 2, "val/cat": 2}, "val dog"),
], ids=["empty", "one class", "a class without images", "a class not in val"])  # fmt: skip
def test_bad_folders_are_one_line(here, capsys, layout, words):
    Path("data").mkdir()
    folder_of(layout)
    line = refused(capsys, here, "--data", "./data")
    for word in words.split():
        assert word in line, line


def test_no_permission_is_one_line(here, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert str(here) in refused(capsys, here, "--run-dir", here / "run")


def test_a_full_disk_is_one_line(here, capsys, tiny, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "facts.json")

    monkeypatch.setattr(folders, "write_json", full)
    assert train(*as_flags(tiny), "--run-dir", "run") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "facts.json: No space left on device" in line


@pytest.mark.usefixtures("training_only")
def test_a_loss_that_is_no_number_ends_in_one_line(here, capsys, tiny):
    assert train(*as_flags(tiny | {"lr": 1e30}), "--epochs=1", "--optimizer=sgd", "--run-dir=run") == 2
    line = capsys.readouterr().err.splitlines()[-1]  # after those of its progress, if it was slow
    assert re.search(r"the loss is (nan|inf) at step \d+: there is no checkpoint yet.*--lr", line)
    assert not (here / "run" / "result.json").exists()


# Where a value comes from.


def planned(capsys, *argv):
    assert train(*argv, "--dry-run", "--json") == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_flags_win_over_the_file_over_the_recipe(here, capsys):
    Path("mine.yaml").write_text("arch: resnet-18\nbatch-size: 32\nweight_decay: 0.5\nflip: true\nseed: 3\n")
    config = planned(capsys, "--config", "mine.yaml", "--batch-size", "16", "--no-flip")["config"]
    assert (config["batch_size"], config["flip"]) == (16, False)  # flags
    assert (config["arch"], config["weight_decay"], config["seed"]) == ("resnet-18", 0.5, 3)  # the file
    assert (config["recipe"], config["epochs"]) == ("digits", RECIPES["digits"]["epochs"])  # the recipe
    assert (config["width"], config["keep"]) == (1.0, 3)  # defaults
    assert config["lr"] == pytest.approx(RECIPES["digits"]["lr_base"] * 16 / 256)


def test_a_recipe_may_be_named_in_the_file(here, capsys):
    Path("mine.yaml").write_text("recipe: default\narch: resnet-18\nresolution: 32\n")
    config = planned(capsys, "--config", "mine.yaml")["config"]
    assert (config["recipe"], config["label_smoothing"]) == ("default", RECIPES["default"]["label_smoothing"])


def test_a_run_s_config_repeats_it(finished, here, capsys):
    saved = yaml.safe_load((finished.folder / "config.yaml").read_text())
    config = planned(capsys, "--config", finished.folder / "config.yaml", "--run-dir", "again")["config"]
    assert config == saved | {"run_dir": "again", "dry_run": True}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_shown_as_config_takes_it(here, capsys, name):
    assert train("--show-recipe", name) == 0
    Path("shown.yaml").write_text(capsys.readouterr().out)
    values = read(Path("shown.yaml"))
    assert values == RECIPES[name] | {"recipe": name}
    assert train("--show-recipe", name, "--json") == 0
    assert json.loads(capsys.readouterr().out)["settings"] == RECIPES[name]


def test_the_help_s_examples_can_be_typed(here, capsys, monkeypatch):
    """All that needs no data is run, the others are parsed."""
    # The help is this docstring. A process that has listed all commands would show a summary in its place.
    lines = [line.strip() for line in kcnn.train.train.__doc__.splitlines()]
    examples = [line.split("#")[0].split()[2:] for line in lines if line.startswith("kcnn train ")]
    assert ["--show-recipe", "a2"] in examples and len(examples) >= 4
    monkeypatch.setattr(kcnn.train, "run", lambda config, imports=None: None)
    for example in examples:
        assert train(*example) == 0, example


def test_a_dry_run_writes_nothing(here, capsys, tiny):
    plan = planned(capsys, *as_flags(tiny))
    assert (plan["steps_per_epoch"], plan["steps"]) == (22, 22 * RECIPES["digits"]["epochs"])
    assert plan["params"] > 0 and plan["macs"] > 0 and plan["memory"] > 0
    assert plan["run_dir"].startswith(f"logs/{tiny['arch']}-digits-")
    assert not list(here.iterdir())


@pytest.mark.parametrize("resume", ["DIR", "auto"])
@pytest.mark.parametrize("flags, words", [
    ("--arch efficientnet-b0", "arch 'efficientnet-b0' has 'anynetx-d1x1-"),  # also where it is the default
    ("--width 1", "width 1.0 has 0.125"),
    ("--batch-size 32", "batch-size 32 has 64"),
    ("--keep 0", "keep 0"),
    ("--checkpoint-every 0", "checkpoint-every 0"),
    ("--epochs 0", "epochs 0"),
])  # fmt: skip
def test_flags_that_a_resumed_run_cannot_have_are_one_line(finished, here, capsys, resume, flags, words):
    where = ["--resume", finished.folder] if resume == "DIR" else ["--resume", "auto", "--run-dir", finished.folder]
    line = refused(capsys, here, *where, *shlex.split(flags))
    for word in words.split():
        assert word in line, line


def test_a_finished_run_says_its_result_again(finished, here, capsys, tiny):
    for flags in (["--resume", finished.folder], [*as_flags(tiny), "--resume", "auto", "--run-dir", finished.folder]):
        assert train(*flags, "--json") == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == finished.figures


# What is no run, or no split of its data.


@pytest.mark.parametrize("command", ["evaluate", "export"])
@pytest.mark.parametrize("argv, words", [
    (["nowhere"], "'nowhere' is no folder"),
    (["."], "no run"),
    ([], "RUN"),
    (["nowhere", "--checkpoint", "worst"], "worst"),
    (["nowhere", "--nope"], "--nope"),
])  # fmt: skip
def test_what_is_no_run_is_one_line(here, capsys, command, argv, words):
    assert cli.main([command, *argv]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line and line.startswith(f"kcnn {command}: error: ")


@pytest.mark.parametrize("flags, words", [
    (["--batch-size", "0"], "batch-size 0"),
    (["--split", "test"], "test"),
    (["--data", "nowhere/"], "nowhere"),
])  # fmt: skip
def test_a_bad_evaluation_is_one_line(finished, capsys, flags, words):
    assert run(kcnn.evaluate.main, finished.folder, *flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line


def test_an_evaluation_on_other_classes_is_refused(finished, photos, capsys):
    assert run(kcnn.evaluate.main, finished.folder, "--data", photos) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "the data's 2 classes are not the 10" in line


@pytest.mark.parametrize("words", ["train --resume", "evaluate", "export"])
def test_a_run_whose_folder_was_given_a_name_that_is_not_utf_8_is_one_line(finished, here, capsys, words):
    folder = Path(os.fsdecode(b"run\xff"))
    folder.mkdir()
    shutil.copy(finished.folder / folders.CONFIG, folder)
    sys.stderr.reconfigure(errors="backslashreplace")  # as Python's own
    assert cli.main([*words.split(), str(folder)]) == 2
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert out == "" and r"run-dir 'run\udcff': a name in UTF-8 is needed" in line
