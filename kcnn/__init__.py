"""kcnn: convolutional networks as data, built, scaled, measured, trained and served with Keras and TensorFlow."""

from kcnn.quiet import quiet

with quiet():
    import keras  # noqa: F401

from kcnn.analysis import Facts, facts
from kcnn.arch import Arch, Stage, Style, scale
from kcnn.builder import build
from kcnn.errors import InputError
from kcnn.families import get, names

__all__ = ["Arch", "Facts", "InputError", "Stage", "Style", "build", "facts", "get", "names", "scale"]
