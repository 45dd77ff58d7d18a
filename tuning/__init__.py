"""Searches over what the trainer runs."""

from kcnn import starting

starting.need_tensorflow()

from tuning.trials.search import Result, search  # noqa: E402
from tuning.trials.space import Limits, Ranges  # noqa: E402

__all__ = ["Limits", "Ranges", "Result", "search"]
