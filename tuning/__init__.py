"""Searches over what the trainer runs."""

import importlib
from typing import TYPE_CHECKING, Any

from kcnn.terminal import starting

starting.need_tensorflow()  # before KerasTuner loads it with all that it prints

if TYPE_CHECKING:
    from tuning.search import Result, search
    from tuning.trials.options import Limits, Method, Ranges

__all__ = ["Limits", "Method", "Ranges", "Result", "search"]


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first asked for. `tuning.search` is the command's module, which can be called."""
    if name == "search":
        return importlib.import_module("tuning.search")
    if name in __all__:
        return getattr(importlib.import_module("tuning.search"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
