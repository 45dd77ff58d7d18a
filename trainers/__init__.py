"""Training on tf.distribute: one configuration, one step, one loop."""

from kcnn import starting  # before Keras: it says in one line what that cannot load

import keras  # isort: skip

if keras.backend.backend() != "tensorflow":
    starting.refuse(f"KERAS_BACKEND {keras.backend.backend()!r}: training, evaluation and export need 'tensorflow'")

from trainers.config import TrainConfig
from trainers.training import Result, fit

__all__ = ["Result", "TrainConfig", "fit"]
