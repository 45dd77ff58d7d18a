"""Features in the place of images: what the frozen backbone makes of each image, computed once, on the disk."""

import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data import Split, eval_batches
from trainers.distribute.feed import naming_broken
from trainers.run import Run
from trainers.settings import RunConfig
from trainers.state import State
from trainers.transfer.parts import cut


def featured(run: Run, state: State) -> Run:
    """The run with the features of its images beside them, where it asks for features only.

    Raises InputError where they do not fit on the disk, and for a classifier of several inputs.
    """
    if not run.config.features_only:
        return run
    still = cut(state.plain, replace(run.config, features_only=False)).still
    assert still
    if len(still.outputs) > 1:
        raise InputError(f"features-only: the classifier of {state.plain.name} has {len(still.outputs)} inputs")
    splits = (run.source.train, run.source.val)
    check_disk(run.folder, sum(s.size for s in splits), still)
    compute = inference(still)  # traced once for both
    train, val = (replace(s, features=features(compute, s, run.config, run.folder)) for s in splits)
    return replace(run, source=replace(run.source, train=train, val=val))


def check_disk(folder: Path, images: int, still: keras.Model) -> None:
    """Raises InputError where the features of so many images do not fit on the folder's disk."""
    needed, free = 4 * images * math.prod(still.output_shape[1:]), shutil.disk_usage(folder).free
    if needed > 0.9 * free:
        raise InputError(
            f"features-only: the features of {images:,} images take {needed / 1e9:,.1f} GB, and {folder} has room for "
            f"{free / 1e9:,.1f} GB: another --run-dir is needed, or --freeze backbone, which keeps no features"
        )


def inference(still: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Compiles a function from pixels, of any type, to what a network makes of them in inference, float32."""

    @tf.function(reduce_retracing=False)
    def compute(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(still(tf.cast(images, tf.float32), training=False), tf.float32)

    return compute


def features(compute: Callable[[tf.Tensor], tf.Tensor], split: Split, config: RunConfig, folder: Path) -> np.ndarray:
    """What a function makes of each image of a split as evaluation sees it, float32 (size, ...), by index.

    They are in a file without a name in the folder, which goes with the process; memory holds what is looked at.
    """
    batch = min(config.batch_size, split.size)
    batches = eval_batches(
        split, batch=batch, resolution=config.resolution, crop=config.eval_crop, method=config.interpolation
    )
    with tempfile.TemporaryFile(dir=folder) as file:
        shape: tuple[int, ...] = ()
        with naming_broken(split, lambda: (split.once(), None)):
            for part in batches:
                real = int(np.count_nonzero(part["weight"].numpy()))  # what fills the last batch stands behind
                found = compute(part["image"]).numpy()[:real]
                shape = found.shape[1:]
                file.write(found.tobytes())
        file.flush()
        return np.memmap(cast(IO[Any], file), np.float32, "r", shape=(split.size, *shape))
