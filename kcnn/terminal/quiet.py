"""TensorFlow's libraries write to standard error as they load, and no setting of theirs stops all of it."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what is written to standard error by C++ code; Python's exceptions come through.

    TF_CPP_MIN_LOG_LEVEL=0 in the environment lets everything pass.
    """
    wanted = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0"
    if wanted or sys.stderr is None:  # None: this process has no standard error
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
