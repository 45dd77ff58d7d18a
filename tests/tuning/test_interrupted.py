"""Ctrl-C before anything has begun, a disk that is full, a folder that is gone."""

import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import keras_tuner
import pytest
from keras_tuner import oracles

import tuning
from kcnn.errors import InputError
from trainers.config import TrainConfig
from tuning.trials import sweep
from tuning.trials import workers as parallel
from tuning.trials.objective import Objective
from tuning.trials.records import claimed
from tuning.trials.space import Dimension, Limits, Ranges, Space
from tuning.trials.trial import run_trial

FIT = importlib.import_module("trainers.training")  # its name in the package is the function's
ROOT = Path(__file__).parents[2]
COMMANDS = {
    "tuning.search": ["--run-dir", "s"],
    "tuning.compound": ["--run-dir", "s"],
    "tuning.design_space": ["--run-dir", "s"],
    "trainers.launch": ["--", "-c", "import time; time.sleep(60)"],
}


def interrupted(command, flags, seconds, folder):
    """(exit code, standard error) of a command that gets Ctrl-C after so many seconds."""
    process = subprocess.Popen([sys.executable, "-m", command, *flags], cwd=folder, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    timer = threading.Timer(seconds, process.send_signal, [signal.SIGINT])
    timer.start()
    _, err = process.communicate(timeout=120)
    return process.returncode, err


@pytest.mark.parametrize("command", [
    "tuning.search", *(pytest.param(name, marks=pytest.mark.slow) for name in list(COMMANDS)[1:]),
])  # fmt: skip
def test_ctrl_c_in_the_first_seconds_leaves_without_a_traceback(command, tmp_path):
    code, err = interrupted(command, COMMANDS[command], 0.5, tmp_path)
    assert (code, err) == (130, "") and list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2, 4, 6, 8])
def test_ctrl_c_in_the_next_seconds_leaves_without_a_traceback(seconds, tmp_path):
    code, err = interrupted("tuning.search", COMMANDS["tuning.search"], seconds, tmp_path)
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
        return FIT.Result(Path(config.run_dir), {"val_accuracy": 0.5})

    monkeypatch.setattr("trainers.fit", fit)
    with pytest.raises(InputError, match="cannot write"):
        search(tmp_path / "s")
    assert not (tmp_path / "s").exists()
    space = Space(TrainConfig(), (Dimension("width", 0.1, 1.0),))
    with pytest.raises(InputError, match="s is gone: it was removed or renamed"):
        run_trial(space, Objective("val_accuracy"), {}, tmp_path / "s", "0", {"width": 0.5})
    assert not (tmp_path / "s").exists()


def test_what_a_sweep_s_worker_cannot_write_ends_it(tmp_path, monkeypatch):
    def fit(config):
        shutil.rmtree(tmp_path / "s")
        return FIT.Result(Path(config.run_dir), dict.fromkeys(sweep.FIGURES, 0.5))

    monkeypatch.setattr(FIT, "fit", fit)
    sweep.write_jobs(tmp_path / "s", [sweep.Job("a", TrainConfig())])
    with pytest.raises(InputError, match="s is gone: it was removed or renamed"):
        sweep.work(tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.fixture
def oracle(tmp_path, monkeypatch):
    """An oracle of KerasTuner's that is served on loopback, as the environment says."""
    space = keras_tuner.HyperParameters()
    space.Float("width", 0.1, 1.0)
    made = oracles.RandomSearchOracle(keras_tuner.Objective("score", "max"), 5, seed=1, hyperparameters=space)
    made._set_project_dir(str(tmp_path), "oracle")
    made.verbose = 0
    with socket.socket() as free:
        free.bind((parallel.LOOPBACK, 0))
        port = free.getsockname()[1]
    for name, value in ((parallel.NAME, "worker-0"), (parallel.ADDRESS, parallel.LOOPBACK), (parallel.PORT, port)):
        monkeypatch.setenv(name, str(value))
    return made


def test_a_chief_that_cannot_write_its_state_says_so(oracle, tmp_path):
    def save():
        oracle.failure = InputError("cannot write oracle.json: No space left on device")
        raise oracle.failure

    oracle.save = save
    lost = []

    def worker():
        with pytest.raises(InputError, match="lost the chief") as error, parallel.connected() as (remote, name):
            parallel.work(remote, name, lambda trial: 0.5)
        lost.append(error)

    thread = threading.Thread(target=worker)
    thread.start()
    with pytest.raises(InputError, match=r"cannot write oracle\.json"):
        parallel.lead(oracle)
    thread.join(60)
    assert lost


def test_a_worker_s_bad_input_is_not_tried_again(oracle, tmp_path):
    tells = "import sys; print('tuning.worker: error: cannot write x: No space left on device (`--help`)'); sys.exit(2)"
    with pytest.raises(InputError, match=r"^worker-0 cannot go on: cannot write x: No space left on device$"):
        parallel.supervise(oracle, [sys.executable, "-c", tells], 1, tmp_path / "logs")


def test_two_that_begin_in_the_same_second_have_a_folder_each(tmp_path):
    assert [claimed(tmp_path / "logs" / "a").name for _ in range(3)] == ["a", "a-1", "a-2"]
