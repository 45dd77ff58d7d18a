"""The size of a run's first steps: small at a usual learning rate, and named first at one that is far too high."""

from dataclasses import replace

import pytest

from trainers.config import TrainConfig
from trainers.lab.measured import Measured
from trainers.lab.updates import Updates, updates
from trainers.training import make, new_or_resumed, prepare

USUAL = {"adamw": 2e-3, "sgd": 2.5e-2}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", USUAL)
def test_a_rate_a_hundred_times_too_high_is_named(tiny, tmp_path, optimizer):
    flags = tiny | {"batch_size": 32, "optimizer": optimizer, "run_dir": str(tmp_path / "run")}
    run = prepare(*new_or_resumed(TrainConfig(**flags, epochs=1)))
    found = [updates(replace(run, config=replace(run.config, lr=times * USUAL[optimizer])), make) for times in (1, 100)]
    assert [f.high for f in found] == [False, True]
    assert 1e-4 < found[0].typical < 0.1 < found[1].typical
    assert not (tmp_path / "run").exists()


def test_it_is_the_first_finding():
    from trainers.lab.measured import of_training

    high = Updates("adamw", 0.2, {"stem": 2.0, "stage1": 3.0})
    found = next(of_training(Measured(None, "", updates=high)))
    assert found.what == "the learning rate, 0.2, is far too high" and found.weight > 0.9
    assert "stem 2, stage1 3" in found.evidence and found.change == "--lr 0.002, or --lr find"
    assert list(of_training(Measured(None, "", updates=replace(high, stages={"stem": 0.02, "stage1": 0.1})))) == []


@pytest.mark.parametrize("stages, optimizer, high", [
    ({"a": 0.1, "b": 0.3, "c": 0.15}, "adamw", False),
    ({"a": 0.1, "b": 0.3, "c": 0.25}, "adamw", True),
    ({"a": 0.1, "b": 0.9, "c": 0.8}, "sgd", False),
    ({"a": float("nan")}, "sgd", True),
])  # fmt: skip
def test_what_is_high(stages, optimizer, high):
    assert Updates(optimizer, 0.1, stages).to_dict()["high"] == high
