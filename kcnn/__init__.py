"""kcnn: convolutional networks as data, built, scaled, measured, trained and served with Keras and TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter; set it to 0 to read it

from kcnn.analysis import Facts, facts
from kcnn.arch import Arch, Stage, Style, scale
from kcnn.builder import build
from kcnn.errors import InputError
from kcnn.families import get, names

__all__ = ["Arch", "Facts", "InputError", "Stage", "Style", "build", "facts", "get", "names", "scale"]
