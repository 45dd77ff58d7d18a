"""A word during a run that goes worse than its learning rate warrants, while there is time to start it anew."""

from collections.abc import Mapping
from typing import Any

from trainers.reports.verdict import LAG, History, advice, percent, wilson

TENTH = 0.1  # of the epochs: a run that has learnt nothing in them is not waited for
STEPS = 100  # within which a network may still be at chance
GROWN = 1.2  # times its lowest value, and rising: more than other images of the same kind make of a loss


def warning(
    history: History, *, epochs: int, steps_per_epoch: int, val_images: int, chance: float, settings: Mapping[str, Any]
) -> str | None:
    """A line on what goes wrong, said after the epoch in which it is first seen; else None.

    history: the figures of the epochs so far. chance: the validation accuracy of always giving the same answer.
    settings: the run's flags, for the advice.
    """
    seen = [
        found(history[:k], epochs, steps_per_epoch, val_images, chance, settings["warmup_epochs"])
        for k in (len(history) - 1, len(history))
    ]
    if not seen[1] or (seen[0] and seen[0][0] == seen[1][0]):
        return None
    why, what = seen[1]
    lines = advice(why, settings)
    return f"{what}; stop it and try " + (f"{lines[0].replace('`', '')}" if lines else "another --lr: kcnn find-lr")


def found(
    history: History, epochs: int, steps_per_epoch: int, val_images: int, chance: float, warmup: float
) -> tuple[str, str] | None:
    """The kind of advice that is needed, and what is wrong in words."""
    k = len(history)
    if k < max(1, TENTH * epochs, warmup):
        return None
    last, place = history[-1], f"after {k} of {epochs} epochs"
    if k * steps_per_epoch >= STEPS and wilson(last["val_accuracy"], val_images)[0] <= chance:
        right = f"{percent(last['val_accuracy'])} right in validation, {percent(chance)} by chance"
        return "lagging" if last["accuracy"] > chance + LAG else "diverged", f"still at chance {place} ({right})"
    losses = [figures["loss"] for figures in history]
    if k > 2 and losses[-1] > losses[-2] > losses[-3] and losses[-1] > GROWN * min(losses):
        return "diverged", f"the loss grows: {losses[-1]:.4g} {place}, {min(losses):.4g} at best"
    return None
