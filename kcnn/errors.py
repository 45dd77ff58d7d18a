"""The one exception for what a user can put right."""


class InputError(ValueError):
    """Bad input. The message is one line: the value received, and what would be right.

    The command lines print it and leave with exit code 2; everything else keeps its traceback.
    """
