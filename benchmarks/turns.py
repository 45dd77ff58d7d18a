"""Processes that take turns, A B A B, so that a machine whose speed drifts is the same for all of them.

A side is a process that has made ready and waits: for each number on its standard input it does so many steps and
answers with what they took. Only one side works at a time.
"""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Turn = dict[str, float]  # of one turn: wall and CPU seconds a step, peak memory in bytes
FIGURES = ("wall", "cpu", "peak")


class Side:
    """A live process that runs `python -m MODULE ARGUMENTS...` and does steps when it is told to."""

    def __init__(self, module: str, arguments: Sequence[Any], python: str = sys.executable, threads: int | None = None):
        count = {} if threads is None else dict.fromkeys(THREADS, str(threads))
        self.process = subprocess.Popen(
            [python, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | count,
        )

    def turn(self, steps: int) -> Turn:
        """Does so many steps. Raises RuntimeError where the process has ended."""
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(BrokenPipeError):  # it has ended, as the lines below will tell
            print(steps, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{' '.join(self.process.args)} ended with {self.process.wait()}")  # type: ignore[arg-type]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def requests() -> Iterator[int]:
    """Yields, in a side's process, the number of steps of each turn, and answers once they are done."""
    for line in sys.stdin:
        steps = int(line)
        wall, cpu = time.perf_counter(), cpu_seconds()
        yield steps
        turn = {"wall": (time.perf_counter() - wall) / steps, "cpu": (cpu_seconds() - cpu) / steps}
        print(json.dumps(turn | {"peak": peak_bytes()}), flush=True)


def cpu_seconds() -> float:
    """The processor time of all threads of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def take_turns(sides: Mapping[str, Side], rounds: int, steps: int, warmup: int = 2) -> dict[str, list[Turn]]:
    """So many rounds, in each of which every side has its turn, after a few steps of each that are not counted."""
    try:
        for side in sides.values():
            side.turn(warmup)
        turns: dict[str, list[Turn]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                turns[name].append(side.turn(steps))
        return turns
    finally:
        for side in sides.values():
            side.end()


def medians(turns: Mapping[str, list[Turn]]) -> dict[str, Turn]:
    """Of each side the median of each figure over its turns."""
    return {name: {f: statistics.median(t[f] for t in all_) for f in FIGURES} for name, all_ in turns.items()}


def ratio(turns: Mapping[str, list[Turn]], ours: str, theirs: str, figure: str) -> dict[str, float]:
    """The median, the lowest and the highest of theirs / ours over the rounds: above 1, ours is better."""
    ratios = [b[figure] / a[figure] for a, b in zip(turns[ours], turns[theirs], strict=True)]
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
