"""The launcher: on small scripts in the place of workers, and on workers that train."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kcnn.terminal import cli
from trainers import launch
from trainers.runs import checkpoints

ROOT = Path(__file__).parents[2]


@pytest.fixture
def outcome(capsys, monkeypatch):
    """outcome(arguments...) -> exit code, output, errors, of the launcher in this process."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))

    def run(*arguments):
        try:
            code = cli.main(["launch", *map(str, arguments)])
        except SystemExit as end:  # with the code of a worker
            code = end.code
        return code, *capsys.readouterr()

    return run


def script(tmp_path, text):
    path = tmp_path / "worker.py"
    path.write_text(
        "import json, os, signal, socket, sys, time\n"
        "task = json.loads(os.environ['TF_CONFIG'])\nnumber = task['task']['index']\n" + text
    )
    return path


def test_each_worker_gets_its_task_and_its_output_its_number(tmp_path, outcome):
    code, out, _ = outcome("--workers", 3, "--", script(tmp_path, "print(json.dumps(task))"))
    assert code == 0
    tasks = {line[:3]: json.loads(line[4:]) for line in out.splitlines()}
    assert sorted(tasks) == ["[0]", "[1]", "[2]"]
    cluster = tasks["[0]"]["cluster"]
    assert len(set(cluster["worker"])) == 3 and all(x.startswith("127.0.0.1:") for x in cluster["worker"])
    for i in range(3):
        assert tasks[f"[{i}]"] == {"cluster": cluster, "task": {"type": "worker", "index": i}}


@pytest.mark.slow
def test_when_one_fails_all_are_stopped(tmp_path, outcome):
    """Those that do not hear SIGTERM too."""
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(3 if number == 1 else 999)\nsys.exit(7)"
    code, _, err = outcome("--workers", 2, "--grace", 1, "--", script(tmp_path, deaf))
    assert code == 7
    assert "worker 0 does not leave: killed" in err and "worker 1: exit code 7" in err


def test_all_are_started_again_to_go_on(tmp_path, outcome):
    flaky = (
        "print(sys.argv[1:])\nsys.stdout.flush()\n"
        "if number == 1 and '--resume' not in sys.argv: os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(0.5)"
    )
    code, out, err = outcome("--workers", 2, "--restarts", 1, "--grace", 1, "--", script(tmp_path, flaky), "--lr", 1)
    assert code == 0
    assert "worker 1: killed by SIGKILL; starting all again, 1 of 1 restarts left" in err
    assert "[0] ['--lr', '1', '--resume', 'auto']" in out


def test_restarts_come_to_an_end(tmp_path, outcome):
    code, out, err = outcome("--workers", 1, "--restarts", 2, "--", script(tmp_path, "print('on'); sys.exit(3)"))
    assert code == 3 and out.count("on") == 3 and err.count("starting all again") == 2


def test_bad_input_is_not_tried_again(tmp_path, outcome):
    code, out, _ = outcome("--workers", 1, "--restarts", 2, "--", script(tmp_path, "print('on'); sys.exit(2)"))
    assert code == 2 and out.count("on") == 1


def test_one_that_does_not_join_ends_the_job(tmp_path, outcome):
    listens = (
        "host, port = task['cluster']['worker'][0].split(':')\n"
        "if number == 0: server = socket.create_server((host, int(port)))\ntime.sleep(999)"
    )
    code, _, err = outcome("--workers", 2, "--join", 2, "--grace", 1, "--", script(tmp_path, listens))
    assert code == 1 and "worker 1 has not joined within 2 s" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_goes_to_all_and_is_told_by_the_exit_code(tmp_path, outcome, number):
    ready = [tmp_path / f"ready-{i}" for i in range(2)]
    saves = (
        "def save(*_): print('saved', flush=True); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        f"open({str(tmp_path / 'ready-')!r} + str(number), 'w').close()\ntime.sleep(999)"
    )

    def tell():
        while not all(path.exists() for path in ready):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=tell, daemon=True).start()
    code, out, err = outcome("--workers", 2, "--", script(tmp_path, saves))
    assert code == 75 and out.count("saved") == 2
    assert "go on with the same command and --resume auto" in err


