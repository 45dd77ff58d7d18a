"""SIGTERM and Ctrl-C: the run saves, then leaves."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kcnn.errors import Interrupted


class Stopped(Interrupted):
    """A run that saved and left because it was told to."""

    def __init__(self, number: int, step: int, folder: Path):
        name = signal.Signals(number).name
        super().__init__(f"{name}: saved at step {step}; go on with --resume {folder}")


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that the first SIGTERM or SIGINT is put in; a second one does what it did before."""
    received: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():  # Python hands signals to no other
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        restore()


@contextlib.contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """Lets the first SIGTERM leave the block as an exception, so that what it had begun to write is taken away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def leave(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
