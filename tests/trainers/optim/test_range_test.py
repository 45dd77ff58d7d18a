"""The range test: its rule on curves drawn here, and the rate that it finds for real runs."""

import importlib
import json
import math
import types

import numpy as np
import pytest

import trainers
from kcnn.errors import InputError
from kcnn.terminal import cli
from trainers import TrainConfig
from trainers.optim.range_test import RATES, STEPS, blown_up, range_test, smoothed
from trainers.runs import folders
from trainers.settings import resolve

training = importlib.import_module("trainers.training")  # the package has its function `fit` beside the module
LOG = np.log10(RATES)


def curve(fall, falls_at, rises_at, noise=0.02, seed=0, rise=20.0):
    """Losses that begin at 2.3, fall by so much around a rate and leap from another one on."""
    loss = 2.3 - fall / (1 + np.exp(-6 * (LOG - math.log10(falls_at))))
    loss = loss + rise * np.clip(LOG - math.log10(rises_at), 0, None)
    return loss + np.random.default_rng(seed).normal(0, noise, STEPS)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "fall, falls_at, rises_at, noise",
    [
        (1.5, 1e-3, 3e-2, 0.02),  # Adam's
        (1.5, 1e-3, 3e-2, 0.1),
        (0.1, 3e-2, 3e-1, 0.02),  # SGD's with batch normalization, which hardly falls
        (2.25, 1e-4, 1e-3, 0.02),  # to almost nothing
        (1.5, 3e-5, 1e-4, 0.05),
    ],
)
def test_the_suggestion_is_a_third_of_the_rate_at_which_the_loss_rises(fall, falls_at, rises_at, noise, seed):
    test = range_test(curve(fall, falls_at, rises_at, noise, seed))
    assert rises_at < test.rises < 2 * rises_at
    assert test.suggested == pytest.approx(test.rises / 3, rel=0.06)
    assert fall < 1 or falls_at / 3 < test.steepest < 3 * falls_at
    assert f"{test.suggested:.1e}" == f"{test.suggested:.9e}"[:3] + f"{test.suggested:.1e}"[3:]  # two figures
    assert f"near {test.steepest:.2g} and rises from {test.rises:.2g} on" in test.evidence


def test_a_loss_that_falls_again_after_it_leapt_suggests_no_higher_rate():
    losses = curve(1.5, 1e-3, 1e-2)
    again = np.where(LOG > -1.5, 0.3, losses)  # Adam at rates far too high
    assert range_test(again).rises == range_test(losses).rises


@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_a_loss_that_becomes_no_number_rises_there(end):
    losses = [*curve(1.5, 1e-3, 1e9)[:60], end]
    test = range_test(losses)
    assert test.rises == RATES[60] and test.suggested == pytest.approx(RATES[60] / 3, rel=0.06)
    assert blown_up(losses) and not blown_up(losses[:-1])
    assert json.loads(json.dumps(test.to_dict(), allow_nan=False))["losses"][-1] is None


def test_a_loss_that_never_rises_suggests_where_it_falls_fastest():
    test = range_test(curve(1.5, 1e-2, 1e9))
    assert test.rises is None and test.suggested == pytest.approx(1e-2, rel=0.5) and "does not rise" in test.evidence


@pytest.mark.parametrize(
    "losses",
    [
        *(curve(0.0, 1.0, 1e9, noise, seed) for noise in (0.02, 0.3) for seed in range(5)),  # flat
        np.full(STEPS, 2.3),
        [math.nan],
        [2.3, math.inf],
        [2.3, 80.0, 4000.0],  # from the first rate on
    ],
    ids=[*(f"flat {i}" for i in range(10)), "constant", "NaN at once", "infinite", "blown up at once"],
)
def test_a_loss_that_never_falls_suggests_nothing(losses):
    test = range_test(losses)
    assert test.suggested is None
    with pytest.raises(InputError, match=r"no learning rate .* never falls .* --lr"):
        _ = test.rate


def test_a_loss_that_hardly_falls_suggests_a_rate_below_its_leap():
    test = range_test(curve(0.0, 1.0, 1e-2))
    assert test.steepest is None and 1e-2 / 3 < test.suggested < 2e-2 / 3
    assert "hardly falls" in test.evidence


def test_a_network_without_normalization_gets_a_lower_rate():
    losses = curve(1.5, 1e-3, 3e-2)
    assert range_test(losses, normalized=False).suggested == pytest.approx(range_test(losses).rises / 10, rel=0.06)


def test_smoothing_has_no_bias():
    np.testing.assert_allclose(smoothed([3.0] * 9), 3.0, rtol=1e-12)
    np.testing.assert_allclose(smoothed([1.0, 2.0]), [1.0, (0.16 + 0.4) / 0.36])


