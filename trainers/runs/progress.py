"""The progress of a run: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0  # between plain lines within an epoch


class Reporter:
    """Shows the progress of steps, and the lines given to `say`; without `show` it shows nothing."""

    def __init__(self, steps: int, done: int, show: bool = True):
        self.console = Console(file=sys.stderr, quiet=not show)
        self.steps, self.last = steps, time.monotonic()
        self.started, self.first = time.monotonic(), done
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("tracing the step", total=steps, completed=done, figures="")

    def __enter__(self) -> "Reporter":
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def step(self, epoch: str, step: int, loss: float, accuracy: float, rate: float) -> None:
        """Shows a step: loss and accuracy are those of the current epoch, the rate is in images a second."""
        figures = f"loss {loss:.4f}  accuracy {accuracy:.2%}  {rate:.0f} images/s"
        self.bar.update(self.task, completed=step, description=epoch, figures=figures)
        now = time.monotonic()
        if not self.console.is_terminal and now - self.last > PLAIN_SECONDS:
            self.last = now
            left = (now - self.started) / max(1, step - self.first) * (self.steps - step)
            self.say(f"{epoch}: step {step}/{self.steps}  {figures}  {left:.0f} s left")

    def say(self, line: str) -> None:
        if not self.console.is_terminal:  # a log is read later
            line = f"{time.strftime('%H:%M:%S')}  {line}"
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


class Speed:
    """The speed in images a second: of the last call, and over all calls but the first, which compiles."""

    def __init__(self, batch: int):
        self.batch = batch
        self.calls: list[tuple[int, float]] = []

    def add(self, steps: int, seconds: float) -> None:
        self.calls.append((steps, seconds))

    def steps_within(self, seconds: float) -> int:
        """How many steps fit into so many seconds at the last call's speed: at least one; ten after the first call."""
        return max(1, int(seconds * self.recent / self.batch)) if len(self.calls) > 1 else 10

    @property
    def recent(self) -> float:
        return self.rate(self.calls[-1:])

    @property
    def overall(self) -> float:
        return self.rate(self.calls[1:] or self.calls)

    def rate(self, calls: list[tuple[int, float]]) -> float:
        return self.batch * sum(n for n, _ in calls) / max(1e-9, sum(s for _, s in calls))
