"""A sweep's workers: each job once, whatever is killed."""

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

import kcnn
from kcnn.errors import Interrupted
from trainers.config import TrainConfig
from tuning.trials import sweep
from tuning.trials.sweep import Job, append, read_lines, results, work, write_jobs

FIT = importlib.import_module("trainers.training")  # its name in the package is the function's
ROOT = Path(__file__).parents[3]
TINY = TrainConfig(arch="anynetx-d1x1x1x1-w8x8x16x16-g8-b1", resolution=8, epochs=1, batch_size=64, keep=1,
                   warmup_epochs=0.0)  # fmt: skip


def jobs(count, config=TINY):
    return [Job(f"job-{i}", config, {"number": i}) for i in range(count)]


@pytest.fixture
def trained(monkeypatch):
    """Trainings that take no time: the configurations of those that were begun."""
    begun = []

    def fit(config):
        begun.append(config)
        return FIT.Result(Path(config.run_dir), dict.fromkeys(sweep.FIGURES, 0.5))

    monkeypatch.setattr(FIT, "fit", fit)
    return begun


def test_each_job_is_done_once_and_tells_its_figures(tmp_path, trained):
    write_jobs(tmp_path, jobs(3))
    assert sweep.read_jobs(tmp_path) == jobs(3)
    work(tmp_path)
    rows = read_lines(tmp_path / "results.jsonl")
    assert [row["key"] for row in rows] == ["job-0", "job-1", "job-2"]
    assert rows[1] | {"number": 1, "arch": TINY.arch, "run_dir": "runs/job-1", "val_accuracy": 0.5} == rows[1]
    assert [c.run_dir for c in trained] == [str(tmp_path / "runs" / f"job-{i}") for i in range(3)]
    assert {c.resume for c in trained} == {"auto"}
    work(tmp_path)
    assert len(trained) == 3


def test_what_another_holds_is_left_to_it(tmp_path, trained, monkeypatch):
    write_jobs(tmp_path, jobs(2))
    (tmp_path / "runs").mkdir()
    other = filelock.FileLock(tmp_path / "runs" / ".job-0.lock")
    other.acquire()

    def wait(_):
        assert list(results(tmp_path)) == ["job-1"]
        other.release()  # it dies, and job-0 is anybody's again

    monkeypatch.setattr(time, "sleep", wait)
    work(tmp_path)
    assert list(results(tmp_path)) == ["job-1", "job-0"] and len(trained) == 2


def test_a_result_is_added_once_and_a_torn_line_does_not_count(tmp_path):
    write_jobs(tmp_path, jobs(1))
    for _ in range(2):
        append(tmp_path, {"key": "a", "arch": "x", "error": "no memory"})
    with open(tmp_path / "results.jsonl", "a") as file:
        file.write('{"key": "b", "x"')
    assert list(results(tmp_path)) == ["a"]
    append(tmp_path, {"key": "b", "arch": "y", "error": "no memory"})
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["key"], line["arch"]) for line in lines] == [("a", "x"), ("b", "y")]


def test_a_failing_network_is_recorded_and_the_sweep_goes_on(tmp_path, trained, monkeypatch):
    whole = FIT.fit

    def fit(config):
        if config.run_dir.endswith("job-0"):
            raise kcnn.InputError("the loss is nan at step 3")
        return whole(config)

    monkeypatch.setattr(FIT, "fit", fit)
    write_jobs(tmp_path, jobs(2))
    work(tmp_path)
    first, second = read_lines(tmp_path / "results.jsonl")
    assert first["error"] == "InputError: the loss is nan at step 3" and "val_accuracy" not in first
    assert second["val_accuracy"] == 0.5


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Interrupted("SIGTERM: saved"),
                                   RuntimeError("x; No space left on device")])  # fmt: skip
def test_what_is_not_the_network_s_fault_is_not_held_against_it(tmp_path, monkeypatch, error):
    def fit(config):
        raise error

    monkeypatch.setattr(FIT, "fit", fit)
    write_jobs(tmp_path, jobs(1))
    with pytest.raises(type(error)):
        work(tmp_path)
    assert not results(tmp_path)