def test_it_ends_where_the_loss_has_blown_up_and_not_at_a_little_noise_near_nothing():
    assert blown_up([2.3] * 9 + [1000.0]) and not blown_up([2.3] * 9 + [5.0])
    assert not blown_up([2.3, 0.01, 0.01, 0.01, 0.2])


def find(capsys, *argv):
    code = cli.main(["find-lr", *argv, "--json"])
    out, err = capsys.readouterr()
    return code, out, err


def flags(values):
    return [f"--{key.replace('_', '-')}={value}" for key, value in values.items()]


def test_the_command_leaves_figures_and_picture(here, tiny, capsys):
    code, out, _ = find(capsys, *flags(tiny), "--run-dir=found")
    assert code == 0
    *told, last = out.splitlines()
    result = json.loads(last)
    assert f"learning rate {result['suggested']:g}: {result['evidence']}" in told
    assert 1e-4 < result["suggested"] < 1 and len(result["losses"]) < 100
    assert sorted(p.name for p in (here / "found").iterdir()) == ["range_test.json", "range_test.png"]
    assert (here / "found" / "range_test.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((here / "found" / "range_test.json").read_text())["losses"] == result["losses"]


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--resume=auto"], "resume 'auto'"),
        (["--dry-run"], "dry-run"),
        (["--epochs=0"], "epochs 0"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_bad_input_is_one_line(here, tiny, capsys, argv, words):
    code, out, err = find(capsys, *flags(tiny), *argv)
    [line] = err.splitlines()
    assert code == 2 and words in line and not out and not list(here.iterdir())


def test_several_workers_are_refused(tiny):
    config = resolve(TrainConfig(**tiny | {"lr": "find"}, strategy="multi-worker"))
    with pytest.raises(InputError, match="lr find: several workers"):
        training.check_devices(config, 2)


def test_nothing_to_suggest_is_one_line_and_leaves_its_picture(here, tiny, capsys, monkeypatch, no_pictures):
    unbuilt = types.SimpleNamespace(model=types.SimpleNamespace(layers=[]))
    monkeypatch.setattr(training, "make", lambda run, model: unbuilt)
    monkeypatch.setattr(training, "range_losses", lambda run, state: [math.nan])
    code, _, err = find(capsys, *flags(tiny), "--run-dir=found")
    [line] = err.splitlines()
    assert code == 2 and "no learning rate can be suggested" in line
    assert (here / "found" / "range_test.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"replicas": 2, "strategy": "mirrored"}], ids=["one device", "two replicas"])
def test_a_run_that_finds_its_rate_is_the_run_that_was_told_it(tmp_path, tiny, same_run, training_only, more):
    wanted = tiny | {"epochs": 2, "ema": 0.9, "drop": 0.2} | more
    found = trainers.fit(TrainConfig(**wanted | {"lr": "find"}, run_dir=str(tmp_path / "found")))
    config = folders.read_config(found.folder)
    assert config.flags.lr == config.lr == json.loads((found.folder / "range_test.json").read_text())["suggested"]
    same_run(trainers.fit(TrainConfig(**wanted | {"lr": config.lr}, run_dir=str(tmp_path / "told"))), found)
    # It goes on, with the rate that it found, where the command that began it is typed again.
    again = TrainConfig(**wanted | {"lr": "find", "epochs": 3, "resume": "auto"}, run_dir=str(found.folder))
    longer = trainers.fit(again)
    assert longer.figures["epochs"] == 3 and folders.read_config(found.folder).lr == config.lr


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"freeze": "backbone"}, {"features_only": True}], ids=str)
def test_it_starts_from_weights(tmp_path, tiny, finished, more):
    wanted = {key: value for key, value in tiny.items() if key != "lr"} | {"weights": str(finished.folder)}
    _, test = trainers.training.find_lr(TrainConfig(**wanted, **more, run_dir=str(tmp_path / "found")))
    assert test.losses[0] < 2.1  # random weights have 2.3, and more with random classifiers
    assert test.rate > 1e-5


def test_only_a_run_that_found_its_rate_goes_on_when_it_is_to_be_found(here, tiny, monkeypatch):
    asked = resolve(TrainConfig(**tiny | {"lr": "find"}))
    folder = here / "logs" / "run"
    folders.create(folder, resolve(TrainConfig(**tiny)), {}, ("a", "b"))
    assert folders.unfinished(asked) is None
    (folder / folders.RANGE_TEST).write_text("{}")
    assert folders.unfinished(asked) == "logs/run"
