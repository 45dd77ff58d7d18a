"""Turns what is asked into what is run: it takes the recipe's values, looks at the devices, scales the network and
checks all settings."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from kcnn.arch import GROWTH, Arch, compound, number
from kcnn.builder import resolve as scaled
from kcnn.builder import which_stem
from kcnn.errors import InputError
from kcnn.families import get
from kcnn.notation import from_data, to_data
from trainers.auto.table import expected
from trainers.checks import bounded, check, stages
from trainers.config import (
    Augment,
    Cache,
    Interpolation,
    Loss,
    Optimizer,
    Precision,
    Schedule,
    Strategy,
    TrainConfig,
    Watch,
)
from trainers.distribute.surroundings import strategy_name, usual_precision
from trainers.recipes import PLAIN, RECIPES, choose, stretched
from trainers.runs.files import read_yaml
from trainers.runs.typed import brief


@dataclass(frozen=True)
class RunConfig:
    """A run whose settings are all decided. `resolve` makes it of a TrainConfig, once; all other code takes it.

    flags: the same settings as flags, which config.yaml keeps and a resumed run compares. arch: the network as it is
    built: scaled, at its resolution, with its stem. drop, drop_path: its rates. jit: whether XLA compiles the step.
    own_network: the JSON of a network that no architecture describes (see `network.read_own`). The other fields are
    those of TrainConfig.
    """

    flags: TrainConfig
    arch: Arch
    own_network: str | None
    drop: float
    drop_path: float
    progressive: tuple[int, ...]
    weights: str | None
    freeze: str
    unfreeze_epoch: int | None
    features_only: bool

    data: str
    multi_label: bool
    data_dir: str | None
    val_split: float
    images_per_class: int | None
    on_corrupt: Literal["error", "skip"]
    cache: Cache | None
    crop_scale: float
    flip: bool
    augment: Augment
    augment_magnitude: float
    augment_std: float
    augment_layers: int
    augment_probability: float
    color_jitter: float
    erase: float
    repeats: int
    mixup: float
    cutmix: float
    mix_switch: float
    mix_off_epochs: int
    eval_crop: float
    interpolation: Interpolation

    recipe: str
    epochs: int
    batch_size: int
    accumulate_steps: int
    optimizer: Optimizer
    lr: float
    lr_base: float
    momentum: float
    epsilon: float
    weight_decay: float
    layer_decay: float
    schedule: Schedule
    step_epochs: list[float]
    step_gamma: float
    min_lr: float
    warmup_epochs: float
    loss: Loss
    focal_gamma: float
    label_smoothing: float
    class_weights: str | None
    ema: float
    precise_bn: int
    patience: int | None
    clip_norm: float
    sam: float

    strategy: Strategy
    replicas: int | None
    worker_timeout: float
    precision: Precision
    jit: bool
    sync_bn: bool
    recompute: bool
    deterministic: bool
    checkpoint_every: int | str | None
    keep: int
    recover: int
    watch: Watch | None
    profile: int | None
    quiet: bool
    seed: int

    @property
    def name(self) -> str:
        """The network's name, before it was scaled."""
        return self.flags.arch.name if isinstance(self.flags.arch, Arch) else self.flags.arch

    @property
    def resolution(self) -> int:
        """Side of the square input in pixels."""
        return self.arch.resolution

    @property
    def global_batch(self) -> int:
        """Images in an update: over all replicas, and over the batches whose gradients are summed."""
        return self.batch_size * self.accumulate_steps


def resolve(config: TrainConfig, own_network: str | None = None) -> RunConfig:
    """The run that the configuration asks for. Raises InputError for one that cannot be run.

    The flags of a run resolve to that run again. Where they say auto, it goes by the table (see trainers.auto).
    own_network: the JSON of the user's own network, which `config.arch` only names.
    """
    flags = filled(config if own_network is None else unscaled(config))
    if own_network is not None:  # nor does a recipe change it
        flags = replace(flags, drop=None, drop_path=None, bn_momentum=None, progressive=None)
    check(flags)
    arch = architecture(flags) if own_network is None else own_or_named(flags.arch)
    check_freeze(flags, arch)
    sides = stages(flags, arch.resolution)
    flags = replace(flags, resolution=arch.resolution, progressive=list[float](sides) or None)
    strategy = strategy_name(flags.strategy, flags.replicas)
    choice = expected(flags, strategy, arch.family)
    settled: dict[str, Any] = {
        "flags": flags,
        "arch": arch,
        "own_network": own_network,
        "lr": usual_rate(flags) if flags.lr == "find" else flags.lr,  # until `fit` has found it
        "drop": arch.dropout if flags.drop is None else flags.drop,
        "drop_path": arch.drop_path if flags.drop_path is None else flags.drop_path,
        "progressive": tuple(sides),
        "strategy": strategy,
        "precision": choice.precision,
        "jit": choice.jit,
    }
    own = {f.name: getattr(flags, f.name) for f in fields(RunConfig) if f.name not in settled}
    return RunConfig(**settled, **own)


def filled(config: TrainConfig) -> TrainConfig:
    """The flags with the recipe's values, the precision and the learning rate filled in."""
    bounded(config)
    name = choose(config.data, config.weights) if config.recipe in (None, "auto") else config.recipe
    if name not in RECIPES:
        raise InputError(f"recipe {name!r}: one of {', '.join(RECIPES)} is needed")
    config, recipe = grown(started(config)), RECIPES[name]
    recipe = recipe | stretched(recipe, config.epochs or recipe["epochs"])
    if config.multi_label:
        recipe = recipe | {"loss": "bce", "label_smoothing": 0.0}
    if config.features_only:
        recipe = recipe | PLAIN
        config = replace(config, freeze="backbone" if config.freeze == "none" else config.freeze)
    unset = {key: value for key, value in recipe.items() if getattr(config, key) is None}
    if config.phi and "resolution" in unset and config.gamma:
        unset["resolution"] = round(unset["resolution"] * config.gamma**config.phi)
    config = replace(config, recipe=name, **unset)
    if config.precision is None:
        config = replace(config, precision=usual_precision(strategy_name(config.strategy, config.replicas)))
    return config if config.lr is not None else replace(config, lr=usual_rate(config))


