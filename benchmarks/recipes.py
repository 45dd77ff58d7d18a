"""What a recipe is worth: its validation accuracy against a bare configuration's, over several seeds.

python -m benchmarks.recipes            # digits, and pictures drawn here: 3 seeds each, some 15 minutes on two cores

Bare is the same network, data, resolution, batch and number of epochs with AdamW at a constant learning rate and no
warmup, decay, crops, mirror images, augmentation, smoothing or averages. The difference is taken seed by seed.
"""

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

BARE = {"optimizer": "adamw", "lr": 1e-3, "schedule": "constant", "warmup_epochs": 0.0, "weight_decay": 0.0,
        "label_smoothing": 0.0, "ema": 0.0, "mixup": 0.0, "cutmix": 0.0, "augment": "none", "erase": 0.0,
        "color_jitter": 0.0, "crop_scale": 1.0, "flip": False, "drop": 0.0, "drop_path": 0.0, "clip_norm": 0.0,
        "layer_decay": 1.0, "loss": "cross-entropy", "repeats": 1}  # fmt: skip
SHAPES, TEXTURES, SIDE = ("disc", "triangle"), ("stripes", "dots"), 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of each run (default: 12 on digits, 40 on the pictures)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw_pictures(Path(folder, "pictures"))
        pictures = {"data": str(Path(folder, "pictures")), "recipe": "small-data", "resolution": 32, "batch_size": 32}
        small = {"arch": "resnet-18", "width": 0.25}
        compare("digits", small | {"recipe": "digits"}, args.epochs or 12, args.seeds, Path(folder))
        compare("pictures", small | pictures, args.epochs or 40, args.seeds, Path(folder))


def compare(name: str, flags: dict, epochs: int, seeds: int, folder: Path) -> None:
    from trainers import TrainConfig, fit

    gains = []
    for seed in range(seeds):
        accuracy = {}
        for side, changes in ((flags["recipe"], {}), ("bare", BARE)):
            run = folder / f"{name}-{side}-{seed}"
            config = TrainConfig(**(flags | changes | {"epochs": epochs, "seed": seed, "run_dir": str(run)}))
            accuracy[side] = fit(config).figures["val_accuracy"]
        gains.append(100 * (accuracy[flags["recipe"]] - accuracy["bare"]))
        print(f"{name}, seed {seed}:", "  ".join(f"{side} {value:.2%}" for side, value in accuracy.items()), flush=True)
    spread = np.std(gains, ddof=1) if seeds > 1 else math.nan
    print(
        f"{name}: {flags['recipe']} is {np.mean(gains):+.2f} points over bare, standard deviation {spread:.2f} "
        f"over {seeds} seeds",
        flush=True,
    )


def draw_pictures(root: Path, train: int = 80, val: int = 100) -> None:
    """Four classes, a shape filled with a texture each: of any colour, size, place and turn, on a noisy ground."""
    draws = np.random.default_rng(0)
    for shape in SHAPES:
        for texture in TEXTURES:
            for part, count in (("train", train), ("val", val)):
                folder = root / part / f"{shape}-{texture}"
                folder.mkdir(parents=True)
                for i in range(count):
                    picture(shape, texture, draws).save(folder / f"{i}.png")


def picture(shape: str, texture: str, draws: np.random.Generator) -> Image.Image:
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    turn, period = draws.uniform(0, math.pi), draws.uniform(9, 13)
    along = np.cos(2 * math.pi / period * (x * math.cos(turn) + y * math.sin(turn)) + draws.uniform(0, 6))
    across = np.cos(2 * math.pi / period * (y * math.cos(turn) - x * math.sin(turn)) + draws.uniform(0, 6))
    pattern = {"stripes": along > 0, "dots": along + across > 0.6, "checks": along * across > 0}[texture]
    colors = draws.integers(0, 256, (3, 3))
    ground = np.clip(colors[0] + draws.normal(0, 10, (SIDE, SIDE, 3)), 0, 255)
    filled = np.where(pattern[..., None], colors[1], colors[2]) + draws.normal(0, 5, (SIDE, SIDE, 3))
    mask = Image.new("L", (SIDE, SIDE))
    radius = draws.uniform(20, 28)
    cx, cy = draws.uniform(radius, SIDE - radius, 2)
    if shape == "disc":
        ImageDraw.Draw(mask).ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=255)
    else:
        sides = {"triangle": 3, "square": 4}[shape]
        ImageDraw.Draw(mask).regular_polygon((cx, cy, radius), sides, rotation=draws.uniform(0, 360), fill=255)
    pixels = np.where(np.asarray(mask)[..., None] > 0, np.clip(filled, 0, 255), ground)
    return Image.fromarray(pixels.astype(np.uint8))


if __name__ == "__main__":
    main()
