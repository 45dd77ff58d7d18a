"""What changes over the epochs of a run besides its learning rate (resolution, augmentation, mixing, what is frozen),
and the batches of each phase.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from trainers.data import Augmentation, Order, Split, train_batches, training_records
from trainers.data.decoding.cache import kept
from trainers.distribute.feed import distribute, naming_broken
from trainers.run import Run
from trainers.settings import RunConfig


def phases(config: RunConfig) -> list[tuple[int, RunConfig]]:
    """The phases of a run: from which epoch on, counted from 0, and the config that holds then.

    `progressive` cuts a run into equal stages of growing resolution, and images that are small are also changed less:
    stage i of n has i / n of the strength of augmentation. Tan and Le, 2021, EfficientNetV2
    (https://arxiv.org/abs/2104.00298), section 4.
    """
    sides = [*config.progressive, config.resolution]
    unmixed = config.epochs - config.mix_off_epochs if config.mixup or config.cutmix else config.epochs
    changes = {unmixed, (config.unfreeze_epoch or 1) - 1} - {config.epochs}
    starts = {i * config.epochs // len(sides) for i in range(len(sides))} | changes
    return [(start, at(config, sides, start, unmixed)) for start in sorted(starts)]


def at(config: RunConfig, sides: list[int], epoch: int, unmixed: int) -> RunConfig:
    """The config that holds in an epoch; from epoch `unmixed` on, images are not mixed."""
    stage = max(i for i in range(len(sides)) if i * config.epochs // len(sides) <= epoch)
    strength = (stage + 1) / len(sides)
    mixed = strength if epoch < unmixed else 0.0
    return replace(
        sized(config, sides[stage]),
        augment_magnitude=config.augment_magnitude * strength,
        color_jitter=config.color_jitter * strength,
        erase=config.erase * strength,
        mixup=config.mixup * mixed,
        cutmix=config.cutmix if mixed else 0.0,  # cutmix has no strength that could grow
        freeze="none" if config.unfreeze_epoch and epoch + 1 >= config.unfreeze_epoch else config.freeze,
    )


def sized(config: RunConfig, side: int) -> RunConfig:
    """The run for images of another size; the network's stem stays what it is."""
    return replace(config, arch=replace(config.arch, resolution=side))


def phase_of(config: RunConfig, epoch: int) -> RunConfig:
    """The config that holds in an epoch, counted from 0."""
    return [phase for start, phase in phases(config) if start <= epoch][-1]


def training_data(run: Run, phase: RunConfig, step: int) -> Any:
    """Batches from the one of `step` on, at the phase's resolution and with its augmentation."""
    images, how = run.source.train, augmentation(phase)
    return distribute(
        run.strategy,
        phase.global_batch,
        lambda _, shard: train_batches(images, order(run, step), phase.resolution, how, shard),
    )


def cached(run: Run) -> Run:
    """The run with its images decoded beside it, where it asks for that.

    Raises InputError where they have no room, and for a broken image.
    """
    config, place = run.config, run.config.cache
    if place is None:
        return run
    smallest = min([*config.progressive, config.resolution])

    def decoded(split: Split) -> Split:
        with naming_broken(split, lambda: (split.once(), None)):
            return kept(split, place, run.folder, smallest)

    source = run.source
    return replace(run, source=replace(source, train=decoded(source.train), val=decoded(source.val)))


def order(run: Run, step: int) -> Order:
    """The order of the run's training examples, from a step on."""
    config, batch = run.config, run.config.global_batch
    return Order(config.seed, run.plan.steps_per_epoch * batch, batch, step * batch, config.repeats)


def augmentation(phase: RunConfig) -> Augmentation:
    return Augmentation(
        crop_scale=phase.crop_scale,
        flip=phase.flip,
        policy=phase.augment,
        magnitude=phase.augment_magnitude,
        std=phase.augment_std,
        probability=phase.augment_probability,
        layers=phase.augment_layers,
        color_jitter=phase.color_jitter,
        erase=phase.erase,
    )


def under_way(run: Run, step: int, steps: int) -> tuple[tf.data.Dataset, int]:
    """The records that a failed call was reading, and how many of them to look at: some had been read ahead."""
    return training_records(run.source.train, order(run, step)), (steps + 4) * run.config.global_batch


def first_images(run: Run, step: int, count: int = 8) -> tuple[np.ndarray, list[str]]:
    """Images of the batch of a step as the network sees them, uint8 (count, side, side, 3), but not mixed yet, and the
    names of their classes."""
    epoch = step // run.plan.steps_per_epoch
    batches = training_data(run, phase_of(run.config, epoch), step)
    with naming_broken(run.source.train, lambda: under_way(run, step, 1)):
        batch = {name: run.strategy.experimental_local_results(of)[0] for name, of in next(iter(batches)).items()}
    labels = batch["label"][:count].numpy()
    if labels.ndim > 1:  # images have any number of labels
        return batch["image"][:count].numpy(), [
            " ".join(run.source.classes[i] for i in np.flatnonzero(of)) for of in labels
        ]
    return batch["image"][:count].numpy(), [run.source.classes[label] for label in labels]
