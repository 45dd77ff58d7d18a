"""Recipes: named settings of a training run. A flag wins over them."""

from typing import Any

Recipe = dict[str, Any]

DEFAULT: Recipe = {
    "epochs": 100, "batch_size": 64, "optimizer": "adamw", "lr_base": 1e-3, "momentum": 0.9, "weight_decay": 0.05,
    "schedule": "cosine", "warmup_epochs": 0.0, "label_smoothing": 0.1, "ema": 0.0, "clip_norm": 0.0,
    "crop_scale": 0.08, "flip": True, "eval_crop": 0.875,
    "augment": "none", "augment_magnitude": 9.0, "augment_std": 0.0, "augment_layers": 2, "augment_probability": 1.0,
    "color_jitter": 0.0, "erase": 0.0, "repeats": 1, "mixup": 0.0, "cutmix": 0.0, "mix_switch": 0.5,
    "mix_off_epochs": 0,
}  # fmt: skip

RECIPES: dict[str, Recipe] = {
    # Decoupled decay (https://arxiv.org/abs/1711.05101) with Inception's crops (https://arxiv.org/abs/1409.4842):
    # fits most networks and folders without a search.
    "default": DEFAULT,
    # Small grey digits: no mirror images, gentle crops, and few steps.
    "digits": DEFAULT | {
        "resolution": 32, "epochs": 12, "lr_base": 8e-3, "label_smoothing": 0.0, "crop_scale": 0.7, "flip": False,
        "eval_crop": 1.0, "warmup_epochs": 1.0, "bn_momentum": 0.9,
    },
}  # fmt: skip


def choose(data: str) -> str:
    """The recipe that fits the data where none is named."""
    return data if data in RECIPES else "default"
