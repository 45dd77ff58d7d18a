"""A sweep: each job of its list is trained once, whatever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kcnn
from trainers.config import TrainConfig
from trainers.distribute.supervisor import BAD_INPUT
from trainers.runs.folders import read_metrics
from trainers.training import Result
from tuning.trials import engine, service, sweep
from tuning.trials.settings import not_given, train_command
from tuning.trials.sweep import FIGURES, Job, read_jobs, read_lines, train_all, write_jobs

ROOT = Path(__file__).parents[3]
TINY = TrainConfig(arch="anynetx-d1x1-w8x16-g8-b1", resolution=8, epochs=1, batch_size=64, keep=1, warmup_epochs=0.0)


def jobs(count, config=TINY):
    return [Job(f"job-{i}", config, {"number": i}) for i in range(count)]


@pytest.fixture
def trained(monkeypatch):
    """Trainings that take no time, in this process: the configurations of those that were begun."""
    begun = []

    def fit(config, callbacks):
        begun.append(config)
        Path(config.run_dir).mkdir(exist_ok=True)
        Path(config.run_dir, "classes.json").write_text(json.dumps(list("0123456789")))
        return Result(Path(config.run_dir), dict.fromkeys(FIGURES, 0.5))

    monkeypatch.setattr("trainers.fit", fit)
    monkeypatch.setattr(sweep, "carry_out", lambda trials, oracle, _: engine.work_alone(trials, oracle))
    return begun


def test_each_job_is_done_once_and_tells_its_figures(tmp_path, trained, capsys):
    write_jobs(tmp_path, jobs(3))
    assert read_jobs(tmp_path) == jobs(3)
    rows = train_all(tmp_path, jobs(3), 1)
    assert rows == read_lines(tmp_path / "results.jsonl")
    assert [row["key"] for row in rows] == ["job-0", "job-1", "job-2"]
    figures = dict.fromkeys(FIGURES, 0.5)
    assert rows[1] == {
        "key": "job-1",
        "number": 1,
        "arch": TINY.arch,
        "run_dir": "runs/job-1",
        **figures,
        "latency_ms": 0.08,
    }
    assert [c.run_dir for c in trained] == [str(tmp_path / "runs" / f"job-{i}") for i in range(3)]
    assert {c.resume for c in trained} == {"auto"}
    assert "3/3" in (err := capsys.readouterr().err) and "accuracy 50.00%" in err and "measuring" in err
    assert train_all(tmp_path, jobs(3), 1) == rows and len(trained) == 3
    assert "measuring" not in capsys.readouterr().err  # the file of results has it
    more = train_all(tmp_path, jobs(4), 1)
    assert more[:3] == rows and len(trained) == 4


def test_a_sweep_of_an_earlier_version_keeps_its_results(tmp_path, trained):
    """It had results and runs, but no oracle."""
    done = {"key": "job-0", "arch": "x", "run_dir": "runs/job-0", **dict.fromkeys(FIGURES, 0.25), "latency_ms": 3.0}
    failed = {"key": "job-1", "arch": "x", "run_dir": "runs/job-1", "error": "it broke"}
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (done, failed)))
    for _ in range(2):
        rows = train_all(tmp_path, jobs(3), 1)
        assert rows[:2] == [done, failed] and rows == read_lines(tmp_path / "results.jsonl")
        assert [Path(c.run_dir).name for c in trained] == ["job-2"]


def test_damaged_results_of_an_earlier_version_are_named_and_nothing_is_trained(tmp_path, trained):
    (tmp_path / "results.jsonl").write_text('{"key": "job-0", "arch": "x", "val_accuracy": "high"}\n')
    with pytest.raises(kcnn.InputError, match=r"results\.jsonl, line 1"):
        train_all(tmp_path, jobs(1), 1)
    assert not trained and [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


def test_a_lost_record_is_made_again_and_a_damaged_file_of_results_too(tmp_path, trained):
    rows = train_all(tmp_path, jobs(2), 1)
    (tmp_path / "runs" / "job-0" / "trial.json").write_text("{")
    (tmp_path / "results.jsonl").write_text("{]\n")
    assert train_all(tmp_path, jobs(2), 1) == rows
    assert [Path(c.run_dir).name for c in trained] == ["job-0", "job-1", "job-0"]


def test_a_failing_network_is_recorded_and_the_sweep_goes_on(tmp_path, trained, monkeypatch):
    import trainers

    whole = trainers.fit

    def fit(config, callbacks):
        if config.run_dir.endswith("job-0"):
            raise kcnn.InputError("the loss is nan at step 3")
        return whole(config, callbacks=callbacks)

    monkeypatch.setattr("trainers.fit", fit)
    first, second = train_all(tmp_path, jobs(2), 1)
    assert first["error"] == "the loss is nan at step 3" and "val_accuracy" not in first
    assert second["val_accuracy"] == 0.5


def test_the_command_trains_a_network_in_full():
    config = TrainConfig(
        arch="resnet-18",
        data="my photos",
        epochs=2,
        keep=1,
        run_dir="x",
        width=0.5,
        phi=2.0,
        lr=1.5e-7,
        flip=False,
        sync_bn=True,
        step_epochs=[3.0, 4.5],
    )
    full = sweep.changed_flags(not_given(config, "epochs", "run_dir", "keep"))
    assert train_command(full) == (
        "kcnn train --arch resnet-18 --width 0.5 --phi 2 --data 'my photos' --no-flip --lr 1.5e-07 --step-epochs 3 4.5 "
        "--sync-bn"
    )


def started(folder, name, port):
    """Someone's worker for a chief, or the chief of a sweep of `name` jobs of 400 epochs, where that is a number."""
    environment = {service.NAME: "worker-0", service.ADDRESS: service.LOOPBACK, service.PORT: str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", "tuning.sweep", folder],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def test_a_worker_without_a_chief_s_address_says_so(tmp_path, monkeypatch, capsys):
    from tuning.sweep import main

    monkeypatch.delenv(service.NAME, raising=False)
    for folder, says in ((tmp_path, "in the environment must name this worker and its chief"),):
        with pytest.raises(SystemExit) as left:
            main([str(folder)])
        assert left.value.code == BAD_INPUT and says in capsys.readouterr().err
    monkeypatch.setenv(service.NAME, "worker-0")
    monkeypatch.setenv(service.ADDRESS, service.LOOPBACK)
    monkeypatch.setenv(service.PORT, "1")
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path)])
    assert left.value.code == BAD_INPUT and "holds neither search.yaml nor jobs.jsonl" in capsys.readouterr().err


