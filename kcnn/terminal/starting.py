"""The seconds in which a command loads Keras and TensorFlow: what ends it then ends it without a traceback.

Programs that import the package are left as they are, but for oneDNN's kernels.
"""

import contextlib
import gc
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from kcnn.errors import InputError
from kcnn.terminal.processor import cpuinfo
from kcnn.terminal.quiet import quiet

PACKAGES = ("kcnn", "trainers", "tuning")
# What Keras imports where it happens to be installed, for wrappers, plots and tables that no command of ours uses:
# scikit-learn, which brings SciPy's statistics, is a fifth of the import. Neither Keras nor a backend depends on it.
UNUSED = ("sklearn", "matplotlib", "pandas")


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
    if "keras" in sys.modules:
        return
    still_starting = signal.getsignal(signal.SIGINT) is leave  # then the command line calls `done`, once it is read
    catch_ctrl_c()
    try:
        with quiet(), lean():
            import keras  # noqa: F401
    except (ImportError, ValueError) as error:
        if not is_command():
            raise
        name = os.environ.get("KERAS_BACKEND", "tensorflow")
        refuse(f"Keras cannot be loaded with the backend {name!r} ({error}): KERAS_BACKEND must name an installed one")
    if not still_starting:
        done()


def use_onednn() -> None:
    """Turns on oneDNN's kernels for processors with AVX2, unless TF_ENABLE_ONEDNN_OPTS is set.

    TensorFlow turns them on by itself for processors with AVX512-VNNI or AMX alone. It reads the variable
    when it first looks for devices. docs/performance.md has what they are worth on others.
    """
    if "avx2" in cpuinfo().get("flags", "").split():
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Within the block, a command imports what it needs and no more.

    Python does not collect garbage meanwhile: an import makes 400,000 objects that stay, and looking through them again
    and again is a fifth of its time. They are not looked through later, either. What is in UNUSED cannot be imported
    until the block ends, which its importers are made for. Other programs get all of Keras.
    """
    if not is_command():
        yield
        return
    absent = [name for name in UNUSED if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # Python then says that there is no such module
    gc.disable()
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
        gc.enable()
        gc.freeze()


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
