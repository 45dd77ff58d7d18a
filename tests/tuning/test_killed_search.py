"""A search with two workers, killed twice, ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest

from trainers.runs import folders

ROOT = Path(__file__).parents[2]
ARCH = "anynetx-d2x2-w64x512-g512"


def start(folder, *flags):
    command = [sys.executable, "-m", "tuning.search", "--arch", ARCH, "--width-range", "0.0625", "0.25",
               "--depth-range", "0.5", "1", "--resolution-range", "16", "24", "--max-trials", "6", "--run-dir", folder,
               "--max-macs", "2M", "--parallel", "2", "--json", *flags]  # fmt: skip
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True)


def under_way(folder):
    """Runs that have begun and not ended, with a checkpoint and metrics: folder -> the lines that this covers."""
    found = {}
    for run in sorted((folder / "trials").glob("*")):
        paths, metrics = sorted((run / "checkpoints").glob("step-*.npz")), run / folders.METRICS
        if (run / "trial.json").exists() or not paths or not metrics.exists():  # it may save before its first line
            continue
        step = int(paths[-1].stem.removeprefix("step-"))
        lines = metrics.read_text().splitlines()
        found[run.name] = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    return found


def wait_for(what, process, seconds=400):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def workers_of(pid):
    return [p for p in children(pid) if b"tuning.sweep" in Path(f"/proc/{p}/cmdline").read_bytes()]


def children(pid):
    return [int(p) for task in Path(f"/proc/{pid}/task").glob("*") for p in (task / "children").read_text().split()]


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for workers in /proc")
@pytest.mark.timeout(1800)
def test_killed_twice_and_a_worker_once_it_ends_with_each_trial_once(tmp_path):
    folder = tmp_path / "search"
    flags = ("--epochs", "6", "--tuner", "random")
    interrupted = {}

    def ended():
        return len(list((folder / "trials").glob("*/trial.json")))

    def begin():
        """Until it has ended a trial, and has another in hand."""
        before, process = ended(), start(folder, *flags)
        wait_for(lambda: ended() > before and under_way(folder), process)
        workers = workers_of(process.pid)
        assert len(workers) == 2
        return process, workers

    for _ in range(2):
        process, workers = begin()
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 25  # they may save
        while any(map(alive, workers)):
            assert time.monotonic() < deadline, "workers outlive their supervisor"
            time.sleep(0.1)
        interrupted |= under_way(folder)

    process, workers = begin()
    os.kill(workers[0], signal.SIGKILL)  # started again under its name
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert "died (killed by SIGKILL)" in err
    result = json.loads(out.splitlines()[-1])
    assert [row["trial"] for row in result["trials"]] == list("012345")
    assert {row["status"] for row in result["trials"]} == {"completed"}
    assert {row["macs"] <= 2e6 for row in result["trials"]} == {True}
    assert len({(row["width"], row["depth"], row["resolution"]) for row in result["trials"]}) == 6
    assert sorted(p.name for p in (folder / "trials").iterdir()) == list("012345")
    assert interrupted
    for name, lines in interrupted.items():
        assert (folder / "trials" / name / folders.METRICS).read_text().splitlines()[: len(lines)] == lines, name
    for row in result["trials"]:
        assert folders.read_json(Path(row["run_dir"]) / folders.RESULT)["epochs"] == 6
