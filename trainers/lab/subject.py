"""The network of a diagnosis and the images that it is shown: of a run, or of a name."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

import kcnn
from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.data import Split, eval_batches, open_data, sample
from trainers.data.held_out import open_held_out
from trainers.data.sampling import only
from trainers.distribute.feed import naming_broken
from trainers.runs.checkpoints import load_run
from trainers.runs.folders import is_run
from trainers.settings import RunConfig, resolve
from trainers.transfer.pretrained import as_expected

Batches = Iterator[tuple[np.ndarray, np.ndarray | None]]
Subject = tuple[keras.Model, Batches, str, Path]


def subject(
    network: str,
    *,
    data: str | None = None,
    images: int = 256,
    weights: str | None = None,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> Subject:
    """The network, batches of (pixels, labels or None), the images in words, and the folder that a page goes into.

    network: a run's folder, or a name, whose weights are random unless `weights` names a source. Raises InputError.
    """
    if is_run(Path(network)):
        for flag, value, usual in (("weights", weights, None), ("width", width, 1.0), ("depth", depth, 1.0),
                                   ("resolution", resolution, None)):  # fmt: skip
            if value != usual:
                raise InputError(f"{flag} {value}: a run has its own network; leave it out")
        model, config, classes = load_run(network)
        held_out = open_held_out(config, classes, network, data)
        batches = shown(held_out.split, len(classes), config, images, batch_size)
        return plain(model), batches, f"images of {held_out.place}", Path(network)
    flags = TrainConfig(
        arch=network, width=width, depth=depth, resolution=resolution, weights=weights, recipe="default"
    )
    config = resolve(as_expected(flags))
    keras.utils.set_random_seed(seed)
    if data is None:
        return built(config, 1000, weights), photographs(config.resolution, images, batch_size), PHOTOGRAPHS, Path()
    source = open_data(data)
    batches = shown(source.val, len(source.classes), config, images, batch_size)
    return built(config, len(source.classes), weights), batches, f"images of the validation part of {data}", Path()


def remembering(batches: Batches, images: int = 64) -> tuple[list[Any], Batches]:
    """A list that fills with the first batches, up to so many images, and the batches, which fill it as they come."""
    first: list[Any] = []

    def passed() -> Batches:
        count = 0
        for pixels, labels in batches:
            if count < images:
                first.append((pixels, labels))
            count += len(pixels)
            yield pixels, labels

    return first, passed()


def built(config: RunConfig, classes: int, weights: str | None) -> keras.Model:
    return kcnn.build(config.arch, classes, weights=weights, stem="standard")


def plain(model: keras.Model) -> keras.Model:
    """The network without auxiliary heads."""
    return keras.Model(model.inputs, model.outputs[0], name=model.name) if len(model.outputs) > 1 else model


def shown(split: Split, classes: int, config: RunConfig, images: int, batch: int) -> Batches:
    """Images of a split from all classes, as evaluation sees them."""
    if split.label_sets is not None:
        chosen = np.zeros(split.size, bool)
        chosen[np.random.default_rng(0).permutation(split.size)[:images]] = True
        split = only(split, chosen)
    else:
        split = sample(split, images, classes)
    batches = eval_batches(
        split, batch=min(batch, split.size), resolution=config.resolution, crop=config.eval_crop,
        method=config.interpolation,
    )  # fmt: skip
    with naming_broken(split, lambda: (split.once(), None)):
        for part in batches:
            real = part["weight"].numpy() > 0
            labels = None if split.label_sets is not None else part["label"].numpy()[real]
            yield part["image"].numpy()[real].astype(np.float32), labels


PHOTOGRAPHS = "cuts of two photographs"


def photographs(side: int, images: int, batch: int) -> Batches:
    """Cuts of the two photographs that scikit-learn ships, each at a place and a scale of its own, without labels."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    pictures = [Image.fromarray(picture) for picture in load_sample_images().images]
    draws = np.random.default_rng(zlib.crc32(b"photographs"))
    made: list[Any] = []
    for n in range(images):
        whole = pictures[n % len(pictures)]
        cut = int(draws.uniform(0.3, 1.0) * min(whole.size))
        left, top = (int(draws.integers(0, size - cut + 1)) for size in whole.size)
        box = (left, top, left + cut, top + cut)
        made.append(np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR, box), np.float32))
        if len(made) == batch or n == images - 1:
            yield np.stack(made), None
            made = []