def test_a_network_whose_process_dies_at_the_same_place_is_given_up(tmp_path, trained):
    run = tmp_path / "runs" / "job-0"
    run.mkdir(parents=True)
    assert [sweep.attempts(run) for _ in range(2)] == [1, 2]
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "step-000000007.npz").touch()
    assert [sweep.attempts(run) for _ in range(3)] == [1, 2, 3]  # it had come further
    write_jobs(tmp_path, jobs(1))
    work(tmp_path)
    assert "died 3 times" in results(tmp_path)["job-0"]["error"] and not trained


def test_another_sweep_s_folder_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "settings.json"
    had = {"band": [1.0, 2.0], "config": {"data": "digits", "run_dir": "a"}}
    sweep.same_settings(path, had)  # there is none yet
    path.write_text(json.dumps(had))
    sweep.same_settings(path, {"band": (1.0, 2.0), "config": {"data": "digits", "run_dir": "b"}})
    with pytest.raises(kcnn.InputError, match=r"holds another sweep: band is \[1.0, 2.0\] there, \[1.0, 3.0\] here"):
        sweep.same_settings(path, had | {"band": [1.0, 3.0]})
    with pytest.raises(kcnn.InputError, match="epochs is 'the default' there, 3 here"):
        sweep.same_settings(path, had | {"config": {"data": "digits", "epochs": 3}})


def test_the_command_trains_a_network_in_full():
    config = TrainConfig(arch="resnet-18", data="my photos", epochs=2, keep=1, run_dir="x", width=0.5, phi=2.0,
                         lr=1.5e-7, flip=False, sync_bn=True)  # fmt: skip
    assert sweep.command(config) == (
        "kcnn train --arch resnet-18 --width 0.5 --phi 2 --data 'my photos' --no-flip --lr 1.5e-07 --sync-bn"
    )


def started(folder, *more):
    return subprocess.Popen([sys.executable, "-m", "tuning.sweep", folder, *more], cwd=ROOT, stdin=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_a_worker_leaves_with_whoever_started_it_and_another_goes_on(tmp_path):
    long = Job("long", TrainConfig(**{**vars(TINY), "epochs": 400}))
    write_jobs(tmp_path, [long])
    worker = started(tmp_path, "--tied")
    checkpoints = tmp_path / "runs" / "long" / "checkpoints"
    wait_for(lambda: len(list(checkpoints.glob("step-*.npz"))))
    worker.stdin.close()  # as when its parent is killed
    assert worker.wait(120) == 75 and "SIGTERM: saved at step" in worker.stderr.read()
    assert not results(tmp_path)
    last = max(checkpoints.glob("step-*.npz"))
    worker = started(tmp_path)
    wait_for(lambda: max(checkpoints.glob("step-*.npz"), default=last) > last)
    lines = read_lines(tmp_path / "runs" / "long" / "metrics.jsonl")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 75
    steps = [line["step"] for line in lines if "val_accuracy" in line]
    assert steps == sorted(set(steps)) and steps[0] < 30  # one history, from its beginning


@pytest.mark.slow
def test_killed_workers_are_replaced_and_no_job_is_lost_or_doubled(tmp_path, monkeypatch):
    write_jobs(tmp_path, jobs(5))
    begun, real = [], sweep.start

    def start(*args):
        begun.append(real(*args))
        return begun[-1]

    monkeypatch.setattr(sweep, "start", start)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    told = []

    def say(row, done, count):
        told.append(row["key"])
        if done in (1, 3):
            begun[-1].kill()

    rows = sweep.run(tmp_path, 2, say)
    assert [row["key"] for row in rows] == [f"job-{i}" for i in range(5)]
    assert sorted(told) == [row["key"] for row in rows] and not any("error" in row for row in rows)
    assert len(begun) >= 4 and len(read_lines(tmp_path / "results.jsonl")) == 5
