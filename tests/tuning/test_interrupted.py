"""Ctrl-C before anything has begun, a disk that is full, a folder that is gone."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

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
