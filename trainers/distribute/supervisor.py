"""Worker processes of one command on one machine: how they are started, watched and stopped together."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

POLL_SECONDS = 0.1
ORPHAN_SECONDS = 20.0  # that a worker has to save and leave once its supervisor is gone; a new one wants its run
MOST_WORKERS = 1024
BAD_INPUT = 2  # a worker's exit code that no restart will change


@dataclass
class Worker:
    """A process that was started. number: its place among the workers; log: the file that its output goes to."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path | None = None
    pumps: list[threading.Thread] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def failed(self) -> bool:
        return self.process.poll() not in (None, 0)

    @property
    def exit_code(self) -> int:
        """The exit code as a shell gives it."""
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    @property
    def ending(self) -> str:
        code = self.process.returncode
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def last_line(self) -> str:
        """The end of its log, without the words that every error of a command begins and ends with."""
        text = self.log.read_text("utf-8", errors="replace") if self.log else ""
        line = (text.strip().splitlines() or ["its log is empty"])[-1]
        return line.partition("error: ")[2].partition(" (`")[0] or line


def start(command: Sequence[str], number: int, environment: Mapping[str, str], log: Path | None = None) -> Worker:
    """Starts a command in a session of its own, so that Ctrl-C in a terminal reaches its supervisor alone.

    With a log, its output is appended to that file, and its standard input ends when this process does (see
    `leave_with_supervisor`). Without one, its output is passed on line by line with its number in front.
    """
    variables = {**os.environ, **environment}
    if log:
        with open(log, "ab", opener=_without_links) as file:
            process = subprocess.Popen(
                command, env=variables, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True
            )
        return Worker(number, process, log)
    process = subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    pumps = [
        threading.Thread(target=_pass_on, args=(source, sink, f"[{number}] "), daemon=True)
        for source, sink in ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
    ]
    for pump in pumps:
        pump.start()
    return Worker(number, process, pumps=pumps)


def stop(workers: Sequence[Worker], grace: float, received: Sequence[int] = ()) -> None:
    """Sends SIGTERM to all, and SIGKILL to those that are left after `grace` seconds, or once another signal comes."""
    signals = len(received)
    for worker in workers:
        if worker.running:
            worker.process.terminate()
    deadline = time.monotonic() + grace
    while any(w.running for w in workers) and time.monotonic() < deadline and len(received) == signals:
        time.sleep(POLL_SECONDS)
    for worker in workers:
        if worker.running:
            print(f"worker {worker.number} does not leave: killed", file=sys.stderr, flush=True)
            worker.process.kill()
        worker.process.wait()
        forget(worker)


def forget(worker: Worker) -> None:
    """Closes what is left of a worker that has ended."""
    if worker.process.stdin:
        worker.process.stdin.close()
    for pump in worker.pumps:
        pump.join(timeout=5)


@contextlib.contextmanager
def all_signals() -> Iterator[list[int]]:
    """Gives a list to which every SIGTERM and SIGINT is added, instead of what they usually do."""
    received: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # Python hands signals to no other
        before = {n: signal.signal(n, lambda n, frame: received.append(n)) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_with_supervisor() -> None:
    """Lets a worker save and leave when its supervisor has ended, however that came about."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def visible_gpus() -> list[str]:
    """The names of this process's GPUs, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and shutil.which("nvidia-smi"):
        listing = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
        visible = ",".join(str(i) for i, line in enumerate(listing.splitlines()) if line.startswith("GPU "))
    return [name for name in (visible or "").split(",") if name.strip()]


def _pass_on(source: IO[bytes], sink: Any, prefix: str) -> None:
    with source:
        for line in source:
            sink.write(prefix + line.decode("utf-8", errors="replace"))
            sink.flush()


def _without_links(path: str, flags: int) -> int:
    """Opens a file for `open`. Raises OSError where it is a symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
