"""Runs killed again and again, at drawn moments, inside a checkpoint too, end bitwise as those left alone."""

import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from trainers import Result
from trainers.runs import folders

EPOCHS, PER_EPOCH, BATCH = 8, 22, 64
# A chief writes: what is killed inside a checkpoint is worker 0.
CHIEF = ("write", "rename", "link", "prune")


def drawn_kills(seed, count, workers):
    draws = random.Random(seed)
    kinds = itertools.cycle(["time", "write", "step", "rename", "validation", "prune", "step", "link"])
    kills = []
    for kind in itertools.islice(kinds, count):
        number = draws.uniform(0.0, 0.4) if kind == "time" else draws.randint(1, 3)
        number = 1 if kind == "validation" else number
        kills.append([0 if kind in CHIEF else draws.randrange(workers), kind, number])
    return kills


def run(folder, workers, kills, **flags):
    """Starts the job until it ends. Returns its result, and for each worker the lines of its log."""
    folder.mkdir()
    flags = flags | {"run_dir": str(folder / "run"), "resume": "auto", "epochs": EPOCHS}
    spec = {"flags": flags, "log": str(folder), "kills": kills}
    (folder / "spec.json").write_text(json.dumps(spec))
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "trainers.launch", "--workers", str(workers), "--restarts", str(len(kills) + 2),
               "--", str(Path(__file__).with_name("crashing.py")), str(folder / "spec.json")]  # fmt: skip
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-3000:]
    logs = [[json.loads(line) for line in (folder / f"{w}.jsonl").read_text().splitlines()] for w in range(workers)]
    result = Result(folder / "run", folders.read_json(folder / "run" / folders.RESULT))
    return result, logs, done.stderr.count("killed by SIGKILL;")


def examples(log):
    """The examples of each step that came into the final weights, by step: a worker's share of them."""
    attempts = []
    for line in log:
        if "attempt" in line:
            attempts.append({"start": None, "batches": [], "done": 0})
        elif "start" in line:
            attempts[-1] |= {"start": line["start"], "batches": []}
        elif "batch" in line:
            attempts[-1]["batches"].append(line["batch"])
        else:
            attempts[-1]["done"] = line["done"]
    steps = {}
    for attempt in attempts:  # a later one takes back what an earlier one did after its last checkpoint
        if attempt["start"] is None:  # killed before it trained
            continue
        steps = {step: batch for step, batch in steps.items() if step < attempt["start"]}
        for step in range(attempt["start"], attempt["done"]):
            steps[step] = attempt["batches"][step - attempt["start"]]
    return steps


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("workers, replicas, kills", [
    pytest.param(1, None, 10, id="one worker", marks=pytest.mark.slow),
    pytest.param(2, None, 5, id="two workers", marks=pytest.mark.slow),
    pytest.param(1, 2, 3, id="two replicas", marks=pytest.mark.slow),
    pytest.param(1, None, 20, id="one worker, 20 kills", marks=pytest.mark.exhaustive),
    pytest.param(2, None, 10, id="two workers, 10 kills", marks=pytest.mark.exhaustive),
])  # fmt: skip
def test_killed_again_and_again_a_run_ends_the_same(tmp_path, tiny, same_run, capsys, workers, replicas, kills):
    flags = tiny | {
        "drop": 0.2,
        "drop_path": 0.1,
        "ema": 0.9,
        "deterministic": True,
        "checkpoint_every": 4,
        "sync_bn": (replicas or workers) > 1,
        "replicas": replicas,
    }
    whole, *_ = run(tmp_path / "whole", workers, [], **flags)
    result, logs, killed = run(tmp_path / "killed", workers, drawn_kills(0, kills, workers), **flags)
    same_run(result, whole)

    seen = {}
    for log in logs:
        for step, batch in examples(log).items():
            seen.setdefault(step, []).extend(batch)
    assert sorted(seen) == list(range(EPOCHS * PER_EPOCH))
    repeated = skipped = 0
    for epoch in range(EPOCHS):
        counts = Counter(i for step in range(epoch * PER_EPOCH, (epoch + 1) * PER_EPOCH) for i in seen[step])
        repeated += sum(n - 1 for n in counts.values())
        skipped += PER_EPOCH * BATCH - len(counts)
    resumes = sum("attempt" in line for line in logs[0]) - 1
    with capsys.disabled():
        print(
            f"\n{workers} workers, {replicas or 1} replicas each: {killed} kills, {resumes} resumes, "
            f"samples repeated: {repeated}, samples skipped: {skipped}; bitwise equal",
            end=" ",
        )
    assert (killed, resumes, repeated, skipped) == (kills, kills, 0, 0)
