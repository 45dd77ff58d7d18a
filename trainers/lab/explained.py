"""The page of explanations: each image beside what the network looks at in it."""

import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data import READ_ERRORS, eval_image, reason, shown
from trainers.lab.explain import grad_cam, integrated_gradients
from trainers.optim.losses import probabilities
from trainers.reports import html
from trainers.reports.pictures import jpeg
from trainers.settings import RunConfig

SIDE = 224  # pixels of a picture on the page, at least as large as the network's
PERCENTILE = 99.0  # of the values of integrated gradients: what is beyond is drawn as strong as this


def explained(
    model: keras.Model, config: RunConfig, classes: tuple[str, ...], paths: list[str], top: int
) -> tuple[list[dict[str, Any]], list[str], str]:
    """Rows for JSON, a line for each image without an answer, and the page. Raises InputError where all fail."""
    rows: list[dict[str, Any]] = []
    errors, parts = [], []
    mean = np.array(config.arch.style.mean, np.float32)
    for path in paths:
        try:
            data = tf.io.read_file(os.fsencode(path))
            pixels = eval_image(data, config.resolution, crop=config.eval_crop, method=config.interpolation).numpy()
        except READ_ERRORS as error:
            errors.append(f"{shown(path)}: cannot be read as an image ({reason(error)})")
            continue
        image = pixels.astype(np.float32)
        shares = probabilities(model(image[None], training=False), config.multi_label)[0].numpy()
        if not np.isfinite(shares).all():
            errors.append(f"{shown(path)}: the network's answer to it is no finite number")
            continue
        best = [int(i) for i in np.argsort(-shares, kind="stable")[: min(top, len(classes))]]
        cams = grad_cam(model, image, best)
        pixel = integrated_gradients(model, image, best[0], mean if mean.shape == image.shape[2:] else 0.0)
        row = {
            "image": path,
            "top": [{"class": classes[i], "probability": float(shares[i])} for i in best],
            "completeness_error": pixel.error,
            "steps": pixel.steps,
        }
        rows.append(row)
        words = [f"{classes[i]} {shares[i]:.1%}" for i in best]
        pictures = [larger(pixels), *(larger(laid_over(pixels, cam)) for cam in cams), larger(signed(pixel.values))]
        texts = [shown(path), *(f"Grad-CAM: {word}" for word in words), f"pixels for and against {words[0]}"]
        side = pictures[0].shape[0]
        parts.append(html.tiles([(jpeg([[p]], side), text) for p, text in zip(pictures, texts, strict=True)]))
    if not rows:
        raise InputError(f"none of the {len(paths)} images can be explained; the first: {errors[0]}")
    worst = max(float(row["completeness_error"]) for row in rows)
    about = [
        html.paragraph(
            "Grad-CAM (Selvaraju et al., 2017): where the last map's channels that speak for a class are strong; warm "
            "is strong, and the scale is each picture's own. It is as coarse as that map."
        ),
        html.paragraph(
            "Integrated gradients (Sundararajan et al., 2017): red pixels add to the class's logit, blue ones take "
            "from it, from an image of the mean colour on. They add up to the logit: on these images to "
            f"{worst:.1e} of it, or better."
        ),
    ]
    return rows, errors, html.page(f"What {config.name} looks at", *about, *parts)


def larger(picture: np.ndarray) -> np.ndarray:
    """The picture with each pixel as a square, where it is small."""
    times = max(1, SIDE // picture.shape[0])
    return picture.repeat(times, 0).repeat(times, 1)


def laid_over(pixels: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Warm colours over a picture, uint8 (side, side, 3), where a map (side, side), 0 to 1, is strong."""
    from matplotlib import colormaps

    warm = 255 * colormaps["inferno"](cam)[..., :3]
    strength = 0.65 * cam[..., None]
    return np.clip((1 - strength) * pixels + strength * warm, 0, 255).astype(np.uint8)


def signed(values: np.ndarray) -> np.ndarray:
    """Values (side, side, channels), summed over the channels, as colours: red above 0 and blue below."""
    from matplotlib import colormaps

    total = values.sum(-1)
    limit = float(np.percentile(np.abs(total), PERCENTILE)) or 1.0
    shares = np.clip(0.5 + 0.5 * total / limit, 0, 1)
    return (255 * colormaps["bwr"](shares)[..., :3]).astype(np.uint8)
