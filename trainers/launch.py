"""Start several workers on this machine from one command, and stop or restart them together."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Annotated, Any

from cyclopts import Parameter

from kcnn import cli
from kcnn.errors import InputError, Interrupted

POLL_SECONDS = 0.1
MOST_WORKERS, MOST = 1024, 10**6
BAD_INPUT = 2  # a worker's exit code that no restart will change


class JobFailed(Exception):
    """A worker failed; the code is its exit status, as a shell would give it."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


@dataclass
class Worker:
    number: int
    port: int
    process: subprocess.Popen[str]
    pumps: list[threading.Thread]

    @property
    def failed(self) -> bool:
        return self.process.poll() not in (None, 0)

    @property
    def status(self) -> str:
        code = self.process.returncode
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def launch(
    *command: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="What each worker runs, after `--`: Python's arguments.")
    ],
    workers: Annotated[int, Parameter(help="How many.")] = 2,
    restarts: Annotated[
        int, Parameter(help="How often to start all again, with --resume auto, after one of them failed.")
    ] = 0,
    join: Annotated[float, Parameter(help="Seconds in which all must have started to listen to each other.")] = 180.0,
    grace: Annotated[float, Parameter(help="Seconds between SIGTERM and SIGKILL.")] = 30.0,
) -> dict[str, Any] | None:
    """Start N workers that train as one, each with TF_CONFIG in its environment, on ports of 127.0.0.1.

    python -m trainers.launch --workers 2 -- -m kcnn.train --arch resnet-50 --data photos/
    python -m trainers.launch --workers 4 --restarts 3 -- -m kcnn.train --arch resnet-50 --checkpoint-every 10m

    Their output comes with their numbers in front. When one fails, all are stopped, and started again as often as
    --restarts allows; bad input (exit code 2) ends the job at once. SIGTERM and Ctrl-C go to all: they save and
    leave, the exit code is 75, and the same command with --resume auto goes on; a second Ctrl-C kills them. GPUs
    are shared out evenly. For several machines see docs/distributed.md.
    """
    for name, value, least, most in (("workers", workers, 1, MOST_WORKERS), ("restarts", restarts, 0, MOST),
                                     ("join", join, POLL_SECONDS, MOST), ("grace", grace, 0, MOST)):  # fmt: skip
        if not least <= value <= most:  # NaN is not, either
            raise InputError(f"{name} {str(value)[:40]}: a number from {least} to {most:,} is needed")
    if not command:
        raise InputError("nothing to run: name it after `--`, as in `-- -m kcnn.train --arch resnet-50`")
    arguments = list(command)
    with told_to_stop() as told:
        for left in range(restarts, -1, -1):
            try:
                run_together(arguments, workers, join, grace, told)
                return None
            except JobFailed as failure:
                if failure.code == BAD_INPUT or not left:
                    say(str(failure))
                    sys.exit(failure.code)
                say(f"{failure}; starting all again, {left} of {restarts} restarts left")
                if not any(argument.split("=")[0] == "--resume" for argument in arguments):
                    arguments += ["--resume", "auto"]
    return None


def run_together(command: list[str], count: int, join: float, grace: float, told: list[int]) -> None:
    """Returns when all have succeeded. Raises JobFailed for one that did not, Interrupted when told to stop."""
    with ExitStack() as stack:
        team: list[Worker] = []
        stack.callback(stop, team, grace, told)
        ports = free_ports(count)
        for number in range(count):
            team.append(start(command, number, ports))
        deadline, joined = time.monotonic() + join, False
        while any(worker.process.poll() is None for worker in team):
            if told:
                raise_stopped(team, grace, told)
            for worker in team:
                if worker.failed:
                    code = worker.process.returncode
                    raise JobFailed(code if code > 0 else 128 - code, f"worker {worker.number}: {worker.status}")
            silent = [] if joined else [w.number for w in team if w.process.poll() is None and not listens(w.port)]
            joined = not silent
            if silent and time.monotonic() > deadline:
                raise JobFailed(1, f"worker {silent[0]} has not joined within {join:g} s")
            time.sleep(POLL_SECONDS)
        for worker in team:
            if worker.failed:
                code = worker.process.returncode
                raise JobFailed(code if code > 0 else 128 - code, f"worker {worker.number}: {worker.status}")


def raise_stopped(team: list[Worker], grace: float, told: list[int]) -> None:
    say(f"{signal.Signals(told[0]).name}: the workers are told to save and leave")
    stop(team, grace, told)
    raise Interrupted("all workers have left; go on with the same command and --resume auto")


def start(command: list[str], number: int, ports: list[int]) -> Worker:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    task = {"cluster": cluster, "task": {"type": "worker", "index": number}}
    environment = os.environ | {"TF_CONFIG": json.dumps(task), "PYTHONUNBUFFERED": "1"}
    if gpus := gpu_share(number, len(ports)):
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # a terminal's Ctrl-C comes to us alone, and we pass it on once
    )
    pumps = [
        threading.Thread(target=pump, args=(source, sink, f"[{number}] "), daemon=True)
        for source, sink in ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
    ]
    for thread in pumps:
        thread.start()
    return Worker(number, ports[number], process, pumps)


def pump(source: IO[str], sink: Any, prefix: str) -> None:
    with source:
        for line in source:
            sink.write(prefix + line)
            sink.flush()


def stop(team: list[Worker], grace: float, told: list[int]) -> None:
    """SIGTERM to all, SIGKILL to those that are left after the grace, or at once when told to stop again."""
    signals = len(told)
    for worker in team:
        if worker.process.poll() is None:
            worker.process.terminate()
    deadline = time.monotonic() + grace
    while any(w.process.poll() is None for w in team) and time.monotonic() < deadline and len(told) == signals:
        time.sleep(POLL_SECONDS)
    for worker in team:
        if worker.process.poll() is None:
            say(f"worker {worker.number} does not leave: killed")
            worker.process.kill()
        worker.process.wait()
        for thread in worker.pumps:
            thread.join(timeout=5)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def gpu_share(number: int, count: int) -> str:
    """The GPUs of one of `count` workers, as CUDA_VISIBLE_DEVICES has them; nothing where there are fewer."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and shutil.which("nvidia-smi"):
        listing = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
        visible = ",".join(str(i) for i, line in enumerate(listing.splitlines()) if line.startswith("GPU "))
    gpus = [name for name in (visible or "").split(",") if name.strip()]
    each = len(gpus) // count
    return ",".join(gpus[number * each : (number + 1) * each])


@contextmanager
def told_to_stop() -> Iterator[list[int]]:
    """The SIGTERMs and SIGINTs received so far."""
    told: list[int] = []
    before = {n: signal.signal(n, lambda number, _: told.append(number)) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(line: str) -> None:
    print(f"launch: {line}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> None:
    cli.run(launch, "python -m trainers.launch", argv)


if __name__ == "__main__":
    main()
