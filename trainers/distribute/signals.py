"""SIGTERM and Ctrl-C: the run saves, then leaves."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kcnn.errors import Interrupted


class Stopped(Interrupted):
    """A signal stopped the run; it can go on from its last checkpoint."""

    def __init__(self, signum: int, folder: Path, step: int | None = None):
        saved = "" if step is None else f"saved at step {step}; "
        super().__init__(f"{signal.Signals(signum).name}: {saved}go on with --resume {folder}")


@contextlib.contextmanager
def stop_signals(leave: Callable[[int], BaseException] | None = None) -> Iterator[list[int]]:
    """A list to which the first SIGTERM or SIGINT is added; a second one acts as it did before.

    With `leave`, the signal raises leave(signum) at once, wherever the program is.
    """
    received: list[int] = []
    before: dict[int, Any] = {}

    def note(signum: int, frame: Any) -> None:
        received.append(signum)
        restore()
        if leave:
            raise leave(signum)

    def restore() -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)

    if threading.current_thread() is threading.main_thread():  # Python hands signals to no other
        before = {signum: signal.signal(signum, note) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        restore()


def leaving() -> contextlib.AbstractContextManager[list[int]]:
    """Within the block, SIGTERM raises an exception, as Ctrl-C does, so that half-written files are removed."""
    return stop_signals(lambda signum: KeyboardInterrupt() if signum == signal.SIGINT else SystemExit(128 + signum))
