"""What changes over the epochs of a run besides its learning rate: resolution, strength of augmentation, mixing."""

from dataclasses import replace

from kcnn.builder import which_stem
from kcnn.families import get
from trainers.config import TrainConfig


def phases(config: TrainConfig) -> list[tuple[int, TrainConfig]]:
    """The phases of a resolved config: from which epoch on, counted from 0, and the config that holds then.

    `progressive` cuts a run into equal stages of growing resolution, and images that are small are also changed less:
    stage i of n has i / n of the strength of augmentation. Tan and Le, 2021, EfficientNetV2
    (https://arxiv.org/abs/2104.00298), section 4.
    """
    sides = [*(config.progressive or ()), config.resolution]
    unmixed = config.epochs - config.mix_off_epochs if config.mixup or config.cutmix else config.epochs
    starts = {i * config.epochs // len(sides) for i in range(len(sides))} | ({unmixed} - {config.epochs})
    return [(start, at(config, sides, start, unmixed)) for start in sorted(starts)]


def at(config: TrainConfig, sides: list[int], epoch: int, unmixed: int) -> TrainConfig:
    stage = max(i for i in range(len(sides)) if i * config.epochs // len(sides) <= epoch)
    strength = (stage + 1) / len(sides)
    mixed = strength if epoch < unmixed else 0.0
    return replace(
        sized(config, sides[stage]),
        augment_magnitude=config.augment_magnitude * strength,
        color_jitter=config.color_jitter * strength,
        erase=config.erase * strength,
        mixup=config.mixup * mixed,
        cutmix=config.cutmix if mixed else 0.0,  # its box is drawn, not its strength
    )


def sized(config: TrainConfig, side: int) -> TrainConfig:
    """The config for images of another size; the stem stays what it is for its own."""
    if side == config.resolution:
        return config
    return replace(config, resolution=side, stem=which_stem(get(config.arch), config.resolution, config.stem))


def phase_of(config: TrainConfig, epoch: int) -> TrainConfig:
    """The config that holds in an epoch, counted from 0."""
    return [phase for start, phase in phases(config) if start <= epoch][-1]
