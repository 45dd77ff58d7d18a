"""Ctrl-C before anything has begun, a disk that is full, a folder that is gone."""

import shutil
from pathlib import Path

import filelock
import pytest

import tuning
from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.training import Result
from tuning.trials import engine, sweep
from tuning.trials.options import Limits, Ranges
from tuning.trials.trainer import claimed
from tuning.trials.trial import run_trial


@pytest.mark.parametrize(
    "command",
    [
        "tuning.search",
        pytest.param("tuning.compound", marks=pytest.mark.slow),
        pytest.param("tuning.design_space", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_in_the_first_seconds_leaves_without_a_traceback(command, tmp_path, interrupted):
    assert interrupted([command, "--run-dir", "s"], tmp_path) == (130, "", "") and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_after_keras_has_loaded_and_before_the_flags_are_read_leaves_the_same(tmp_path, interrupted):
    assert interrupted(["tuning.search", "--run-dir", "s"], tmp_path, loads="sklearn") == (130, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2, 4, 6, 8])
def test_ctrl_c_in_the_next_seconds_leaves_without_a_traceback(seconds, tmp_path, interrupted):
    code, _, err = interrupted(["tuning.search", "--run-dir", "s"], tmp_path, seconds)
    assert code in (130, 75) and "Traceback" not in err


FULL = OSError(28, "No space left on device")


def because(error, cause):
    error.__cause__ = cause
    return error


def raises(error):
    def fit(*_, **__):
        raise error

    return fit


def search(folder, **more):
    config = TrainConfig(arch="resnet-18", width=0.125, depth=0.5, run_dir=str(folder))
    return tuning.search(config, Ranges(resolution_range=(8, 16)), Limits(), tuner="random", max_trials=2, **more)


@pytest.mark.parametrize("fit, raised", [
    (raises(because(InputError("cannot write: No space left on device"), FULL)), InputError), (raises(FULL), OSError),
    (raises(RuntimeError("x; No space left on device")), RuntimeError),
])  # fmt: skip
def test_a_full_disk_ends_a_search_and_no_trial(fit, raised, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.fit", fit)
    with pytest.raises(raised, match="No space left"):
        search(tmp_path / "s")
    ran = []
    monkeypatch.setattr("trainers.fit", lambda config, **_: ran.append(Path(config.run_dir).name) or pytest.fail("ran"))
    with pytest.raises(pytest.fail.Exception):
        search(tmp_path / "s")
    assert ran == ["0"]  # it had not failed


def test_a_folder_that_is_removed_under_a_search_is_noticed_and_stays_away(tmp_path, monkeypatch):
    def fit(config, callbacks):
        shutil.rmtree(tmp_path / "s")
        return Result(Path(config.run_dir), {"val_accuracy": 0.5})

    monkeypatch.setattr("trainers.fit", fit)
    with pytest.raises(InputError, match="cannot write"):
        search(tmp_path / "s")
    assert not (tmp_path / "s").exists()
    with pytest.raises(InputError, match="s is gone: it was removed or renamed"):
        run_trial(tmp_path / "s/trials/0", {"trial": "0", "values": {}}, TrainConfig, lambda figures: 0.5)
    assert not (tmp_path / "s").exists()


def test_what_a_sweep_s_worker_cannot_write_ends_it(tmp_path, monkeypatch):
    def fit(config, callbacks):
        shutil.rmtree(tmp_path / "s")
        return Result(Path(config.run_dir), dict.fromkeys(sweep.FIGURES, 0.5))

    monkeypatch.setattr("trainers.fit", fit)
    monkeypatch.setattr(sweep, "carry_out", lambda trials, oracle, _: engine.work_alone(trials, oracle))
    (tmp_path / "s").mkdir()
    with pytest.raises(InputError, match="its folder is gone; it was removed or renamed"):
        sweep.train_all(tmp_path / "s", [sweep.Job("a", TrainConfig())], 1)
    assert not (tmp_path / "s").exists()


def test_two_that_begin_in_the_same_second_have_a_folder_each(tmp_path):
    assert [claimed(tmp_path / "logs" / "a", TrainConfig()).name for _ in range(3)] == ["a", "a-1", "a-2"]


def test_a_run_that_another_process_still_trains_ends_the_search_and_no_trial(tmp_path, monkeypatch):
    monkeypatch.setattr("tuning.trials.trial.WAIT_SECONDS", 0.1)
    folder = tmp_path / "s" / "trials" / "0"
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / ".lock"), pytest.raises(InputError, match="0 is in use by a live run"):
        run_trial(folder, {"trial": "0", "values": {}}, TrainConfig, lambda figures: 0.5)
    assert not (folder / "trial.json").exists()