@pytest.mark.parametrize("arguments, says", [
    (["--workers", "0", "--", "-m", "x"], "workers 0"),
    (["--workers", "2"], "nothing to run"),
    (["--workers", "two", "--", "-m", "x"], "two"),
    (["--restarts", "-1", "--", "-m", "x"], "restarts -1"),
    (["--workers", "9" * 400, "--", "-m", "x"], "workers 99"),
    (["--join", "nan", "--", "-m", "x"], "join nan"),
    (["--join", "inf", "--", "-m", "x"], "join inf"),
    (["--grace", "nan", "--", "-m", "x"], "grace nan"),
    (["--restarts", "9" * 400, "--", "-m", "x"], "restarts 99"),
])  # fmt: skip
def test_bad_input_is_one_line(arguments, says, outcome):
    code, _, err = outcome(*arguments)
    assert code == 2 and len(err.strip().splitlines()) == 1 and says in err


@pytest.mark.parametrize("visible, shares", [("0,1,2,3", ["0,1", "2,3"]), ("5", ["", ""]), ("", ["", ""])])
def test_gpus_are_shared_out(monkeypatch, visible, shares):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [launch.gpu_share(i, 2) for i in range(2)] == shares


WORKER = """
import importlib, json, os, sys
import numpy as np
from pathlib import Path
import trainers
kept, module = [], importlib.import_module("trainers.training")
make = module.make
module.make = lambda *given: kept.append(make(*given)) or kept[-1]
result = trainers.fit(trainers.TrainConfig(**json.loads(Path(sys.argv[1]).read_text())))
number = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
weights = {v.path: v.numpy() for v in kept[0].model.weights}
np.savez(Path(sys.argv[1]).with_name(f"weights-{number}.npz"), **weights)
print("chief" if result.chief else "worker", result.figures["val_accuracy"])
"""


@pytest.mark.slow
def test_two_workers_end_alike_and_like_one(tmp_path, tiny, capsys, outcome):
    """Bitwise alike, and as two replicas in one process; as one replica up to the rounding of other sums."""
    flags = {"arch": tiny["arch"], "width": 0.25, "resolution": 16, "epochs": 2, "batch_size": 512,
             "optimizer": "sgd", "lr": 1e-4, "sync_bn": True, "deterministic": True, "drop": 0.0,
             "drop_path": 0.0}  # fmt: skip
    saved = {}
    for name, workers, more in (
        ("two", 2, {}),
        ("mirrored", 1, {"strategy": "mirrored", "replicas": 2}),
        ("one", 1, {}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "worker.py").write_text(WORKER)
        (folder / "flags.json").write_text(json.dumps(flags | more | {"run_dir": str(folder / "run")}))
        code, out, err = outcome("--workers", workers, "--", folder / "worker.py", folder / "flags.json")
        assert code == 0, err[-2000:]
        assert out.count("chief") == 1
        saved[name] = [dict(np.load(folder / f"weights-{i}.npz")) for i in range(workers)]
    first, second = saved["two"]
    (replicas,), (one,) = saved["mirrored"], saved["one"]
    for key in one:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
        np.testing.assert_array_equal(first[key], replicas[key], err_msg=key)
    far = {key: np.abs(first[key] - one[key]).max() for key in one}
    with capsys.disabled():
        print(f"\ntwo workers against one process: {max(far.values()):.1e} at most", end=" ")
    assert max(far.values()) < 1e-5


@pytest.mark.slow
def test_a_worker_that_vanishes_stops_the_others_in_time(tmp_path, tiny):
    """Without the launcher, which would stop them sooner."""
    ports = launch.free_ports(2)
    flags = {"arch": tiny["arch"], "width": 0.25, "resolution": 32, "epochs": 99, "run_dir": str(tmp_path / "run")}
    workers = []
    for i in range(2):
        task = {"cluster": {"worker": [f"127.0.0.1:{p}" for p in ports]}, "task": {"type": "worker", "index": i}}
        command = [sys.executable, "-m", "kcnn.train", "--checkpoint-every", "3"]
        command += [f"--{k.replace('_', '-')}={v}" for k, v in flags.items()]
        workers.append(
            subprocess.Popen(
                command,
                env=os.environ | {"TF_CONFIG": json.dumps(task)},
                cwd=ROOT,
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
        )
    try:
        deadline = time.monotonic() + 240
        while not checkpoints.found(tmp_path / "run" / "checkpoints"):
            assert time.monotonic() < deadline and all(w.poll() is None for w in workers)
            time.sleep(0.2)
        workers[1].send_signal(signal.SIGSTOP)  # it does not even close its connections
        _, err = workers[0].communicate(timeout=60)
    finally:
        for w in workers:
            w.kill()
    assert workers[0].returncode == 75
    assert "another worker has vanished" in err and f"--resume {tmp_path / 'run'}" in err
    assert not [line for line in err.splitlines() if "Traceback" in line]
