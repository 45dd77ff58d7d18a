"""SavedModels: pixels in, probabilities out, checked before anybody hears of them."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.data import eval_array

TOLERANCE = 1e-5  # of a probability, between the model and what was exported

# Runs apart, as a server would: TensorFlow alone, no Keras and none of our code.
RELOAD = """
import sys
sys.modules["keras"] = sys.modules["kcnn"] = None  # importing them fails
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
outputs = loaded.signatures["serving_default"](image=tf.constant(np.load(sys.argv[2])))
np.save(sys.argv[3], outputs["probabilities"].numpy())
"""


def export(model: keras.Model, config: TrainConfig, classes: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Writes folder/<version>/, the next free one, in one step. Raises InputError if it answers differently.

    Its signature serving_default takes image, (batch, height, width, 3) of values from 0 to 255 and any size, crops
    and resizes as in evaluation, and gives probabilities (batch, classes) and classes (batch,), the names' indices.
    """

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, name="image")])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.saturate_cast(tf.round(image), tf.uint8)
        fitted = tf.map_fn(lambda one: eval_array(one, config.resolution, crop=config.eval_crop), pixels)
        probabilities = tf.nn.softmax(model(tf.cast(fitted, tf.float32), training=False))
        return {"probabilities": probabilities, "classes": tf.argmax(probabilities, -1)}

    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(".partial-*"):
        shutil.rmtree(stale)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        archive = tf.Module()
        archive.serve, archive.variables_of_model = serve, [v.value for v in model.weights]
        tf.saved_model.save(archive, str(partial / "model"), signatures={"serving_default": serve})
        labels = partial / "model" / "assets" / "labels.txt"
        labels.parent.mkdir(exist_ok=True)
        labels.write_text("\n".join(classes) + "\n", encoding="utf-8")
        difference = verify(partial, serve, config.resolution)
        versions = [int(p.name) for p in folder.iterdir() if p.name.isdigit()]
        path = folder / str(max(versions, default=0) + 1)
        os.replace(partial / "model", path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where it is empty
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return {"path": str(path), "bytes": size, "max_difference": difference, "classes": len(classes)}


def verify(folder: Path, serve: Any, resolution: int) -> float:
    """The largest difference between the probabilities of the model here and of the export in a process of its own."""
    image = np.random.default_rng(0).integers(0, 256, (2, resolution + 3, resolution, 3)).astype(np.float32)
    np.save(folder / "in.npy", image)
    command = [sys.executable, "-c", RELOAD, str(folder / "model"), str(folder / "in.npy"), str(folder / "out.npy")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"})
    if done.returncode:
        raise InputError(f"the export does not load again: {done.stderr.strip().splitlines()[-1]}")
    difference = float(np.abs(np.load(folder / "out.npy") - serve(tf.constant(image))["probabilities"].numpy()).max())
    if not difference <= TOLERANCE:
        raise InputError(f"the export's probabilities differ by {difference:.2g} from the model's, over {TOLERANCE:g}")
    return difference
