"""TrainConfig: the only source of a run's flags, their defaults and help, and of the YAML in its folder."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from cyclopts import Group, Parameter

from kcnn.arch import number
from kcnn.errors import InputError
from kcnn.families import get
from trainers.recipes import RECIPES, choose

WHAT, DATA, TRAIN, DEVICES, RUN = (Group.create_ordered(name) for name in
                                   ("Network", "Data", "Training", "Devices", "Run"))  # fmt: skip
RECIPE = "(default: the recipe's)"
GROWTH = {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}  # EfficientNet's (https://arxiv.org/abs/1905.11946), Section 4
RECIPE_S: Any = None  # until `resolve` puts the recipe's value in its place


def flag(group: Group, help: str, **more: Any) -> Parameter:
    return Parameter(group=group, help=help, **more)


@Parameter(name="*")
@dataclass(frozen=True)
class TrainConfig:
    """What a training run is. A value of None is for the recipe, the data or the machine to say; see `resolve`."""

    arch: Annotated[str, flag(WHAT, "Name of the network; `kcnn info --list` has them all.")] = "efficientnet-b0"
    width: Annotated[float, flag(WHAT, "Multiplier of its widths.")] = 1.0
    depth: Annotated[float, flag(WHAT, "Multiplier of its depths.")] = 1.0
    phi: Annotated[
        float, flag(WHAT, "Compound scaling: depth x alpha^phi, width x beta^phi, resolution x gamma^phi; 0: none.")
    ] = 0.0
    alpha: Annotated[float, flag(WHAT, "Growth of the depth with phi (default: --compound's, else 1.2).")] = RECIPE_S
    beta: Annotated[float, flag(WHAT, "Growth of the width with phi (default: --compound's, else 1.1).")] = RECIPE_S
    gamma: Annotated[float, flag(WHAT, "Growth of the resolution with phi (default: --compound's, else 1.15).")] = (
        RECIPE_S
    )
    compound: Annotated[
        str | None,
        flag(WHAT, "What tuning.compound found: alpha, beta, gamma, and its network's stem and resolution at phi 0."),
    ] = None
    resolution: Annotated[int, flag(WHAT, f"Side of its square input in pixels {RECIPE}, or the network's own.")] = (
        RECIPE_S
    )
    stem: Annotated[
        Literal["auto", "standard", "small"],
        flag(WHAT, "Strides of the stem; auto: small (none) for inputs of 64 pixels and less."),
    ] = "auto"
    drop: Annotated[float | None, flag(WHAT, "Dropout before the classifier (default: the network's).")] = None
    drop_path: Annotated[
        float | None,
        flag(
            WHAT, "Stochastic depth, at its last block (default: the network's); networks without shortcuts ignore it."
        ),
    ] = None
    bn_momentum: Annotated[
        float | None,
        flag(
            WHAT,
            "Share of its old value that batch normalization's moving mean keeps in a step (default: the network's).",
        ),
    ] = None
    weights: Annotated[str | None, flag(WHAT, "Weights to start from (default: random).")] = None

    data: Annotated[
        str,
        flag(
            DATA,
            "digits (embedded, offline), tfds:NAME, or a folder with train/ and val/ of one folder a class each, "
            "or just one folder a class.",
        ),
    ] = "digits"
    data_dir: Annotated[str | None, flag(DATA, "Where tensorflow-datasets keeps its data.")] = None
    val_split: Annotated[float, flag(DATA, "Share for validation of data that has no split of its own.")] = 0.1
    on_corrupt: Annotated[
        Literal["error", "skip"],
        flag(DATA, "A broken image: stop and name it, or decode all once beforehand and leave broken ones out."),
    ] = "error"
    crop_scale: Annotated[
        float,
        flag(DATA, f"Smallest share of an image's area that a random training crop has {RECIPE}; 1: no random crops."),
    ] = RECIPE_S
    flip: Annotated[bool, flag(DATA, f"Mirror training images at random {RECIPE}.")] = RECIPE_S
    eval_crop: Annotated[
        float, flag(DATA, f"Side of the central crop in evaluation, as a share of the shorter side {RECIPE}.")
    ] = RECIPE_S

    recipe: Annotated[
        str | None,
        flag(
            TRAIN,
            f"Named settings, which flags override: {', '.join(RECIPES)} (default: digits for digits, else default).",
        ),
    ] = None
    epochs: Annotated[int, flag(TRAIN, f"Passes over the training images {RECIPE}.")] = RECIPE_S
    batch_size: Annotated[int, flag(TRAIN, f"Global batch: images in a step, over all replicas {RECIPE}.")] = RECIPE_S
    optimizer: Annotated[
        Literal["sgd", "adamw"], flag(TRAIN, f"sgd: L2 in the gradient; adamw: decoupled {RECIPE}.")
    ] = RECIPE_S
    lr: Annotated[float, flag(TRAIN, "Peak learning rate (default: lr-base times batch-size / 256).")] = RECIPE_S
    lr_base: Annotated[float, flag(TRAIN, f"Peak learning rate for a batch of 256 {RECIPE}.")] = RECIPE_S
    momentum: Annotated[float, flag(TRAIN, f"Of SGD {RECIPE}.")] = RECIPE_S
    weight_decay: Annotated[float, flag(TRAIN, f"Of kernels; biases and normalization go without {RECIPE}.")] = RECIPE_S
    schedule: Annotated[Literal["cosine", "constant"], flag(TRAIN, f"Learning rate after the warmup {RECIPE}.")] = (
        RECIPE_S
    )
    warmup_epochs: Annotated[float, flag(TRAIN, f"Epochs in which it grows from 0 {RECIPE}.")] = RECIPE_S
    label_smoothing: Annotated[float, flag(TRAIN, f"Share of a label spread over all classes {RECIPE}.")] = RECIPE_S
    ema: Annotated[
        float,
        flag(TRAIN, f"Decay of the weights' moving average, which is then evaluated and saved; 0: none {RECIPE}."),
    ] = RECIPE_S
    clip_norm: Annotated[float, flag(TRAIN, f"Largest global norm of the gradient; 0: any {RECIPE}.")] = RECIPE_S

    strategy: Annotated[
        Literal["auto", "one-device", "mirrored"], flag(DEVICES, "auto: all visible GPUs, else the CPU.")
    ] = "auto"
    replicas: Annotated[
        int | None, flag(DEVICES, "Replicas of mirrored: GPUs, or logical CPUs where there is none.")
    ] = None
    precision: Annotated[
        Literal["float32", "mixed_bfloat16", "mixed_float16"], flag(DEVICES, "Of activations; weights are float32.")
    ] = "float32"
    jit: Annotated[Literal["auto", "on", "off"], flag(DEVICES, "Compile with XLA; auto: on GPUs.")] = "auto"
    sync_bn: Annotated[bool, flag(DEVICES, "Batch normalization over the global batch, not each replica's.")] = False
    deterministic: Annotated[bool, flag(DEVICES, "Bitwise repeatable, somewhat slower.")] = False

    run_dir: Annotated[str | None, flag(RUN, "The run's folder (default: logs/ARCH-DATA-TIME).")] = None
    resume: Annotated[
        str | None,
        flag(RUN, "Go on with the run in this folder; auto: with the one in --run-dir, if there is one."),
    ] = None
    checkpoint_every: Annotated[int | None, flag(RUN, "Steps between checkpoints (default: an epoch's).")] = None
    keep: Annotated[int, flag(RUN, "Checkpoints to keep, besides the best.")] = 3
    seed: Annotated[int, flag(RUN, "Of every random draw.")] = 0
    dry_run: Annotated[bool, flag(RUN, "Say what would be run, and stop.", negative="")] = False


# What may change when a run goes on: how long and where it runs, not what it computes.
RESUMABLE = (
    "epochs",
    "data_dir",
    "strategy",
    "replicas",
    "jit",
    "run_dir",
    "resume",
    "checkpoint_every",
    "keep",
    "dry_run",
)


def resolve(config: TrainConfig) -> TrainConfig:
    """The config with the recipe's values where it has None, checked. Raises InputError."""
    name = config.recipe or choose(config.data)
    if name not in RECIPES:
        raise InputError(f"recipe {name!r}: one of {', '.join(RECIPES)} is needed")
    config = grown(config)
    unset = {key: value for key, value in RECIPES[name].items() if getattr(config, key) is None}
    if config.phi and "resolution" in unset:
        unset["resolution"] = round(unset["resolution"] * config.gamma**config.phi)
    config = replace(config, recipe=name, **unset)
    if config.lr is None:
        config = replace(config, lr=config.lr_base * config.batch_size / 256)
    check(config)
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
    if found.get("arch") == get(config.arch).name:
        if config.stem == "auto":
            config = replace(config, stem=found.get("stem", "auto"))
        if config.resolution is None and number(size := found.get("resolution")):
            config = replace(config, resolution=round(size * config.gamma**config.phi))
    return config


