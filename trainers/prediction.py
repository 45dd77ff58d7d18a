"""Predictions: the likeliest classes of images."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data import READ_ERRORS, SUFFIXES, eval_image, reason, shown
from trainers.data.stored.lists import images_of, is_list
from trainers.optim.losses import probabilities
from trainers.settings import RunConfig


def find_images(places: Iterable[str]) -> list[str]:
    """Files as given, those of image types below folders, sorted, and those of lists. Raises InputError where there are
    none."""
    found: list[str] = []
    for place in places:
        if os.path.isdir(place):
            below = sorted(str(p) for p in Path(place).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not below:
                raise InputError(f"{place!r} holds no images ({', '.join(SUFFIXES)})")
            found += below
        elif is_list(place) and os.path.isfile(place):
            found += images_of(place)
        elif os.path.isfile(place):
            found.append(place)
        elif os.path.exists(place):
            raise InputError(f"{place!r} is neither a file nor a folder: a pipe or a device has no end to wait for")
        else:
            raise InputError(f"no image or folder {place!r}")
    return found


def predict(
    model: keras.Model,
    config: RunConfig,
    classes: tuple[str, ...],
    paths: list[str],
    top: int,
    batch: int,
    thresholds: tuple[float, ...] | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """[{"image": path, "top": [{"class", "probability"}, ...]}, ...] in the order of the paths, and a line for each
    image without an answer. With thresholds there are "labels", too: all classes that reach theirs, as in "top"."""
    top = min(top, len(classes))

    @tf.function(reduce_retracing=True)
    def classify(images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        logits = model(tf.cast(images, tf.float32), training=False)
        shares = probabilities(logits, config.multi_label)
        return *tf.math.top_k(shares, top), tf.reduce_all(tf.math.is_finite(logits), -1), shares

    rows, errors = [], []
    for start in range(0, len(paths), batch):
        names, images = [], []
        for path in paths[start : start + batch]:
            try:
                picture = tf.io.read_file(os.fsencode(path))
                images.append(
                    eval_image(picture, config.resolution, crop=config.eval_crop, method=config.interpolation)
                )
                names.append(path)
            except READ_ERRORS as error:
                errors.append(f"{shown(path)}: cannot be read as an image ({reason(error)})")
        if not images:
            continue
        values, indices, finite, whole = (t.numpy() for t in classify(tf.stack(images)))
        for name, shares, best, good, every in zip(names, values, indices, finite, whole, strict=True):
            if not good:
                errors.append(f"{shown(name)}: the network's answer to it is no finite number")
                continue
            pairs = zip(shares, best, strict=True)
            row = {"image": name, "top": [{"class": classes[i], "probability": float(p)} for p, i in pairs]}
            rows.append(row | reached(every, classes, thresholds))
    return rows, errors


def reached(shares: np.ndarray, classes: tuple[str, ...], thresholds: tuple[float, ...] | None) -> dict[str, Any]:
    """{"labels": classes whose probabilities reach their thresholds, the likeliest first}; without thresholds {}."""
    if thresholds is None:
        return {}
    found = [i for i in np.argsort(-shares, kind="stable") if shares[i] >= np.float32(thresholds[i])]
    return {"labels": [{"class": classes[i], "probability": float(shares[i])} for i in found]}
