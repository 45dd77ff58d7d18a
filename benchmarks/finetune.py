"""What it is worth to start from a run: 60 images of each new class, from scratch, fine-tuned, and on features only.

python -m benchmarks.finetune            # pictures drawn here, 3 seeds: some twenty minutes of CPU time

The source has six classes, a shape filled with a texture each; the new classes are three other pairs. Each seed draws
other training images; all are measured on the same images that none has seen. CPU is what the whole call of
`trainers.fit` took, and what the steps of its epochs took, without building, tracing, the features and the card.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.recipes import picture

SHAPES, TEXTURES = ("disc", "triangle", "square"), ("stripes", "dots", "checks")
NEW = tuple(zip(SHAPES, TEXTURES, strict=True))
OLD = tuple((shape, texture) for shape in SHAPES for texture in TEXTURES if (shape, texture) not in NEW)
NETWORK = {"arch": "resnet-18", "stem": "standard"}
SCRATCH = {"recipe": "small-data", "mixup": 0.0, "mix_off_epochs": 0, "ema": 0.0, "lr_base": 1.6e-2}  # as steps are few
WAYS: dict[str, dict[str, Any]] = {
    "scratch": SCRATCH,
    "scratch, 4 x as long": SCRATCH,
    "fine-tuned": {"weights": "SOURCE"},
    "frozen, then all": {"weights": "SOURCE", "freeze": "backbone", "unfreeze_epoch": 10},
    "features only": {"weights": "SOURCE", "features_only": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=60, help="of each new class to train on")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--width", type=float, default=0.5, help="of resnet-18")
    parser.add_argument("--resolution", type=int, default=224, help="pixels")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["scratch", "fine-tuned", "features only"])
    args = parser.parse_args()
    from trainers import TrainConfig, fit

    with tempfile.TemporaryDirectory() as folder:
        place, source = Path(folder), Path(folder, "run")
        draw(place / "old", OLD, 300, seed=100)
        network = NETWORK | {"width": args.width, "resolution": args.resolution}
        flags = network | {
            "recipe": "default",
            "crop_scale": 0.35,
            "data": str(place / "old"),
            "epochs": 12,
            "batch_size": 32,
        }
        first = fit(TrainConfig(**flags, lr_base=8e-3, run_dir=str(source)))
        print(f"source: {first.figures['val_accuracy']:.2%} of {len(OLD)} classes", flush=True)
        found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in args.ways}
        for seed in range(args.seeds):
            data = place / f"new-{seed}"
            draw(data, NEW, args.images, seed)
            for way, rows in found.items():
                flags = {key: str(source) if value == "SOURCE" else value for key, value in WAYS[way].items()}
                flags |= {"epochs": args.epochs * (4 if "4 x" in way else 1), "seed": seed, "batch_size": 20}
                config = TrainConfig(**network | flags, data=str(data), run_dir=str(place / f"{way}-{seed}"))
                meter, started = Meter(), time.process_time()
                accuracy = fit(config, callbacks=[meter]).figures["val_accuracy"]
                rows.append((accuracy, time.process_time() - started, meter.seconds))
                print(f"seed {seed}, {way}: {accuracy:.2%}, CPU {rows[-1][1]:.1f} s", flush=True)
    for way, rows in found.items():
        accuracy, whole, epochs = np.mean(rows, 0)
        spread = np.std([row[0] for row in rows], ddof=1) if len(rows) > 1 else 0.0
        print(f"{way:<20} {accuracy:.2%} +- {100 * spread:.2f} points   CPU {whole:6.1f} s, epochs {epochs:6.1f} s")


class Meter(keras.callbacks.Callback):
    """Measures the CPU time of training alone: the median epoch between its ends, validation left out, times all."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.spent: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begun = time.process_time()

    def on_test_begin(self, logs: Any = None) -> None:
        self.spent.append(time.process_time() - self.begun)

    @property
    def seconds(self) -> float:
        return float(np.median(self.spent) * len(self.spent))


def draw(root: Path, classes: Iterable[tuple[str, str]], train: int, seed: int, val: int = 100) -> None:
    """Pictures of the classes: training images by the seed, those of validation always the same."""
    for part, count, draws in (
        ("train", train, np.random.default_rng(seed)),
        ("val", val, np.random.default_rng(10_000)),
    ):
        for shape, texture in classes:
            folder = root / part / f"{shape}-{texture}"
            folder.mkdir(parents=True)
            for i in range(count):
                picture(shape, texture, draws).save(folder / f"{i}.png")


if __name__ == "__main__":
    main()
