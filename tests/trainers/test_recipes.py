"""Recipes: complete, without contradictions, and the papers' figures."""

import itertools
import json
import math
import re
from dataclasses import fields, replace

import pytest

import kcnn
from kcnn.errors import InputError
from kcnn.train import main
from trainers.config import TrainConfig
from trainers.optim.schedules import make_schedule
from trainers.recipes import COOKBOOK, DEFAULT, RECIPES, choose
from trainers.settings import read, resolve, text
from trainers.training import dry_run, fit

IMAGENET = 1_281_167
FAMILIES = list({kcnn.get(name).family: name for name in reversed(kcnn.names())}.values())  # the first name of each


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_whole(name, tmp_path):
    known = {f.name for f in fields(TrainConfig)}
    assert RECIPES[name].keys() <= known
    config = resolve(TrainConfig(recipe=name))
    assert resolve(config.flags) == config
    assert None not in [getattr(config, key) for key in DEFAULT] + [config.lr]
    (tmp_path / "config.yaml").write_text(text(config.flags))
    assert TrainConfig(**read(tmp_path / "config.yaml")) == config.flags
    assert float(make_schedule(config, 100)(0)) > 0


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "digits"])
def test_recipes_name_their_paper(name):
    assert re.search(r"https://arxiv\.org/abs/\d{4}\.\d{4,5}", COOKBOOK[name].source)
    assert "\n" not in COOKBOOK[name].about + COOKBOOK[name].source


def rate(name, epoch):
    """Learning rate at an epoch of ImageNet, with the recipe's own batch."""
    config = resolve(TrainConfig(recipe=name))
    steps = IMAGENET // config.batch_size
    return float(make_schedule(config, steps)(round(epoch * steps)))


def test_learning_rates_are_the_papers():
    assert rate("vgg", 0) == pytest.approx(0.01) and rate("vgg", 73) == pytest.approx(1e-5)
    assert rate("resnet", 0) == pytest.approx(0.1) and rate("resnet", 61) == pytest.approx(1e-3)
    assert rate("densenet", 29) == pytest.approx(0.1) and rate("densenet", 89) == pytest.approx(1e-3)
    assert rate("inception-v3", 2.5) / rate("inception-v3", 0) == pytest.approx(0.94)
    assert rate("mobilenet-v2", 0) == pytest.approx(0.045)
    assert rate("efficientnet", 5) == pytest.approx(0.256 * 0.97**2)  # for 4,096; two steps of 2.4 epochs
    assert rate("regnet", 5) == pytest.approx(0.8) and rate("regnet", 52.5) == pytest.approx(0.4, rel=1e-3)
    assert rate("a1", 5) == rate("a2", 5) == pytest.approx(5e-3) and rate("a3", 5) == pytest.approx(8e-3)
    assert rate("a3", 100) == 0.0
    assert rate("efficientnet-v2", 5) == pytest.approx(0.256 * 0.97**2)
    assert rate("convnext", 10) == pytest.approx(2e-3, rel=0.01) and rate("convnext", 20) == pytest.approx(4e-3)


