"""Worker processes of one command: their output, their endings, and how they are stopped."""

import signal
import sys
import time

import pytest

from trainers.distribute.supervisor import forget, start, stop

IGNORES = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
LEAVES = """
import signal, sys, time
from trainers.distribute.supervisor import leave_with_supervisor
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
leave_with_supervisor()
print("up", flush=True)
time.sleep(600)
"""


def python(code, log, number=0, **environment):
    return start([sys.executable, "-c", code], number, environment, log)


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("code, ending, line", [
    ("import sys; sys.exit(3)", "exit code 3", "its log is empty"),
    ("import os; print('last words', flush=True); os.kill(os.getpid(), 9)", "killed by SIGKILL", "last words"),
    ("import sys; print('x: error: no disk (`x --help` tells more)'); sys.exit(2)", "exit code 2", "no disk"),
])  # fmt: skip
def test_a_worker_s_ending_and_last_line_are_told(tmp_path, code, ending, line):
    worker = python(code, tmp_path / "log")
    worker.process.wait(60)
    forget(worker)
    assert worker.failed and not worker.running and worker.ending == ending and worker.last_line() == line
    assert worker.exit_code == {"3": 3, "L": 137, "2": 2}[ending[-1]]


def test_it_has_its_environment_and_adds_to_its_log(tmp_path):
    for value in "ab":
        worker = python("import os; print(os.environ['WHO'])", tmp_path / "log", WHO=value)
        worker.process.wait(60)
        forget(worker)
    assert (tmp_path / "log").read_text() == "a\nb\n"


class Growing(list):
    """The signals that were received, of which another one comes whenever it is looked at."""

    def __len__(self):
        self.append(signal.SIGINT)
        return super().__len__()


@pytest.mark.parametrize("grace, received", [(0.2, []), (600, Growing())], ids=["in time", "at the next signal"])
def test_one_that_does_not_leave_is_killed(tmp_path, capsys, grace, received):
    worker = python(IGNORES, tmp_path / "log", number=7)
    wait_for(lambda: (tmp_path / "log").read_text())
    stop([worker], grace, received)
    assert worker.ending == "killed by SIGKILL" and "worker 7 does not leave: killed" in capsys.readouterr().err


def test_it_leaves_when_its_supervisor_has_gone(tmp_path):
    worker = python(LEAVES, tmp_path / "log")
    wait_for(lambda: (tmp_path / "log").read_text())
    worker.process.stdin.close()  # as when the supervisor is killed
    assert worker.process.wait(60) == 75


def test_ctrl_c_reaches_the_supervisor_alone(tmp_path):
    worker = python("import os; print(os.getsid(0) == os.getpid())", tmp_path / "log")
    worker.process.wait(60)
    forget(worker)
    assert (tmp_path / "log").read_text() == "True\n"
