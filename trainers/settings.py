"""From what is asked to what is run: the recipe's values, the devices', the network, and checks of them all."""

import math
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

import kcnn
from kcnn.arch import Arch, compound, number
from kcnn.builder import resolve as scaled
from kcnn.errors import InputError
from kcnn.notation import from_data, to_data
from trainers.config import TrainConfig
from trainers.distribute.strategy import compiled_by_xla, strategy_name
from trainers.recipes import RECIPES, choose, times

GROWTH = {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}  # EfficientNet's (https://arxiv.org/abs/1905.11946), Section 4


@dataclass(frozen=True)
class RunConfig:
    """A run in which nothing is open: what `resolve` makes, once, of a TrainConfig, and what all the rest takes.

    flags: the same as flags, each with its value, as config.yaml keeps them and as a resumed run compares them.
    arch: the network as it is built: scaled, at its resolution, with its stem. drop, drop_path: its rates.
    jit: whether XLA compiles the step. own_network: the JSON of a network that no architecture describes (see
    `network.read_own`). The other fields are those of TrainConfig.
    """

    flags: TrainConfig
    arch: Arch
    own_network: str | None
    drop: float
    drop_path: float
    progressive: tuple[int, ...]
    weights: str | None

    data: str
    data_dir: str | None
    val_split: float
    on_corrupt: Literal["error", "skip"]
    crop_scale: float
    flip: bool
    augment: Literal["none", "randaugment", "trivialaugment", "autoaugment"]
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

    recipe: str
    epochs: int
    batch_size: int
    accumulate_steps: int
    optimizer: Literal["sgd", "rmsprop", "adamw", "lamb", "lion"]
    lr: float
    lr_base: float
    momentum: float
    epsilon: float
    weight_decay: float
    layer_decay: float
    schedule: Literal["cosine", "step", "exponential", "one-cycle", "constant"]
    step_epochs: list[float]
    step_gamma: float
    min_lr: float
    warmup_epochs: float
    loss: Literal["cross-entropy", "bce", "focal"]
    focal_gamma: float
    label_smoothing: float
    class_weights: str | None
    ema: float
    precise_bn: int
    patience: int | None
    clip_norm: float
    sam: float

    strategy: Literal["one-device", "mirrored", "multi-worker", "tpu"]
    replicas: int | None
    worker_timeout: float
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]
    jit: bool
    sync_bn: bool
    deterministic: bool
    checkpoint_every: int | str | None
    keep: int
    recover: int
    seed: int

    @property
    def name(self) -> str:
        """The network's, before it was scaled."""
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
    """The run that is asked for. Raises InputError for what cannot be run.

    Given the flags of a run it gives that run again. own_network: the JSON of the user's own network, which
    `config.arch` only names.
    """
    flags = filled(config if own_network is None else unscaled(config))
    if own_network is not None:  # nor does a recipe change it
        flags = replace(flags, drop=None, drop_path=None, bn_momentum=None)
    check(flags)
    arch = architecture(flags) if own_network is None else own_or_named(flags.arch)
    flags = replace(flags, resolution=arch.resolution)
    strategy = strategy_name(flags.strategy, flags.replicas)
    settled: dict[str, Any] = {
        "flags": flags,
        "arch": arch,
        "own_network": own_network,
        "drop": arch.dropout if flags.drop is None else flags.drop,
        "drop_path": arch.drop_path if flags.drop_path is None else flags.drop_path,
        "progressive": tuple(flags.progressive or ()),
        "strategy": strategy,
        "jit": compiled_by_xla(flags.jit, strategy, flags.sync_bn),
    }
    own = {f.name: getattr(flags, f.name) for f in fields(RunConfig) if f.name not in settled}
    return RunConfig(**settled, **own)


def filled(config: TrainConfig) -> TrainConfig:
    """The flags with nothing left to the recipe or the devices."""
    name = config.recipe or choose(config.data)
    if name not in RECIPES:
        raise InputError(f"recipe {name!r}: one of {', '.join(RECIPES)} is needed")
    config, recipe = grown(config), RECIPES[name]
    recipe = recipe | times(recipe, config.epochs or recipe["epochs"])
    unset = {key: value for key, value in recipe.items() if getattr(config, key) is None}
    if config.phi and "resolution" in unset and config.gamma:
        unset["resolution"] = round(unset["resolution"] * config.gamma**config.phi)
    config = replace(config, recipe=name, **unset)
    if config.precision == "auto":
        tpu = strategy_name(config.strategy, config.replicas) == "tpu"
        config = replace(config, precision="mixed_bfloat16" if tpu else "float32")
    if config.lr is None and config.lr_base is not None and config.batch_size is not None:
        config = replace(config, lr=config.lr_base * config.batch_size * config.accumulate_steps / 256)
    return config


def grown(config: TrainConfig) -> TrainConfig:
    """With EfficientNet's alpha, beta and gamma, or those of --compound, where it has none. Raises InputError."""
    unset: dict[str, Any] = {key: value for key, value in GROWTH.items() if getattr(config, key) is None}
    if not unset or not config.compound:
        return replace(config, **unset)
    found = yaml_of(config.compound)
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
    """The network that the flags describe, just as it is built."""
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
    if config.precision not in ("auto", "float32"):
        raise InputError(f"precision {config.precision!r}: a network of your own is trained in float32")
    return config


