"""kcnn: convolutional networks as data, built, scaled, measured, trained and served with Keras and TensorFlow."""

import sys
from typing import TYPE_CHECKING, Any

from kcnn.terminal import starting

starting.catch_ctrl_c()
starting.use_onednn()

from kcnn.analysis import Facts, facts  # noqa: E402
from kcnn.arch import Arch, Aux, Stage, Style, compound, scale  # noqa: E402
from kcnn.builder import build  # noqa: E402
from kcnn.drawing import draw  # noqa: E402
from kcnn.errors import InputError  # noqa: E402
from kcnn.families import get, names  # noqa: E402
from kcnn.pyramid import any_size, features  # noqa: E402

__all__ = [
    "Arch",
    "Aux",
    "Diagnosis",
    "Facts",
    "InputError",
    "Stage",
    "Style",
    "any_size",
    "build",
    "compound",
    "diagnose",
    "draw",
    "facts",
    "features",
    "get",
    "names",
    "scale",
]

if "keras" in sys.modules:  # so that files of earlier versions, which hold our layers, can be opened by Keras
    from kcnn import layers  # noqa: F401

if TYPE_CHECKING:
    from kcnn.diagnosis import Diagnosis, diagnose


def __getattr__(name: str) -> Any:
    """Loads what needs NumPy and Keras with its first use."""
    if name not in ("Diagnosis", "diagnose"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kcnn import diagnosis

    return getattr(diagnosis, name)
