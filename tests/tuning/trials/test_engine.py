"""The engine: workers that die, a supervisor that is told to stop, a chief and those who work for it."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import keras_tuner
import pytest
from keras_tuner import oracles

from kcnn.errors import InputError, Interrupted
from tuning.trials import engine, service
from tuning.trials.engine import lead, supervise, work, work_for_chief

ROOT = Path(__file__).parents[3]
WORKER = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from trainers.distribute.supervisor import leave_with_supervisor
from tuning.trials import service
from tuning.trials.engine import work_for_chief

leave_with_supervisor()
notes = Path({notes!r})

def run(trial):
    with open(notes / trial.trial_id, "a") as file:
        file.write(os.environ[service.NAME] + "\\n")
    times = len((notes / trial.trial_id).read_text().splitlines())
    if trial.trial_id == "3":  # it comes further each time
        (notes / "checkpoints").mkdir(exist_ok=True)
        (notes / "checkpoints" / f"step-{{times}}.npz").touch()
    deaths = {{"1": 9, "2": 1, "3": 4}}.get(trial.trial_id, 0)
    if {deadly} and times <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    if {waits} and trial.trial_id == "0":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        time.sleep(600)
    return float(trial.hyperparameters.values["width"])

work_for_chief(run)
"""


class Trials:
    """Trials whose runs are in one folder, as far as their checkpoints are concerned."""

    isolated = True

    def __init__(self, folder):
        self.folder = folder

    def place(self, trial):
        return self.folder / "notes" if trial.trial_id == "3" else self.folder / "none"


@pytest.fixture
def oracle(tmp_path):
    space = keras_tuner.HyperParameters()
    space.Float("width", 0.1, 1.0)
    made = oracles.RandomSearchOracle(
        keras_tuner.Objective("score", "max"), 5, seed=1, hyperparameters=space, max_consecutive_failed_trials=99
    )
    made._set_project_dir(str(tmp_path), "oracle")
    made.verbose = 0
    return made


def command(tmp_path, waits=False, deadly=True):
    script, notes = tmp_path / "worker.py", tmp_path / "notes"
    notes.mkdir()
    script.write_text(WORKER.format(root=str(ROOT), notes=str(notes), waits=waits, deadly=deadly))
    return [sys.executable, str(script)], notes


@pytest.mark.slow
def test_a_dead_worker_is_started_again_and_a_trial_that_kills_at_one_place_is_given_up(oracle, tmp_path, capfd):
    start, notes = command(tmp_path)
    supervise(oracle, start, 2, Trials(tmp_path))
    assert {name: trial.status for name, trial in oracle.trials.items()} == {
        "0": "COMPLETED",
        "1": "FAILED",
        "2": "COMPLETED",
        "3": "COMPLETED",
        "4": "COMPLETED",
    }
    ran = {path.name: path.read_text().split() for path in notes.glob("?")}
    assert {name: len(names) for name, names in ran.items()} == {"0": 1, "1": 3, "2": 2, "3": 5, "4": 1}
    assert all(len(set(names)) == 1 for names in ran.values())  # under its own name
    told = "3 workers died in it at the same place (the last: killed by SIGKILL)"
    assert told in oracle.trials["1"].message
    assert capfd.readouterr().err.count("died (killed by SIGKILL) in trial") == 8


@pytest.mark.slow
def test_told_to_stop_it_tells_its_workers_and_waits_for_them(oracle, tmp_path, monkeypatch):
    start, notes = command(tmp_path, waits=True)
    begun, real = [], engine.start
    monkeypatch.setattr(engine, "start", lambda *a, **k: begun.append(real(*a, **k)) or begun[-1])

    def stop():
        while not (notes / "0").exists():
            time.sleep(0.1)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Interrupted, match="SIGTERM: all runs are saved; the same command goes on"):
        supervise(oracle, start, 1, Trials(tmp_path))
    assert begun[-1].process.returncode == 75


