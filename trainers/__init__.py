"""Training on tf.distribute: one configuration, one step, one loop."""

from typing import TYPE_CHECKING, Any

from kcnn.terminal import starting
from trainers.config import TrainConfig

if TYPE_CHECKING:
    from trainers.training import Result, fit

__all__ = ["Result", "TrainConfig", "fit"]


def __getattr__(name: str) -> Any:
    """Loads TensorFlow with the first use of `fit` or `Result`, so that a command line can be read without it."""
    if name not in ("Result", "fit"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    starting.need_tensorflow()
    from trainers import training

    return getattr(training, name)
