"""The exceptions that commands turn into one line and an exit code."""


class InputError(ValueError):
    """Bad input. The message is one line: the value received, and what would be right.

    The command lines print it and leave with exit code 2; everything else keeps its traceback.
    """


class Interrupted(BaseException):
    """Work that was told to stop, and saved what it had. Commands leave with exit code 75, "try again later".

    Like KeyboardInterrupt it is no Exception, so that nobody on the way takes it for a failure and goes on.
    """
