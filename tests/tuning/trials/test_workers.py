"""Workers that die, and a supervisor that is told to stop."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import keras_tuner
import pytest
from keras_tuner import oracles

from kcnn.errors import InputError, Interrupted
from tuning.trials import workers as parallel

ROOT = Path(__file__).parents[3]
WORKER = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tuning.trials import workers as parallel
from tuning.trials import processes

processes.die_with_parent()
notes = Path({notes!r})

def run(trial):
    with open(notes / trial.trial_id, "a") as file:
        file.write(os.environ[parallel.NAME] + "\\n")
    times = len((notes / trial.trial_id).read_text().splitlines())
    if trial.trial_id == "1" or (trial.trial_id == "2" and times == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if {waits} and trial.trial_id == "3":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        time.sleep(600)
    return float(trial.hyperparameters.values["width"])

with parallel.connected() as (oracle, name):
    parallel.work(oracle, name, run)
"""


@pytest.fixture
def oracle(tmp_path):
    space = keras_tuner.HyperParameters()
    space.Float("width", 0.1, 1.0)
    made = oracles.RandomSearchOracle(objective=keras_tuner.Objective("score", "max"), max_trials=5, seed=1,
                                      hyperparameters=space, max_consecutive_failed_trials=99)  # fmt: skip
    made._set_project_dir(str(tmp_path), "oracle")
    made.verbose = 0
    return made


def command(tmp_path, waits=False):
    script, notes = tmp_path / "worker.py", tmp_path / "notes"
    notes.mkdir()
    script.write_text(WORKER.format(root=str(ROOT), notes=str(notes), waits=waits))
    return [sys.executable, str(script)], notes


@pytest.mark.slow
def test_a_dead_worker_is_started_again_under_its_name_and_a_deadly_trial_given_up(oracle, tmp_path, capfd):
    start, notes = command(tmp_path)
    parallel.supervise(oracle, start, 2, tmp_path / "logs")
    assert {name: trial.status for name, trial in oracle.trials.items()} == {
        "0": "COMPLETED", "1": "FAILED", "2": "COMPLETED", "3": "COMPLETED", "4": "COMPLETED"
    }  # fmt: skip
    ran = {path.name: path.read_text().split() for path in notes.iterdir()}
    assert len(ran["1"]) == 3 and len(set(ran["1"])) == 1
    assert len(ran["2"]) == 2 and len(set(ran["2"])) == 1
    assert all(len(ran[name]) == 1 for name in "034")
    assert "3 workers died in it, the last by SIGKILL" in oracle.trials["1"].message
    assert capfd.readouterr().err.count("died (SIGKILL) in trial") == 4


@pytest.mark.slow
def test_told_to_stop_it_tells_its_workers_and_waits_for_them(oracle, tmp_path, monkeypatch):
    start, notes = command(tmp_path, waits=True)
    begun, real = [], parallel.start
    monkeypatch.setattr(parallel, "start", lambda *a, **k: begun.append(real(*a, **k)) or begun[-1])

    def stop():
        while not (notes / "3").exists():
            time.sleep(0.1)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Interrupted, match="SIGTERM"):
        parallel.supervise(oracle, start, 1, tmp_path / "logs")
    assert begun[-1].returncode == 75


@pytest.mark.slow
def test_workers_that_cannot_begin_are_given_up(oracle, tmp_path):
    with pytest.raises(InputError, match=r"worker-0 died 3 times before its first trial \(exit code 3\): no disk"):
        start = [sys.executable, "-c", "import sys; print('no disk'); sys.exit(3)"]
        parallel.supervise(oracle, start, 1, tmp_path / "logs")
