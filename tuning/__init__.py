"""Searches over what the trainer runs."""

from tuning.project import Result, search
from tuning.space import Limits, Ranges

__all__ = ["Limits", "Ranges", "Result", "search"]
