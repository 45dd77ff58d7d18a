"""Networks whose numbers are numbers: NaN in weights or answers is an error, never a result."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from kcnn.errors import InputError
from trainers.runs.checkpoints import load_run
from trainers.settings import RunConfig


def load_finite(run: Path | str, checkpoint: str = "last") -> tuple[keras.Model, RunConfig, tuple[str, ...]]:
    """What `load_run` gives. Raises InputError also where a weight is NaN or infinite.

    Answers alone would not tell: TensorFlow's ReLU turns NaN into 0 on a CPU.
    """
    model, config, classes = load_run(run, checkpoint)
    for v in model.weights:
        if not np.isfinite(values := v.numpy()).all():
            raise InputError(f"{run}: {np.sum(~np.isfinite(values))} of {values.size} numbers in {v.path!r} of its "
                             f"{checkpoint} checkpoint are NaN or infinite: {advice(checkpoint)}")  # fmt: skip
    return model, config, classes


def need_finite(values: Any, what: str, checkpoint: str) -> None:
    """Raises InputError where one of the values is no finite number."""
    bad = np.asarray(values)[~np.isfinite(values)]
    if bad.size:
        raise InputError(f"{what} is {bad.flat[0]}, no finite number: {advice(checkpoint)}")


def advice(checkpoint: str) -> str:
    other = "train again with a lower --lr or --clip-norm 1"
    return f"choose --checkpoint best, or {other}" if checkpoint == "last" else other
