"""What a search maximizes: a metric of a run, alone or against what the network costs."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kcnn.errors import InputError

METRICS = {"val_accuracy": "max", "best_val_accuracy": "max", "val_top5": "max", "val_loss": "min"}
COSTS = ("macs", "params", "activations", "memory", "latency_ms")

MOST = 10  # an exponent beyond which one cost is all that counts


@dataclass(frozen=True)
class Objective:
    """metric * (cost / reference)^exponent * ..., to be maximized or minimized as the metric says.

    The reward of MnasNet (https://arxiv.org/abs/1807.11626), Equation 2, whose target is the reference: the bound on
    that cost where there is one, else what the network costs unscaled.
    """

    metric: str
    exponents: tuple[tuple[str, float], ...] = ()

    @property
    def direction(self) -> str:
        return METRICS[self.metric]

    def score(self, figures: Mapping[str, float], costs: Mapping[str, float], reference: Mapping[str, float]) -> float:
        """Raises InputError where the metric is no finite number."""
        value = figures[self.metric]
        for cost, exponent in self.exponents:
            value *= (costs[cost] / reference[cost]) ** exponent
        if not math.isfinite(value):
            raise InputError(f"{self.metric} is {value}")
        return value


def parse(text: str) -> Objective:
    """ "val_accuracy", "val_accuracy:macs^-0.07" or with several costs. Raises InputError."""
    metric, *terms = text.replace(" ", "").split(":")
    if metric not in METRICS:
        raise InputError(f"objective {text!r}: no run reports {metric!r}, one of {', '.join(METRICS)} is needed")
    exponents = []
    for term in terms:
        match = re.fullmatch(r"(\w+)\^([+-]?\d*\.?\d+)", term)
        if not match or match[1] not in COSTS:
            raise InputError(
                f"objective {text!r}: {term!r} is no cost to a power, as macs^-0.07 is; costs are {', '.join(COSTS)}"
            )
        exponents.append((match[1], float(match[2])))
        if not 0 < abs(exponents[-1][1]) <= MOST:
            raise InputError(f"objective {text!r}: an exponent of at most {MOST} is needed, and none of 0")
    if len({cost for cost, _ in exponents}) < len(exponents):
        raise InputError(f"objective {text!r}: it names a cost twice")
    for cost, exponent in exponents:
        if (exponent > 0) == (METRICS[metric] == "max"):
            sign = "negative" if METRICS[metric] == "max" else "positive"
            raise InputError(f"objective {text!r}: it would reward {cost}; a {sign} exponent is needed")
    return Objective(metric, tuple(exponents))
