"""Searches over what the trainer runs."""

from tuning.trials.search import Result, search
from tuning.trials.space import Limits, Ranges

__all__ = ["Limits", "Ranges", "Result", "search"]
