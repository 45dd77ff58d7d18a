"""SIGTERM and Ctrl-C: the run saves, then leaves."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kcnn.errors import Interrupted


class Stopped(Interrupted):
    """A run that left because it was told to; it goes on from its last checkpoint."""

    def __init__(self, number: int, folder: Path, step: int | None = None):
        saved = "" if step is None else f"saved at step {step}; "
        super().__init__(f"{signal.Signals(number).name}: {saved}go on with --resume {folder}")


@contextlib.contextmanager
def stop_signals(leave: Callable[[int], BaseException] | None = None) -> Iterator[list[int]]:
    """A list that the first SIGTERM or SIGINT is put in; a second one does what it did before.

    With `leave`, the exception that it gives for the signal is raised at once, wherever the program is.
    """
    received: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        restore()
        if leave:
            raise leave(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():  # Python hands signals to no other
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        restore()


def leaving() -> contextlib.AbstractContextManager[list[int]]:
    """Within it, SIGTERM ends the process as an exception, as Ctrl-C does: what was begun can be taken away."""
    return stop_signals(lambda number: KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number))
