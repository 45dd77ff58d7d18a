"""The suite from end to end, on the smallest setting that compares anything."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_suite_compares_training_with_keras() -> None:
    flags = "--what train --against keras --networks mobilenet-v2 --rounds 1 --steps 1 --batch-size 2 --resolution 32"
    command = [sys.executable, "-m", "benchmarks.run", *flags.split(), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    found = json.loads(done.stdout.splitlines()[-1])["topics"]["train"]
    assert [row["side"] for row in found["rows"]] == ["kcnn", "keras", "matrix product", "copy"], found["failed"]
    assert all(row[figure]["median"] > 0 for row in found["rows"] for figure in ("wall", "cpu", "peak"))
    assert found["rows"][1]["ratio"]["wall"]["median"] > 0
