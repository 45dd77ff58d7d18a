"""A side that trains with kcnn: `python -m benchmarks.sides.kcnn_train NETWORK BATCH PIXELS [FLAG=VALUE ...]`."""

import sys
from typing import Any

import yaml

from benchmarks.turns import requests
from trainers import TrainConfig
from trainers.lab.throughput import rehearsal
from trainers.settings import resolve

CLASSES = 1000
SGD: dict[str, Any] = {
    "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant",
    "warmup_epochs": 0.0, "stem": "standard", "recipe": "default", "label_smoothing": 0.0, "ema": 0.0,
    "drop_path": 0.0, "mixup": 0.0, "cutmix": 0.0, "clip_norm": 0.0,
}  # fmt: skip


def main() -> None:
    network, batch, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    flags = {key: yaml.safe_load(value) for key, value in (word.split("=") for word in sys.argv[4:])}
    config = resolve(TrainConfig(arch=network, batch_size=batch, resolution=side, **(SGD | flags)))
    train, *_ = rehearsal(config, CLASSES)
    for steps in requests():
        train(steps)


if __name__ == "__main__":
    main()
