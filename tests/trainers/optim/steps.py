"""A few training steps on noise, as a run makes them."""

import keras
import numpy as np
import tensorflow as tf

from trainers.config import TrainConfig
from trainers.distribute.strategy import make_strategy
from trainers.network import networks
from trainers.optim.optimizers import make_optimizer
from trainers.settings import resolve
from trainers.state import make_state, precision
from trainers.step import train_function

# After one step of this, the weights have moved by the gradient itself.
BARE = {"optimizer": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant",
        "warmup_epochs": 0.0, "clip_norm": 0.0}  # fmt: skip


def run(arch, steps=1, **flags):
    """(losses, what the steps changed in the weights and averages, the network, its settings) with random layers on."""
    given = {"resolution": 32, "batch_size": 8, "epochs": 5, "drop": 0.5, "drop_path": 0.5, "recipe": "digits"}
    config = resolve(TrainConfig(arch=arch, **given | BARE | flags))
    strategy = make_strategy(config.strategy, config.replicas)
    keras.utils.set_random_seed(1)
    with strategy.scope(), precision(config.precision):
        model, plain = networks(config, 10)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = config.sync_bn
        state = make_state(model, make_optimizer(config, 5, model), averaged=bool(config.ema), plain=plain)
        step = train_function(state, config, strategy)
    before = [v.numpy() for v in (*model.weights, *state.ema)]
    draws = np.random.default_rng(0)
    images = draws.integers(0, 255, (64, config.resolution, config.resolution, 3)).astype("uint8")
    data = {"image": images, "label": draws.integers(0, 10, 64).astype("int32")}

    def pipeline(context):
        part = config.global_batch // context.num_replicas_in_sync
        return tf.data.Dataset.from_tensor_slices(data).batch(part, True).repeat()

    series = step(iter(strategy.distribute_datasets_from_function(pipeline)), tf.constant(steps))
    changes = [v.numpy() - b for v, b in zip((*model.weights, *state.ema), before, strict=True)]
    return series["loss"].numpy(), changes, model, config