@pytest.mark.slow
def test_a_worker_from_another_machine_helps_and_is_waited_for(oracle, tmp_path, cluster, monkeypatch):
    monkeypatch.delenv(service.NAME)
    start, notes = command(tmp_path, deadly=False)
    ran = []

    def slow(trial):
        ran.append(trial.trial_id)
        while sum(trial.status == "COMPLETED" for trial in oracle.trials.values()) < 4:
            time.sleep(0.1)
        time.sleep(2)  # the other worker has left by now
        return 0.5

    def remote():
        monkeypatch.setenv(service.NAME, "worker-9")
        with service.connected() as (client, name):
            work(client, name, slow)
        ran.append("left")

    thread = threading.Thread(target=remote)
    thread.start()
    supervise(oracle, start, 1, Trials(tmp_path))
    thread.join(30)
    assert {trial.status for trial in oracle.trials.values()} == {"COMPLETED"} and len(oracle.trials) == 5
    assert len(ran) == 2 and ran[-1] == "left" and len(list(notes.glob("?"))) == 4


@pytest.mark.parametrize("code, says", [
    (3, r"worker-0 died 3 times before its first trial \(exit code 3\): no disk"),
    (2, r"worker-0 cannot go on: no disk"),
])  # fmt: skip
def test_workers_that_cannot_begin_are_given_up(oracle, tmp_path, code, says):
    tells = f"import sys; print('python: error: no disk (`--help`)'); sys.exit({code})"
    with pytest.raises(InputError, match=says):
        supervise(oracle, [sys.executable, "-c", tells], 1, Trials(tmp_path))


@pytest.fixture
def cluster(monkeypatch):
    """The environment of a chief and its workers on this machine."""
    with socket.socket() as free:
        free.bind((service.LOOPBACK, 0))
        port = free.getsockname()[1]
    for name, value in ((service.NAME, "worker-0"), (service.ADDRESS, service.LOOPBACK), (service.PORT, port)):
        monkeypatch.setenv(name, str(value))


def test_workers_of_a_cluster_share_the_chief_s_trials(oracle, cluster):
    """The chief and two workers are threads here, and nothing is trained."""
    ran, lock = [], threading.Lock()

    def run(trial):
        with lock:
            ran.append(trial.trial_id)
        return trial.hyperparameters.values["width"]

    def worker(name):
        with service.connected() as (remote, _):
            work(remote, name, run)

    workers = [threading.Thread(target=worker, args=(f"worker-{i}",)) for i in range(2)]
    for thread in workers:
        thread.start()
    lead(oracle)
    for thread in workers:
        thread.join(30)
    assert sorted(ran) == list("01234")
    scores = {name: trial.score for name, trial in oracle.trials.items()}
    assert scores == {n: pytest.approx(t.hyperparameters.values["width"]) for n, t in oracle.trials.items()}


def test_a_chief_that_cannot_write_its_state_says_so(oracle, cluster):
    def save():
        oracle.failure = InputError("cannot write oracle.json: No space left on device")
        raise oracle.failure

    oracle.save = save
    lost = []

    def worker():
        with pytest.raises(InputError, match="lost the chief") as error:
            work_for_chief(lambda trial: 0.5)
        lost.append(error)

    thread = threading.Thread(target=worker)
    thread.start()
    with pytest.raises(InputError, match=r"cannot write oracle\.json"):
        lead(oracle)
    thread.join(60)
    assert lost


@pytest.mark.parametrize("visible, shares", [
    ("0,1,2", ["0", "1", "2", "0"]), ("", [None] * 4),
])  # fmt: skip
def test_each_worker_has_a_gpu_or_its_share_of_the_cores(monkeypatch, visible, shares):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    found = [engine.share_of_machine(i, 4) for i in range(4)]
    assert [each.get("CUDA_VISIBLE_DEVICES") for each in found] == shares
    assert visible or {each["OMP_NUM_THREADS"] for each in found} == {"2"}
    assert "OMP_NUM_THREADS" not in engine.share_of_machine(0, 1)
