"""The seconds in which a command loads Keras and TensorFlow: what ends it then ends it without a traceback.

Programs that import the package are left as they are.
"""

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from kcnn.errors import InputError
from kcnn.terminal.quiet import quiet

PACKAGES = ("kcnn", "trainers", "tuning")


def is_command() -> bool:
    """Whether this process was started as `kcnn ...` or `python -m PACKAGE...`."""
    options = list(itertools.takewhile(lambda word: word.startswith("-") and word != "-m", sys.orig_argv[1:]))
    match sys.orig_argv[1 + len(options) :]:
        case ["-m", module, *_]:
            return module.split(".")[0] in PACKAGES
    return Path(sys.argv[0]).name == "kcnn"


def catch_ctrl_c() -> None:
    """Lets Ctrl-C end a command with exit code 130 from here on, until `done` is called."""
    # Raised inside an import, KeyboardInterrupt may come out of it as another exception.
    if is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


def leave(number: int, frame: object) -> NoReturn:
    os._exit(130)


def done() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def load_keras() -> None:
    """Imports Keras with the backend that KERAS_BACKEND names, without what TensorFlow's libraries print meanwhile.

    Ends a command with one line where the backend cannot be loaded.
    """
    catch_ctrl_c()
    try:
        with quiet():
            import keras  # noqa: F401
    except (ImportError, ValueError) as error:
        if not is_command():
            raise
        name = os.environ.get("KERAS_BACKEND", "tensorflow")
        refuse(f"Keras cannot be loaded with the backend {name!r} ({error}): KERAS_BACKEND must name an installed one")
    done()


def need_tensorflow() -> None:
    """Loads Keras. Raises InputError, or ends a command with one line, where its backend is not TensorFlow."""
    load_keras()
    import keras

    if keras.backend.backend() != "tensorflow":
        refuse(f"KERAS_BACKEND {keras.backend.backend()!r}: training, evaluation and export need 'tensorflow'")


def refuse(message: str) -> NoReturn:
    """Ends a command with one line and exit code 2. Raises InputError in other programs."""
    if is_command():
        print(f"kcnn: error: {message}", file=sys.stderr, flush=True)
        sys.exit(2)
    raise InputError(message)