def test_steps_are_the_papers():
    steps = {name: r["epochs"] * (IMAGENET // r["batch_size"]) for name, r in RECIPES.items()}
    assert steps["vgg"] == pytest.approx(370_000, rel=0.01)
    assert steps["resnet"] == pytest.approx(600_000, rel=0.01)
    assert steps["a1"] == pytest.approx(375_000, rel=0.01)
    assert steps["a2"] == pytest.approx(188_000, rel=0.01)
    assert steps["a3"] == pytest.approx(63_000, rel=0.01)
    assert steps["mobilenet-v2"] == pytest.approx(5_500_000, rel=0.03)
    assert steps["efficientnet"] == pytest.approx(218_949 / 2, rel=0.01)  # tensorflow/tpu has it for half the batch


def test_stages_of_growing_resolution_are_the_papers():
    def sides(**flags):
        return resolve(TrainConfig(recipe="efficientnet-v2", arch="efficientnet-v2-s", **flags)).progressive

    assert sides() == (128, 185, 243)  # and 300: table 6, in four stages
    assert sides(resolution=100) == (43, 62, 81)
    assert sides(epochs=3) == (185, 243) and sides(epochs=1) == ()
    assert sides(progressive=[150]) == (150,)


def test_a_flag_wins():
    config = resolve(TrainConfig(recipe="efficientnet", optimizer="sgd", batch_size=256, step_epochs=[1.0, 2.0]))
    assert (config.optimizer, config.epsilon, config.step_epochs) == ("sgd", 1e-3, [1.0, 2.0])
    assert config.lr == pytest.approx(0.016)  # scales with the batch
    assert resolve(TrainConfig(recipe="resnet", lr=0.5)).lr == 0.5


def test_times_keep_their_places_in_a_run_of_other_length():
    short = resolve(TrainConfig(recipe="resnet", epochs=12))
    assert short.step_epochs == pytest.approx([3.0, 6.0, 9.0])
    assert resolve(TrainConfig(recipe="resnet", epochs=12, step_epochs=[5.0, 9.0])).step_epochs == [5.0, 9.0]
    assert resolve(TrainConfig(recipe="a1", epochs=60)).warmup_epochs == pytest.approx(0.5)
    assert resolve(TrainConfig(recipe="a3", epochs=600)).warmup_epochs == 5.0
    assert resolve(TrainConfig(recipe="regnet", epochs=2, warmup_epochs=1.0)).warmup_epochs == 1.0
    with pytest.raises(InputError, match="at most the run's 2 epochs"):
        resolve(TrainConfig(recipe="regnet", epochs=2, warmup_epochs=5.0))
    resolved = resolve(TrainConfig(recipe="resnet"))
    assert resolve(replace(resolved.flags, epochs=240)).step_epochs == [30.0, 60.0, 90.0]  # a resumed run's are settled


def test_the_data_chooses():
    assert choose("digits") == resolve(TrainConfig()).recipe == "digits"
    assert choose("vgg") == choose("photos/") == resolve(TrainConfig(data="photos/")).recipe == "auto"
    assert choose("photos/", "a run") == "finetune"


def test_they_are_listed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--list-recipes"])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0 and [line.split()[0] for line in lines] == list(RECIPES)
    assert "Inception-v3, 100 epochs" in "".join(lines) and "https://arxiv.org/abs/1512.00567" in "".join(lines)
    with pytest.raises(SystemExit):
        main(["--list-recipes", "--json"])
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["recipes"]["a2"]["optimizer"] == "lamb"


# Each recipe and each family at least once.
NAMED = [name for name in RECIPES if name != "auto"]  # which digits have a recipe for
PAIRS = list(zip(itertools.cycle(NAMED), FAMILIES, strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("name, arch", PAIRS)
def test_they_plan_runs(name, arch):
    plans(name, arch)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("arch", FAMILIES)
def test_they_plan_runs_of_all_families(name, arch):
    plans(name, arch)


def plans(name, arch):
    config = TrainConfig(recipe=name, arch=arch, width=0.25, depth=0.1, resolution=224, batch_size=8)
    if RECIPES[name].get("progressive") and arch in ("alexnet", "lenet-5", "vgg-11"):
        with pytest.raises(InputError, match=rf"progressive .*: weights of {arch}.* depend on the resolution"):
            dry_run(config)
        return
    plan = dry_run(config)
    assert plan["steps"] == RECIPES[name]["epochs"] * (1442 // 8) and plan["config"]["recipe"] == name


@pytest.mark.slow
@pytest.mark.usefixtures("training_only")
@pytest.mark.parametrize("name", NAMED)
def test_they_train(name, tiny, tmp_path):
    flags = {k: tiny[k] for k in ("arch", "width", "resolution")} | {"batch_size": 128, "epochs": 1}
    figures = fit(TrainConfig(recipe=name, **flags, run_dir=str(tmp_path / "run"))).figures
    assert math.isfinite(figures["train_loss"]) and math.isfinite(figures["val_loss"])