def check(config: TrainConfig) -> None:
    def need(key: str, holds: Any, right: str) -> None:
        if getattr(config, key) is not None and not holds(getattr(config, key)):
            raise InputError(f"{key.replace('_', '-')} {getattr(config, key)!r}: {right} is needed")

    for key in ("epochs", "batch_size", "resolution", "replicas", "checkpoint_every", "keep"):
        need(key, lambda v: v >= 1, "a whole number of 1 or more")
    for key in ("lr_base", "lr"):  # one follows from the other
        need(key, lambda v: 0 < v < math.inf, "a number above 0")
    for key in ("weight_decay", "clip_norm", "warmup_epochs"):
        need(key, lambda v: 0 <= v < math.inf, "a number of 0 or more")
    for key in ("drop", "drop_path", "label_smoothing", "ema", "momentum", "bn_momentum", "seed"):
        top = 2**31 if key == "seed" else 1
        need(key, lambda v, top=top: 0 <= v < top, f"a number from 0 to below {top}")
    for key in ("crop_scale", "eval_crop"):
        need(key, lambda v: 0 < v <= 1, "a share above 0, at most 1,")
    need("val_split", lambda v: 0 < v < 1, "a share between 0 and 1")
    need("warmup_epochs", lambda v: v <= config.epochs, f"at most the run's {config.epochs} epochs")


def text(config: TrainConfig) -> str:
    """The YAML of all flags, as `read` takes it."""
    return yaml.safe_dump(asdict(config), sort_keys=False)


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
    return values