LEADER = """
import sys
from pathlib import Path
from tuning.trials import sweep
folder = Path(sys.argv[1])
sweep.train_all(folder, sweep.read_jobs(folder), int(sys.argv[2]))
"""


def leader(folder, parallel=1, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", LEADER, folder, str(parallel)],
        cwd=ROOT,
        text=True,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
    )


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_workers_leave_with_whoever_leads_them_and_another_leader_goes_on(tmp_path):
    write_jobs(tmp_path, [Job("long", TrainConfig(**{**vars(TINY), "epochs": 400}))])
    checkpoints, log = tmp_path / "runs/long/checkpoints", tmp_path / "workers/worker-0.log"
    process = leader(tmp_path)
    wait_for(lambda: list(checkpoints.glob("step-*.npz")), process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while "SIGTERM: saved at step" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    last = max(checkpoints.glob("step-*.npz"))
    process = leader(tmp_path)
    wait_for(lambda: max(checkpoints.glob("step-*.npz"), default=last) > last, process)
    lines = list(read_metrics(tmp_path / "runs/long"))
    process.send_signal(signal.SIGINT)
    assert "Interrupted: SIGINT: all runs are saved" in process.communicate(timeout=120)[1]
    steps = [line["step"] for line in lines if "val_accuracy" in line]
    assert steps == sorted(set(steps)) and steps[0] < 30  # one history, from its beginning


@pytest.mark.slow
def test_killed_workers_are_replaced_and_no_job_is_lost_or_doubled(tmp_path, monkeypatch):
    begun, real = [], engine.start

    def start(*args):
        begun.append(real(*args))
        return begun[-1]

    monkeypatch.setattr(engine, "start", start)
    result_line = sweep.result_line

    def deadly(row):
        if row["number"] in (0, 2):
            begun[-1].process.kill()
        return result_line(row)

    monkeypatch.setattr(sweep, "result_line", deadly)
    write_jobs(tmp_path, jobs(5))
    rows = train_all(tmp_path, jobs(5), 2)
    assert [row["key"] for row in rows] == [f"job-{i}" for i in range(5)]
    assert not any("error" in row for row in rows)
    assert len(begun) >= 4 and len(read_lines(tmp_path / "results.jsonl")) == 5


@pytest.mark.slow
def test_a_chief_and_a_worker_from_another_machine_share_a_sweep(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind((service.LOOPBACK, 0))
        port = free.getsockname()[1]
    write_jobs(tmp_path, jobs(2))
    chief = leader(tmp_path, **{service.NAME: "chief", service.ADDRESS: service.LOOPBACK, service.PORT: str(port)})
    worker = started(tmp_path, "worker-0", port)
    assert worker.wait(300) == 0, worker.stderr.read()
    assert chief.wait(120) == 0, chief.stderr.read()
    assert [row["number"] for row in read_lines(tmp_path / "results.jsonl")] == [0, 1]
