"""kcnn: convolutional networks as data, built, scaled, measured, trained and served with Keras and TensorFlow."""

from kcnn import starting
from kcnn.quiet import quiet

with starting.loading(), quiet():
    import keras  # noqa: F401

from kcnn.analysis import Facts, facts
from kcnn.arch import Arch, Aux, Stage, Style, compound, scale
from kcnn.builder import build
from kcnn.errors import InputError
from kcnn.families import get, names

__all__ = [
    "Arch",
    "Aux",
    "Facts",
    "InputError",
    "Stage",
    "Style",
    "build",
    "compound",
    "facts",
    "get",
    "names",
    "scale",
]
