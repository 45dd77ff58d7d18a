"""Images in, the likeliest classes out."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data import eval_image
from trainers.settings import RunConfig

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def find_images(places: Iterable[str]) -> list[str]:
    """Files as given, and those of image types below folders, sorted. Raises InputError where there are none."""
    found: list[str] = []
    for place in places:
        if os.path.isdir(place):
            below = sorted(str(p) for p in Path(place).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not below:
                raise InputError(f"{place!r} holds no images ({', '.join(SUFFIXES)})")
            found += below
        elif os.path.isfile(place):
            found.append(place)
        elif os.path.exists(place):
            raise InputError(f"{place!r} is neither a file nor a folder: a pipe or a device has no end to wait for")
        else:
            raise InputError(f"no image or folder {place!r}")
    return found


def predict(
    model: keras.Model, config: RunConfig, classes: tuple[str, ...], paths: list[str], top: int, batch: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """[{"image": path, "top": [{"class", "probability"}, ...]}, ...] in the order of the paths, and errors by line."""
    top = min(top, len(classes))

    @tf.function(reduce_retracing=True)
    def classify(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        logits = model(tf.cast(images, tf.float32), training=False)
        return *tf.math.top_k(tf.nn.softmax(logits), top), tf.reduce_all(tf.math.is_finite(logits), -1)

    rows, errors = [], []
    for start in range(0, len(paths), batch):
        names, images = [], []
        for path in paths[start : start + batch]:
            try:
                images.append(eval_image(tf.io.read_file(os.fsencode(path)), config.resolution, crop=config.eval_crop))
                names.append(path)
            except tf.errors.OpError as error:
                formats = ", ".join(SUFFIXES)
                errors.append(f"{path}: cannot be read as an image of {formats} ({plain(error.message)})")
        if not images:
            continue
        values, indices, finite = (t.numpy() for t in classify(tf.stack(images)))
        for name, shares, best, good in zip(names, values, indices, finite, strict=True):
            if not good:
                errors.append(f"{name}: the network's answer to it is no finite number")
                continue
            pairs = zip(shares, best, strict=True)
            rows.append({"image": name, "top": [{"class": classes[i], "probability": float(p)} for p, i in pairs]})
    return rows, errors


def plain(message: str) -> str:
    """A TensorFlow error without the places in its graph."""
    asserted = re.search(r"assertion failed: \[(.*?)\]", message)
    return asserted[1] if asserted else re.sub(r"\{\{.*?\}\}\s*|\s*\[\[.*|\s*\[Op:.*", "", message.split("\n")[0])
