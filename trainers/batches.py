"""The batches of a run: in an order that depends on nothing but the seed and the step."""

from typing import Any

import numpy as np
import tensorflow as tf

from trainers.data import train_batches, training_records
from trainers.distribute.feed import distribute, naming_broken
from trainers.phases import phase_of
from trainers.run import Run
from trainers.settings import RunConfig


def training_data(run: Run, phase: RunConfig, step: int) -> Any:
    """Batches from the one of `step` on, as the phase has them."""
    batch = phase.global_batch
    return distribute(run.strategy, batch, lambda share, shard: train_batches(
        run.source.train, batch=share, resolution=phase.resolution, seed=phase.seed, shard=shard,
        epoch_size=run.plan.steps_per_epoch * batch, start=step * batch,
        crop_scale=(phase.crop_scale, 1.0), flip=phase.flip, policy=phase.augment,
        magnitude=phase.augment_magnitude, std=phase.augment_std, probability=phase.augment_probability,
        layers=phase.augment_layers, color_jitter=phase.color_jitter, erase=phase.erase,
        repeats=phase.repeats))  # fmt: skip


def under_way(run: Run, step: int, steps: int) -> tuple[tf.data.Dataset, int]:
    """The records that a failed call was reading, and some that the pipeline had read ahead."""
    config, batch = run.config, run.config.global_batch
    epoch_size, start = run.plan.steps_per_epoch * batch, step * batch
    records = training_records(run.source.train, config.seed, epoch_size, start, batch, config.repeats)
    return records, (steps + 4) * batch


def first_images(run: Run, count: int = 8) -> np.ndarray:
    """Of the first batch, as the network sees them: uint8 (count, side, side, 3)."""
    batches = training_data(run, phase_of(run.config, 0), 0)
    with naming_broken(run.source.train, lambda: under_way(run, 0, 1)):
        images = run.strategy.experimental_local_results(next(iter(batches))["image"])[0]
    return images[:count].numpy()
