"""Training on tf.distribute: one configuration, one step, one loop."""

from trainers.startup import leave_at_interrupt

leave_at_interrupt()

import kcnn  # noqa: E402, F401  (imports TensorFlow without its messages)
from trainers.config import TrainConfig  # noqa: E402
from trainers.fit import Result, fit  # noqa: E402

__all__ = ["Result", "TrainConfig", "fit"]
