"""Thousands of damaged and hostile pictures are answered rightly or refused, in bounded time and memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def worker(*words):
    """What the process of the fuzzer prints; it must come to its end."""
    here = Path(__file__)
    command = [sys.executable, str(here.with_name("picture_worker.py")), *map(str, words)]
    path = os.pathsep.join([str(here.parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr.strip()[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def test_thousands_of_mutations(tmp_path):
    """All formats, all ways to decode, and the pixels compared with Pillow's where both read them."""
    told = worker("mutations", 11, 5200, tmp_path / "picture")
    assert told["answered"] > 500 and told["compared"] > 250, told


@pytest.mark.parametrize("bomb", [
    "jpeg progressive", "jpeg cmyk progressive", "png rgba", "png interlaced", "gif", "webp", "webp animated",
])  # fmt: skip
def test_the_largest_pictures_that_are_allowed(bomb, tmp_path):
    worker("make", bomb, tmp_path / "picture")
    worker("bomb", tmp_path / "picture")