def usual_rate(config: TrainConfig) -> float:
    """The recipe's peak of the learning rate at the configuration's batch."""
    assert config.lr_base is not None and config.batch_size is not None
    return config.lr_base * config.batch_size * config.accumulate_steps / 256


def started(config: TrainConfig) -> TrainConfig:
    """The flags with the resolution and the stem of the run whose weights are asked for, where they name none."""
    path = Path(config.weights or "", "config.yaml")
    if not config.weights or not os.path.isfile(path) or (config.resolution and config.stem != "auto"):
        return config
    values = read(path)
    side, stem = values.get("resolution"), values.get("stem", "auto")
    if not isinstance(side, int):
        raise InputError(f"{path}: resolution {side!r}: a number of pixels is needed; it was changed by hand")
    stem = which_stem(own_or_named(values.get("arch", TrainConfig.arch)), side, stem)
    return replace(config, resolution=config.resolution or side, stem=stem if config.stem == "auto" else config.stem)


def check_freeze(flags: TrainConfig, arch: Arch) -> None:
    """Raises InputError where random weights would stay as they are, and for a stage that the network does not have."""
    own, stages = not arch.stages, len(arch.stages)  # of one's own it starts from the weights that it has
    if flags.freeze == "none":
        return
    if not (flags.weights or own):
        raise InputError(f"freeze {flags.freeze!r}: random weights would stay random; give --weights, too")
    if flags.freeze != "backbone" and int(flags.freeze) > stages:
        known = "none or backbone" if own else f"none, backbone or a stage from 1 to {stages}"
        raise InputError(f"freeze {flags.freeze!r}: {arch.name} has {stages} stages; {known} is needed")


def grown(config: TrainConfig) -> TrainConfig:
    """The flags with alpha, beta and gamma filled in: EfficientNet's, or those of --compound. Raises InputError."""
    unset: dict[str, Any] = {key: value for key, value in GROWTH.items() if getattr(config, key) is None}
    if not unset or not config.compound:
        return replace(config, **unset)
    found = read_yaml(config.compound)
    for key in GROWTH:
        if not (number(found.get(key)) and found[key] > 0):
            raise InputError(
                f"{config.compound}: {key} {found.get(key)!r}: a number above 0 is needed, as tuning.compound writes it"
            )
    config = replace(config, **{key: found[key] for key in unset})
    if found.get("arch") == own_or_named(config.arch).name:
        if config.stem == "auto":
            config = replace(config, stem=found.get("stem", "auto"))
        if config.resolution is None and number(size := found.get("resolution")):
            config = replace(config, resolution=round(size * float(config.gamma or 1.0) ** config.phi))
    return config


def architecture(flags: TrainConfig) -> Arch:
    """The network that the flags describe, scaled as it will be built."""
    if flags.built_as is not None:
        return flags.built_as
    growth = {key: value for key in GROWTH if (value := getattr(flags, key)) is not None}
    arch = compound(own_or_named(flags.arch), flags.phi, **growth)
    arch = scaled(arch, flags.width, flags.depth, flags.resolution, flags.stem)
    if flags.bn_momentum is not None:
        arch = replace(arch, style=replace(arch.style, bn_momentum=flags.bn_momentum))
    return arch


def unscaled(config: TrainConfig) -> TrainConfig:
    """The flags, for a network of the user's own, which is trained as it is. Raises InputError where they change it."""
    for key in (
        "width",
        "depth",
        "phi",
        "compound",
        "stem",
        "progressive",
        "drop",
        "drop_path",
        "bn_momentum",
        "weights",
    ):
        if getattr(config, key) != getattr(TrainConfig, key):
            raise InputError(
                f"{key.replace('_', '-')} {getattr(config, key)!r}: a network of your own is trained as it is"
            )
    if config.precision not in (None, "auto", "float32"):
        raise InputError(f"precision {config.precision!r}: a network of your own is trained in float32")
    return config


def own_or_named(arch: str | Arch) -> Arch:
    """The Arch itself, or that of the name. Raises InputError for an unknown name."""
    return arch if isinstance(arch, Arch) else get(arch)


def text(config: TrainConfig) -> str:
    """The YAML of all flags, as `read` takes it."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def plain(config: TrainConfig) -> dict[str, Any]:
    """The flags as JSON and YAML can hold them."""
    return {f.name: to_data(getattr(config, f.name)) for f in fields(TrainConfig)}


def read(path: Path | str) -> dict[str, Any]:
    """The values of a YAML of flags, by field name; cyclopts and TrainConfig check them. Raises InputError."""
    values = read_yaml(path)
    known = {f.name for f in fields(TrainConfig)}
    values = {key.replace("-", "_"): value for key, value in values.items()}
    for key in values.keys() - known:
        raise InputError(f"{path} sets {key!r}, which is no flag of kcnn train")
    if isinstance(values.get("arch"), dict):
        values["arch"] = from_data(values["arch"])
    elif not isinstance(values.get("arch", ""), str):
        raise InputError(f"{path}: arch {brief(repr(values['arch']))}: a name or an architecture's fields are needed")
    if isinstance(values.get("built_as"), dict):
        values["built_as"] = from_data(values["built_as"])
    return values