def own_or_named(arch: str | Arch) -> Arch:
    return arch if isinstance(arch, Arch) else kcnn.get(arch)


def check(config: TrainConfig) -> None:
    def need(key: str, holds: Any, right: str) -> None:
        if getattr(config, key) is not None and not holds(getattr(config, key)):
            raise InputError(f"{key.replace('_', '-')} {getattr(config, key)!r}: {right} is needed")

    for key in ("epochs", "batch_size", "accumulate_steps", "resolution", "replicas", "keep", "patience"):
        need(key, lambda v: v >= 1, "a whole number of 1 or more")
    for key in ("lr_base", "lr", "epsilon"):  # of the first two, one follows from the other
        need(key, lambda v: 0 < v < math.inf, "a number above 0")
    for key in ("weight_decay", "clip_norm", "warmup_epochs", "min_lr", "focal_gamma", "sam", "recover", "precise_bn"):
        need(key, lambda v: 0 <= v < math.inf, "a number of 0 or more")
    for key in ("drop", "drop_path", "label_smoothing", "ema", "momentum", "bn_momentum", "seed"):
        top = 2**31 if key == "seed" else 1
        need(key, lambda v, top=top: 0 <= v < top, f"a number from 0 to below {top}")
    for key in ("crop_scale", "eval_crop", "layer_decay", "step_gamma"):
        need(key, lambda v: 0 < v <= 1, "a share above 0, at most 1,")
    need(
        "checkpoint_every",
        lambda v: (checkpoint_steps(config) or checkpoint_seconds(config) or 0) > 0,
        "a whole number of steps, or minutes like 10m,",
    )
    need("progressive", lambda v: v == sorted(set(v)) and v[0] >= 1 and v[-1] < (config.resolution or math.inf),
         f"resolutions in ascending order below the last stage's, {config.resolution},")  # fmt: skip
    epochs = config.epochs or 0
    need("progressive", lambda v: len(v) < epochs, f"an epoch or more for each stage, of {config.epochs},")
    need("worker_timeout", lambda v: v >= 5, "a number of 5 or more seconds")
    for key in ("augment_probability", "erase", "mix_switch"):
        need(key, lambda v: 0 <= v <= 1, "a probability, 0 to 1,")
    for key in ("augment_std", "color_jitter", "mixup", "cutmix", "mix_off_epochs"):
        need(key, lambda v: 0 <= v < math.inf, "a number of 0 or more")
    need("augment_magnitude", lambda v: 0 <= v <= 10, "a number from 0 to 10")
    need("augment_layers", lambda v: v >= 1, "a whole number of 1 or more")
    need("repeats", lambda v: 1 <= v <= config.batch_size, f"1 to the batch's {config.batch_size} images")
    need("mix_off_epochs", lambda v: v <= config.epochs, f"at most the run's {config.epochs} epochs")
    need("val_split", lambda v: 0 < v < 1, "a share between 0 and 1")
    need("warmup_epochs", lambda v: v <= config.epochs, f"at most the run's {config.epochs} epochs")
    need("min_lr", lambda v: v <= config.lr, f"at most the peak learning rate, {config.lr:g},")
    if config.schedule == "one-cycle":
        need("warmup_epochs", lambda v: not v, "0 with the schedule one-cycle, which rises by itself,")
    need("step_epochs", lambda v: v and v[0] > 0 and v == sorted(set(v)) and v[-1] < math.inf,
         "one number above 0, or several in ascending order,")  # fmt: skip
    if config.schedule == "exponential":
        need("step_epochs", lambda v: len(v) == 1, "one number with the schedule exponential")
    if config.loss == "focal":  # which asks how right an image's one class is
        for key in ("mixup", "cutmix"):
            need(key, lambda v: not v, "0 with the loss focal")


def checkpoint_steps(config: TrainConfig | RunConfig) -> int | None:
    every = str(config.checkpoint_every)
    return int(every) if re.fullmatch(r"\d+", every) else None


def checkpoint_seconds(config: TrainConfig | RunConfig) -> float | None:
    minutes = re.fullmatch(r"(\d+\.?\d*) ?m(in)?", str(config.checkpoint_every))
    return 60 * float(minutes[1]) if minutes else None


def text(config: TrainConfig) -> str:
    """The YAML of all flags, as `read` takes it."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def plain(config: TrainConfig) -> dict[str, Any]:
    """The flags as JSON and YAML can hold them."""
    return {f.name: to_data(getattr(config, f.name)) for f in fields(TrainConfig)}


def yaml_of(path: Path | str) -> dict[str, Any]:
    """The values of a YAML file by name. Raises InputError."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise InputError(f"no configuration at {str(path)!r}: a YAML file of flags is needed") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds {type(values).__name__}, not flags: lines like `epochs: 10` are needed")
    return values


def read(path: Path | str) -> dict[str, Any]:
    """The values of a YAML of flags, by field name; cyclopts and TrainConfig check them. Raises InputError."""
    values = yaml_of(path)
    known = {f.name for f in fields(TrainConfig)}
    values = {str(key).replace("-", "_"): value for key, value in values.items()}
    for key in values.keys() - known:
        raise InputError(f"{path} sets {key!r}, which is no flag of kcnn train")
    if isinstance(values.get("arch"), dict):
        values["arch"] = from_data(values["arch"])
    return values
