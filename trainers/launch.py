"""Start several workers on this machine from one command, and stop or restart them together."""

import json
import signal
import socket
import sys
import time
from contextlib import ExitStack
from typing import Annotated, Any

from cyclopts import Parameter

from kcnn.errors import InputError, Interrupted
from kcnn.terminal import cli
from trainers.distribute.supervisor import (
    BAD_INPUT,
    MOST_WORKERS,
    POLL_SECONDS,
    Worker,
    all_signals,
    start,
    stop,
    visible_gpus,
)

MOST = 10**6  # seconds and restarts


class WorkerFailed(Exception):
    """A worker failed; the code is its exit status, as a shell would give it."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


def launch(
    *command: Annotated[
        str,
        Parameter(allow_leading_hyphen=True, help="Each worker runs Python with these arguments, which follow `--`."),
    ],
    workers: Annotated[int, Parameter(help="Start this many workers.")] = 2,
    restarts: Annotated[
        int, Parameter(help="Start all workers again at most this often, with --resume auto, after one failed.")
    ] = 0,
    join: Annotated[float, Parameter(help="All workers must listen to each other within this many seconds.")] = 180.0,
    grace: Annotated[float, Parameter(help="A worker may take this many seconds to leave after SIGTERM.")] = 30.0,
) -> dict[str, Any] | None:
    """Start several workers on this machine that train one network together.

    kcnn launch --workers 2 -- -m kcnn.train --arch resnet-50 --data photos/
    kcnn launch --workers 4 --restarts 3 -- -m kcnn.train --checkpoint-every 10m

    Each worker gets TF_CONFIG in its environment, a port of 127.0.0.1 and an
    equal share of the GPUs, and its output is printed with its number in front.
    When one fails, all are stopped, and started again as often as --restarts
    allows; bad input (exit code 2) ends the job at once. SIGTERM and Ctrl-C go
    to all workers: they save and leave, the exit code is 75, and the same
    command with --resume auto goes on. A second Ctrl-C kills them. For several
    machines see docs/distributed.md.
    """
    bounds: dict[str, tuple[float, float, float]] = {
        "workers": (workers, 1, MOST_WORKERS),
        "restarts": (restarts, 0, MOST),
        "join": (join, POLL_SECONDS, MOST),
        "grace": (grace, 0, MOST),
    }
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:  # NaN is not, either
            raise InputError(f"{name} {str(value)[:40]}: a number from {least} to {most:,} is needed")
    if not command:
        raise InputError("nothing to run: name it after `--`, as in `-- -m kcnn.train --arch resnet-50`")
    arguments = list(command)
    with all_signals() as received:
        for left in range(restarts, -1, -1):
            try:
                run_together(arguments, workers, join, grace, received)
                return None
            except WorkerFailed as failure:
                if failure.code == BAD_INPUT or not left:
                    say(str(failure))
                    sys.exit(failure.code)
                say(f"{failure}; starting all again, {left} of {restarts} restarts left")
                if not any(argument.split("=")[0] == "--resume" for argument in arguments):
                    arguments += ["--resume", "auto"]
    return None


def run_together(command: list[str], count: int, join: float, grace: float, received: list[int]) -> None:
    """Returns when all have succeeded. Raises WorkerFailed when one has not, Interrupted once a signal was received."""
    with ExitStack() as stack:
        team: list[Worker] = []
        stack.callback(stop, team, grace, received)
        ports = free_ports(count)
        for number in range(count):
            team.append(start([sys.executable, *command], number, environment(number, ports)))
        deadline, joined = time.monotonic() + join, False
        while any(worker.running for worker in team):
            if received:
                say(f"{signal.Signals(received[0]).name}: the workers are told to save and leave")
                stop(team, grace, received)
                raise Interrupted("all workers have left; go on with the same command and --resume auto")
            raise_failed(team)
            silent = [] if joined else [w.number for w in team if w.running and not listens(ports[w.number])]
            joined = not silent
            if silent and time.monotonic() > deadline:
                raise WorkerFailed(1, f"worker {silent[0]} has not joined within {join:g} s")
            time.sleep(POLL_SECONDS)
        raise_failed(team)


def raise_failed(team: list[Worker]) -> None:
    for worker in team:
        if worker.failed:
            raise WorkerFailed(worker.exit_code, f"worker {worker.number}: {worker.ending}")


def environment(number: int, ports: list[int]) -> dict[str, str]:
    """What tells a worker who it is, where the others are, and which GPUs are its own."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    task = {"cluster": cluster, "task": {"type": "worker", "index": number}}
    found = {"TF_CONFIG": json.dumps(task), "PYTHONUNBUFFERED": "1"}
    share = gpu_share(number, len(ports))
    return found | ({"CUDA_VISIBLE_DEVICES": share} if share else {})


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
    gpus = visible_gpus()
    each = len(gpus) // count
    return ",".join(gpus[number * each : (number + 1) * each])


def say(line: str) -> None:
    print(f"launch: {line}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> None:
    cli.command("launch", argv)


if __name__ == "__main__":
    main()
