"""What changes over the epochs of a run besides its learning rate: resolution, strength of augmentation, mixing."""

from dataclasses import replace

from trainers.settings import RunConfig


def phases(config: RunConfig) -> list[tuple[int, RunConfig]]:
    """The phases of a run: from which epoch on, counted from 0, and the config that holds then.

    `progressive` cuts a run into equal stages of growing resolution, and images that are small are also changed less:
    stage i of n has i / n of the strength of augmentation. Tan and Le, 2021, EfficientNetV2
    (https://arxiv.org/abs/2104.00298), section 4.
    """
    sides = [*config.progressive, config.resolution]
    unmixed = config.epochs - config.mix_off_epochs if config.mixup or config.cutmix else config.epochs
    starts = {i * config.epochs // len(sides) for i in range(len(sides))} | ({unmixed} - {config.epochs})
    return [(start, at(config, sides, start, unmixed)) for start in sorted(starts)]


def at(config: RunConfig, sides: list[int], epoch: int, unmixed: int) -> RunConfig:
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


def sized(config: RunConfig, side: int) -> RunConfig:
    """The run for images of another size; the network's stem stays what it is."""
    return replace(config, arch=replace(config.arch, resolution=side))


def phase_of(config: RunConfig, epoch: int) -> RunConfig:
    """The config that holds in an epoch, counted from 0."""
    return [phase for start, phase in phases(config) if start <= epoch][-1]
