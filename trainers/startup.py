"""The first seconds of `python -m`, in which libraries load."""

import os
import signal
import sys
from typing import Any

INTERRUPTED = 130  # as a shell has it


def leave_at_interrupt() -> None:
    """Lets Ctrl-C end a command at once and without a traceback, until it calls `listen`.

    Python would raise KeyboardInterrupt inside whatever library is being imported. It does nothing where a package is
    imported by a program of somebody else's: Python's argv is "-m" only as long as it looks for a command's module.
    """
    if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


def leave(number: int, frame: Any) -> None:
    os._exit(INTERRUPTED)


def listen() -> None:
    """Turns Ctrl-C into KeyboardInterrupt again, which commands and runs take care of."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
