"""Smaller formats: LiteRT for phones, ONNX for other runtimes; each is run in its own runtime before it is kept."""

import contextlib
import importlib.util
import io
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from kcnn.quiet import quiet
from trainers.serving import Job, accuracies, folding, prepared

NEEDS = {"litert": ("ai_edge_litert",), "onnx": ("tf2onnx", "onnx", "onnxruntime")}
CLOSE = 1e-3  # of a probability, between a network and the same in another runtime's float32
OPSET = 17  # of ONNX: old enough for the runtimes in use


def need(format: str) -> None:
    """Raises InputError where the packages of a format are not installed."""
    missing = [name for name in NEEDS.get(format, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"format {format} needs {', '.join(missing)}: pip install 'kcnn[{format}]'")


def concrete(model: keras.Model, resolution: int, kind: tf.DType, batch: int | None) -> Any:
    """image (batch, r, r, 3), values from 0 to 255, to probabilities (batch, classes)."""
    spec = tf.TensorSpec((batch, resolution, resolution, 3), kind, name="image")

    @tf.function(input_signature=[spec])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(model(tf.cast(image, tf.float32), training=False))}

    return serve


def save_litert(job: Job, place: Path) -> dict[str, Any]:
    raise NotImplementedError


def save_onnx(job: Job, place: Path) -> dict[str, Any]:
    raise NotImplementedError
