"""A side that trains with kcnn: `python -m benchmarks.sides.kcnn_train NETWORK BATCH PIXELS [FLAG=VALUE ...]`."""

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml

from benchmarks.turns import requests
from trainers import TrainConfig
from trainers.distribute.strategy import make_strategy
from trainers.network import networks
from trainers.optim.optimizers import make_optimizer
from trainers.settings import resolve
from trainers.state import make_state, precision
from trainers.step import train_function

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
    strategy = make_strategy(config.strategy, config.replicas)
    keras.utils.set_random_seed(0)
    with strategy.scope(), precision(config.precision):
        trained, plain = networks(config, CLASSES)
        state = make_state(trained, make_optimizer(config, 1000, trained), averaged=bool(config.ema), plain=plain)
        train = train_function(state, config, strategy)
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (batch, side, side, 3)).astype("uint8")
    labels = draws.integers(0, CLASSES, batch).astype("int32")
    local = batch // strategy.num_replicas_in_sync
    data = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels}).batch(local, True).cache().repeat()
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: data))
    for steps in requests():
        train(iterator, tf.constant(steps))["loss"].numpy()


if __name__ == "__main__":
    main()
