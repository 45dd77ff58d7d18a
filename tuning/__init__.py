"""Searches over what the trainer runs."""

import trainers  # noqa: F401  (first, as it sees to Ctrl-C while libraries load)
from tuning.project import Result, search
from tuning.space import Limits, Ranges

__all__ = ["Limits", "Ranges", "Result", "search"]
