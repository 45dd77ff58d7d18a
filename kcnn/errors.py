"""The exceptions that commands turn into one line and an exit code."""

import operator
import reprlib
from typing import Any


class InputError(ValueError):
    """Bad input. The message is one line: the value received, and what would be right.

    The command lines print it and leave with exit code 2; everything else keeps its traceback.
    """


class Interrupted(BaseException):
    """Work that was told to stop, and saved what it had. Commands leave with exit code 75, "try again later".

    Like KeyboardInterrupt it is no Exception, so that nobody on the way takes it for a failure and goes on.
    """


SHORT = reprlib.Repr()
SHORT.maxlong, SHORT.maxstring, SHORT.maxother = 60, 200, 200


def shown(value: Any) -> str:
    """A value as it appears in a message, shortened where it is long."""
    try:
        return SHORT.repr(value)
    except ValueError:  # Python writes no integers of more than 4,300 digits
        return f"a number of {value.bit_length():,} bits"


def whole(what: str, value: Any, most: int, least: int = 1) -> int:
    """The value as an int. Raises InputError for what is no whole number from `least` to `most`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise InputError(f"{what} {shown(value)}: a whole number from {least:,} to {most:,} is needed")
    return number
