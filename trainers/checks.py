"""Checks of settings. An InputError says in one line what is wrong with a flag, and what is right."""

import math
import re
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

from kcnn.errors import InputError, shown
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


# Settings whose range depends on no other setting: their names, whether a value is in the range, and what is right.
RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("epochs batch_size accumulate_steps resolution replicas keep patience images_per_class profile", lambda v: v >= 1,
     "a whole number of 1 or more"),
    ("lr_base epsilon", lambda v: v >= SMALLEST_FLOAT, f"a number above 0, at least {SMALLEST_FLOAT:g},"),
    ("lr", lambda v: v == "find" or v >= SMALLEST_FLOAT, f"a number above 0, at least {SMALLEST_FLOAT:g}, or find"),
    ("weight_decay clip_norm warmup_epochs min_lr focal_gamma sam recover precise_bn", lambda v: v >= 0,
     "a number of 0 or more"),
    ("augment_std color_jitter mixup cutmix mix_off_epochs", lambda v: v >= 0, "a number of 0 or more"),
    ("drop drop_path label_smoothing ema momentum bn_momentum", lambda v: 0 <= v < 1, "a number from 0 to below 1"),
    ("seed", lambda v: 0 <= v < 2**31, f"a number from 0 to below {2**31}"),
    ("crop_scale eval_crop layer_decay step_gamma", lambda v: 0 < v <= 1, "a share above 0, at most 1,"),
    ("augment_probability erase mix_switch", lambda v: 0 <= v <= 1, "a probability, 0 to 1,"),
    ("augment_magnitude", lambda v: 0 <= v <= 10, "a number from 0 to 10"),
    ("augment_layers", lambda v: 1 <= v <= 100, "a whole number from 1 to 100"),
    ("val_split", lambda v: 0 < v < 1, "a share between 0 and 1"),
    ("worker_timeout", lambda v: 5 <= v <= 1e6, "a number of seconds from 5 to a million"),
    ("replicas", lambda v: v <= MOST_REPLICAS, f"at most {MOST_REPLICAS:,}"),
    ("checkpoint_every", lambda v: (checkpoint_steps(v) or checkpoint_seconds(v) or 0) > 0,
     "a whole number of steps, or minutes like 10m,"),
    ("time", lambda v: seconds_of(v) > 0, "a time such as 90s, 30m or 2h"),
    ("freeze", lambda v: v in ("none", "backbone") or 0 < number(v) < 10_000, "none, backbone or a stage's number"),
    ("step_epochs", lambda v: v and v[0] > 0 and v == sorted(set(v)),
     "one number above 0, or several in ascending order,"),
)  # fmt: skip


def check(config: TrainConfig) -> None:
    """Raises InputError for a setting that no run can have."""
    bounded(config)
    for field in fields(config):
        need(config, field.name, lambda v: not isinstance(v, str) or is_text(v), "a name in UTF-8")
    for keys, holds, right in RANGES:
        for key in keys.split():
            need(config, key, holds, right)
    check_together(config)


def check_together(config: TrainConfig) -> None:
    """Raises InputError for settings of which each is right and that do not fit each other."""
    right_is = partial(need, config)
    epochs, lr = config.epochs or 0, math.inf if config.lr in (None, "find") else float(config.lr)
    right_is(
        "progressive",
        lambda v: v and all(side > 0 and (side < 1 or side == round(side)) for side in v),
        "a list of resolutions in pixels, or of shares of the last one between 0 and 1,",
    )
    right_is("progressive", lambda v: len(v) < epochs, f"an epoch or more for each stage, of {config.epochs},")
    right_is("repeats", lambda v: 1 <= v <= config.batch_size, f"1 to the batch's {config.batch_size} images")
    if config.features_only:
        right_is("time", lambda v: False, "--epochs with features-only, whose classifier is trained in seconds,")
    right_is("mix_off_epochs", lambda v: v <= epochs, f"at most the run's {config.epochs} epochs")
    if config.freeze == "none":
        right_is("unfreeze_epoch", lambda v: False, "--freeze, without which nothing is frozen,")
    right_is("unfreeze_epoch", lambda v: 2 <= v <= epochs, f"an epoch from 2 to the last, {config.epochs},")
    if config.features_only:
        right_is("cache", lambda v: False, "no cache with features-only, which looks at each image once,")
        right_is("freeze", lambda v: v == "backbone", "backbone with features-only")
        right_is("unfreeze_epoch", lambda v: False, "no epoch with features-only, whose features are computed once,")
        right_is("progressive", lambda v: False, "no stages with features-only, whose features are computed once,")
        for key, plain in PLAIN.items():
            right_is(key, lambda v, plain=plain: v == plain, f"{plain} with features-only, which augments nothing,")
    right_is("warmup_epochs", lambda v: v <= epochs, f"at most the run's {config.epochs} epochs")
    right_is("min_lr", lambda v: v <= lr, f"at most the peak learning rate, {lr:g},")
    if config.schedule == "one-cycle":
        right_is("warmup_epochs", lambda v: not v, "0 with the schedule one-cycle, which rises by itself,")
    most = MOST_MILESTONES
    right_is("step_epochs", lambda v: len(v) > 1 or epochs / v[0] <= most, f"at most {most:,} steps in the run")
    if config.schedule == "exponential":
        right_is("step_epochs", lambda v: len(v) == 1, "one number with the schedule exponential")
    if config.multi_label:
        right_is("loss", lambda v: v == "bce", "bce with multi-label, which asks a yes or no for each label,")
    if config.loss == "focal":  # it is defined for images of one class
        for key in ("mixup", "cutmix"):
            right_is(key, lambda v: not v, "0 with the loss focal")


def stages(config: TrainConfig, resolution: int) -> list[int]:
    """The resolutions of the stages before the last one, in pixels. Raises InputError where they do not grow."""
    given = config.progressive or []
    sides = [max(1, round(side * resolution if side < 1 else side)) for side in given]
    if sides != sorted({side for side in sides if side < resolution}):
        right = f"resolutions in ascending order below the last stage's, {resolution},"
        raise InputError(f"progressive {shown(given)}: {right} are needed")
    return sides


def need(config: TrainConfig, key: str, holds: Any, right: str) -> None:
    """Raises InputError where a setting has a value and that is not right."""
    value = getattr(config, key)
    if value is not None and not holds(value):
        raise InputError(f"{key.replace('_', '-')} {shown(value)}: {right} is needed")


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


def seconds_of(time: str) -> float:
    """The seconds of a time such as 90s, 30m or 2h; 0 for what is none."""
    found = re.fullmatch(r"(\d{1,9}\.?\d{0,9}) ?([smh])", time, re.ASCII)
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
