"""Worker processes of one command on one machine: each has its share of it, and none outlives the command."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

LEAVE_SECONDS = 60.0  # that workers have to save and leave
ORPHAN_SECONDS = 20.0  # the same, where nobody waits for them any more: whoever starts anew wants their runs

MOST_WORKERS = 1024  # on one machine

Process = subprocess.Popen[bytes]


def start(command: Sequence[str], log: Path, index: int, count: int, **environment: str) -> Process:
    """Runs `command` as number `index` of `count` workers: with a GPU of its own, or its share of the cores.

    Its output is appended to `log`. It is to call `die_with_parent`.
    """
    from trainers.distribute.strategy import visible_gpus

    # What can be imported here can be imported there, and in the same order.
    environment = os.environ | environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if count > 1:
        if gpus := len(visible_gpus()):
            listed = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
            environment["CUDA_VISIBLE_DEVICES"] = listed[index % gpus] if listed else str(index % gpus)
            environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        else:
            threads = str(max(1, (os.cpu_count() or 1) // count))
            environment = {"TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads} | environment
    with open(log, "ab", opener=no_link) as file:
        # A session of its own: Ctrl-C reaches this process alone, which then tells the workers.
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=file, stderr=file,
                                start_new_session=True)  # fmt: skip


def no_link(path: str, flags: int) -> int:
    """An opener that raises OSError for a symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def stop(processes: Sequence[Process]) -> None:
    """Lets workers save and leave; those that do not are killed."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + LEAVE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()


def last_line(log: Path) -> str:
    """The end of a worker's log, without what all our errors begin and end with."""
    lines = log.read_text("utf-8", errors="replace").strip().splitlines() or ["it is empty"]
    return lines[-1].partition("error: ")[2].partition(" (`")[0] or lines[-1]


def die_with_parent() -> None:
    """To be called by a worker: its standard input ends when whoever started it does; it may then save, and leaves."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
