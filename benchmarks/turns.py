"""Processes that take turns, A B A B, so that a machine whose speed drifts is the same for all of them.

A side is a process that has made ready and waits: for each number on its standard input it does so many steps and
answers with what they took. Only one side works at a time.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

Turn = dict[str, float]  # of one turn: wall and CPU seconds a step, peak memory in bytes


class Failed(Exception):
    """A side has ended; the text tells why in one line."""


class Side(Protocol):
    """Whatever does so many steps when it is told to, and can be ended."""

    def turn(self, steps: int) -> Turn: ...

    def end(self) -> None: ...


class Live:
    """A live process that runs `python -m MODULE ARGUMENTS...`. It is ended where a turn takes longer than `limit`."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, limit: float = 600.0
    ) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (until `end`)
        self.limit = limit
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env=quiet(environment or {}),
        )  # fmt: skip

    def begin(self, steps: int) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended, as `finish` will tell
            print(steps, file=self.process.stdin, flush=True)

    def finish(self) -> Turn:
        assert self.process.stdout
        begun = time.monotonic()
        late = threading.Timer(self.limit, self.process.kill)
        late.start()
        try:
            for line in self.process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
            code = self.process.wait()
        finally:
            late.cancel()
        overdue = time.monotonic() - begun >= self.limit
        raise Failed(f"took more than {self.limit:.0f} s" if overdue else last_line(self.errors, code))

    def turn(self, steps: int) -> Turn:
        """Does so many steps. Raises Failed where the process has ended."""
        self.begin(steps)
        return self.finish()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


class Together:
    """Processes that work as one, as the workers of one training: the longest wall time, the sums of the others'."""

    def __init__(self, members: Sequence[Live]) -> None:
        self.members = members

    def turn(self, steps: int) -> Turn:
        for member in self.members:
            member.begin(steps)
        turns = [member.finish() for member in self.members]
        return {
            "wall": max(turn["wall"] for turn in turns),
            "cpu": sum(turn["cpu"] for turn in turns),
            "peak": sum(turn["peak"] for turn in turns),
        }

    def end(self) -> None:
        for member in self.members:
            member.end()


class Fresh:
    """A command that runs from its start to its end for each step."""

    def __init__(self, command: Sequence[str], limit: float = 600.0) -> None:
        self.command, self.limit = command, limit

    def turn(self, steps: int) -> Turn:
        turns = [self.once() for _ in range(steps)]
        return {figure: sum(turn[figure] for turn in turns) / steps for figure in turns[0]}

    def once(self) -> Turn:
        with tempfile.TemporaryFile("w+") as errors:
            begun = time.perf_counter()
            process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=errors, env=quiet({}))
            late = threading.Timer(self.limit, process.kill)
            late.start()
            _, status, used = os.wait4(process.pid, 0)
            wall = time.perf_counter() - begun
            late.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise Failed(last_line(errors, process.returncode))
        return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": 1024 * used.ru_maxrss}

    def end(self) -> None:
        """Nothing is left between turns."""


def quiet(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a side's process. If it runs on TensorFlow it has oneDNN's kernels: kcnn has set that."""
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | dict(environment)


def last_line(errors: Any, code: int) -> str:
    """Why a process ended: the last line that it wrote to its standard error, or else its exit code."""
    errors.seek(0)
    lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"ended with exit code {code}"


def requests(before: Callable[[], Any] = lambda: None, after: Callable[[], Any] = lambda: None) -> Iterator[int]:
    """Yields, in a side's process, the number of steps of each turn, and answers once they are done.

    What `before` and `after` do at each turn is not counted.
    """
    for line in sys.stdin:
        steps = int(line)
        before()
        wall, cpu = time.perf_counter(), cpu_seconds()
        yield steps
        turn = {"wall": (time.perf_counter() - wall) / steps, "cpu": (cpu_seconds() - cpu) / steps}
        after()
        print(json.dumps(turn | {"peak": peak_bytes()}), flush=True)


def cpu_seconds() -> float:
    """The processor time so far of all threads of this process and, on Linux, of its live children."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime + sum(map(ticks, children())) / os.sysconf("SC_CLK_TCK")


def children() -> list[str]:
    pids: list[str] = []
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            pids += task.read_text().split()
    return pids


def ticks(pid: str) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0
    return int(fields[11]) + int(fields[12])  # utime and stime, proc(5)


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fastest(
    starts: Mapping[str, Callable[[], Side]], steps: int, warmup: int = 1
) -> tuple[str, Side, dict[str, str | float]]:
    """Tries each way of running a side alone, for a few steps, and returns the name of the fastest and its side.

    The third value holds what each took in seconds of wall time a step, or why it failed. Raises Failed if all did.
    """
    told: dict[str, str | float] = {}
    best: tuple[str, Side] | None = None
    for name, start in starts.items():
        side = start()
        try:
            side.turn(warmup)
            told[name] = side.turn(steps)["wall"] if len(starts) > 1 else 0.0
        except Failed as error:
            told[name] = str(error)
            side.end()
            continue
        if best and told[best[0]] <= told[name]:  # type: ignore[operator]
            side.end()
        else:
            if best:
                best[1].end()
            best = name, side
    if not best:
        raise Failed("; ".join(f"{name}: {why}" if name else str(why) for name, why in told.items()))
    return *best, told


def take_turns(sides: dict[str, Side], rounds: int, steps: int) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """So many rounds, in each of which every side has its turn; then also why sides failed, by name."""
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, side in sides.items():
            if name not in failed:
                try:
                    turns[name].append(side.turn(steps))
                except Failed as error:
                    failed[name] = str(error)
    return {name: mine for name, mine in turns.items() if name not in failed}, failed
