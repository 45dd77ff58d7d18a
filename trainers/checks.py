"""Checks of settings. An InputError says in one line what is wrong with a flag, and what is right."""

import math
import re
from dataclasses import fields
from typing import Any

from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.recipes import PLAIN
from trainers.runs.typed import brief

MOST_REPLICAS = 4096  # on one machine: making that many devices takes seconds
MOST_MILESTONES = 100_000
LARGEST_INT, LARGEST_FLOAT = 2**31 - 1, 3.4e38
SMALLEST_FLOAT = 1.2e-38  # above 0; below it, TensorFlow computes with 0


def bounded(config: TrainConfig) -> None:
    """Raises InputError for empty text, and for a number that TensorFlow's 32 bits cannot hold.

    It is called before anything is computed with the numbers.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        if value == "":
            raise InputError(f"{field.name.replace('_', '-')} '': leave it out, or give it a value")
        for v in value if isinstance(value, list | tuple) else [value]:
            most = LARGEST_FLOAT if isinstance(v, float) else LARGEST_INT if isinstance(v, int) else None
            if most is not None and not abs(v) <= most:  # NaN is not, either
                name = field.name.replace("_", "-")
                raise InputError(f"{name} {brief(repr(v), 40)}: a number of at most {most:.10g} is needed")


def check(config: TrainConfig) -> None:
    """Raises InputError for a setting that no run can have."""
    bounded(config)

    def need(key: str, holds: Any, right: str) -> None:
        if getattr(config, key) is not None and not holds(getattr(config, key)):
            raise InputError(f"{key.replace('_', '-')} {getattr(config, key)!r}: {right} is needed")

    for field in fields(config):
        need(field.name, lambda v: not isinstance(v, str) or is_text(v), "a name in UTF-8")
    for key in ("epochs", "batch_size", "accumulate_steps", "resolution", "replicas", "keep", "patience"):
        need(key, lambda v: v >= 1, "a whole number of 1 or more")
    for key in ("lr_base", "lr", "epsilon"):  # each of the first two follows from the other
        need(key, lambda v: v >= SMALLEST_FLOAT, f"a number above 0, at least {SMALLEST_FLOAT:g},")
    for key in ("weight_decay", "clip_norm", "warmup_epochs", "min_lr", "focal_gamma", "sam", "recover", "precise_bn"):
        need(key, lambda v: v >= 0, "a number of 0 or more")
    for key in ("drop", "drop_path", "label_smoothing", "ema", "momentum", "bn_momentum", "seed"):
        top = 2**31 if key == "seed" else 1
        need(key, lambda v, top=top: 0 <= v < top, f"a number from 0 to below {top}")
    for key in ("crop_scale", "eval_crop", "layer_decay", "step_gamma"):
        need(key, lambda v: 0 < v <= 1, "a share above 0, at most 1,")
    need(
        "checkpoint_every",
        lambda v: (checkpoint_steps(v) or checkpoint_seconds(v) or 0) > 0,
        "a whole number of steps, or minutes like 10m,",
    )
    need(
        "progressive",
        lambda v: v and v == sorted(set(v)) and v[0] >= 1 and v[-1] < (config.resolution or math.inf),
        f"resolutions in ascending order below the last stage's, {config.resolution},",
    )
    epochs = config.epochs or 0
    need("progressive", lambda v: len(v) < epochs, f"an epoch or more for each stage, of {config.epochs},")
    need("worker_timeout", lambda v: 5 <= v <= 1e6, "a number of seconds from 5 to a million")
    need("replicas", lambda v: v <= MOST_REPLICAS, f"at most {MOST_REPLICAS:,}")
    for key in ("augment_probability", "erase", "mix_switch"):
        need(key, lambda v: 0 <= v <= 1, "a probability, 0 to 1,")
    for key in ("augment_std", "color_jitter", "mixup", "cutmix", "mix_off_epochs"):
        need(key, lambda v: v >= 0, "a number of 0 or more")
    need("augment_magnitude", lambda v: 0 <= v <= 10, "a number from 0 to 10")
    need("augment_layers", lambda v: 1 <= v <= 100, "a whole number from 1 to 100")
    need("repeats", lambda v: 1 <= v <= config.batch_size, f"1 to the batch's {config.batch_size} images")
    need("mix_off_epochs", lambda v: v <= config.epochs, f"at most the run's {config.epochs} epochs")
    need("freeze", lambda v: v in ("none", "backbone") or 0 < number(v) < 10_000, "none, backbone or a stage's number")
    if config.freeze == "none":
        need("unfreeze_epoch", lambda v: False, "--freeze, without which nothing is frozen,")
    need("unfreeze_epoch", lambda v: 2 <= v <= (config.epochs or 0), f"an epoch from 2 to the last, {config.epochs},")
    if config.features_only:
        need("freeze", lambda v: v == "backbone", "backbone with features-only")
        need("unfreeze_epoch", lambda v: False, "no epoch with features-only, whose features are computed once,")
        need("progressive", lambda v: False, "no stages with features-only, whose features are computed once,")
        for key, plain in PLAIN.items():
            need(key, lambda v, plain=plain: v == plain, f"{plain} with features-only, which augments nothing,")
    need("val_split", lambda v: 0 < v < 1, "a share between 0 and 1")
    need("warmup_epochs", lambda v: v <= config.epochs, f"at most the run's {config.epochs} epochs")
    need("min_lr", lambda v: v <= config.lr, f"at most the peak learning rate, {config.lr:g},")
    if config.schedule == "one-cycle":
        need("warmup_epochs", lambda v: not v, "0 with the schedule one-cycle, which rises by itself,")
    need(
        "step_epochs",
        lambda v: v and v[0] > 0 and v == sorted(set(v)),
        "one number above 0, or several in ascending order,",
    )
    most = MOST_MILESTONES
    need("step_epochs", lambda v: len(v) > 1 or epochs / v[0] <= most, f"at most {most:,} steps in the run")
    if config.schedule == "exponential":
        need("step_epochs", lambda v: len(v) == 1, "one number with the schedule exponential")
    if config.loss == "focal":  # it is defined for images of one class
        for key in ("mixup", "cutmix"):
            need(key, lambda v: not v, "0 with the loss focal")


def number(value: str) -> int:
    """The number that a text of digits is, or 0."""
    return int(value) if re.fullmatch(r"\d{1,4}", value, re.ASCII) else 0


def is_text(value: str) -> bool:
    """Whether a text is valid UTF-8, as a file needs it: names of files may hold other bytes."""
    try:
        return b"\0" not in value.encode("utf-8")
    except UnicodeEncodeError:
        return False


def checkpoint_steps(every: int | str | None) -> int | None:
    """The steps between checkpoints; None where --checkpoint-every is a time."""
    return int(every) if re.fullmatch(r"\d{1,9}", str(every)) and every else None


def checkpoint_seconds(every: int | str | None) -> float | None:
    """The seconds between checkpoints; None where --checkpoint-every is a number of steps."""
    minutes = re.fullmatch(r"(\d{1,9}\.?\d{0,9}) ?m(in)?", str(every))
    return 60 * float(minutes[1]) if minutes else None
