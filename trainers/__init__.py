"""Training on tf.distribute: one configuration, one step, one loop."""

from trainers.config import TrainConfig
from trainers.training import Result, fit

__all__ = ["Result", "TrainConfig", "fit"]
