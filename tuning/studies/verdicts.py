"""Whether a claim holds, by a test that is fixed before anything is trained.

A claim is one or more contrasts: sums of figures of what is compared, each with a factor, which the claim says are
above 0. Runs of one seed give one value of each. The test is Student's, of values from independent seeds, two-sided at
5 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.05
POWER = 0.8  # with which more seeds would tell
MOST_SEEDS = 100  # more are not worth asking for
HOLDS, FAILS, OPEN = "it holds here", "it does not hold here", "this data cannot tell"


@dataclass(frozen=True)
class Contrast:
    """what: the sentence that says that the sum is above 0. factors: of each arm's figure. margin: what is added."""

    what: str
    factors: Mapping[str, float]
    figure: str = "val_accuracy"
    margin: float = 0.0

    def value(self, figures: Mapping[str, Mapping[str, float]]) -> float:
        """The sum, from the figures of each arm of one seed."""
        return sum(factor * figures[arm][self.figure] for arm, factor in self.factors.items()) + self.margin


@dataclass(frozen=True)
class Outcome:
    """What the seeds say of a contrast. low, high: between which its mean lies, to 95 %. p: how often chance alone
    gives a mean as far from 0, or further, on either side."""

    what: str
    figure: str
    values: tuple[float, ...]
    mean: float
    low: float
    high: float
    p: float

    @property
    def side(self) -> int:
        """1 where the contrast is above 0 beyond chance, -1 where below, else 0."""
        return 0 if self.p > LEVEL else (1 if self.mean > 0 else -1)

    @property
    def seeds(self) -> int | None:
        """How many would tell; None where these do, or none would."""
        return needed(self.mean, float(np.std(self.values, ddof=1))) if self.p > LEVEL else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"values": list(self.values), "seeds": self.seeds}


def outcome(contrast: Contrast, values: Sequence[float]) -> Outcome:
    x = np.asarray(values, float)
    mean, spread, n = float(x.mean()), float(x.std(ddof=1)), len(x)
    half = stats.t.ppf(1 - LEVEL / 2, n - 1) * spread / math.sqrt(n)
    # Equal figures of every seed tell how coarse the figure is, not that chance has no part.
    p = float(2 * stats.t.sf(abs(mean) / (spread / math.sqrt(n)), n - 1)) if spread > 0 else 1.0
    return Outcome(contrast.what, contrast.figure, tuple(map(float, x)), mean, mean - half, mean + half, p)


def needed(mean: float, spread: float) -> int | None:
    """The seeds with which a mean and a spread like these would be beyond chance four times out of five; None if more
    than MOST_SEEDS."""
    if not (mean and spread):
        return None
    for n in range(2, MOST_SEEDS + 1):
        limit, shift = stats.t.ppf(1 - LEVEL / 2, n - 1), abs(mean) / spread * math.sqrt(n)
        if stats.nct.sf(limit, n - 1, shift) >= POWER:
            return n
    return None


def verdict(outcomes: Sequence[Outcome]) -> str:
    """HOLDS where all contrasts are above 0, FAILS where one is below (its p counted once for each contrast:
    Bonferroni), each beyond chance; else OPEN."""
    if all(o.side > 0 for o in outcomes):
        return HOLDS
    if any(o.mean < 0 and o.p * len(outcomes) <= LEVEL for o in outcomes):
        return FAILS
    return OPEN


def advice(contrasts: Sequence[Mapping[str, Any]]) -> str:
    """What would tell, where the verdict is OPEN, of outcomes as `to_dict` gives them."""
    seeds = [c["seeds"] for c in contrasts if c["p"] > LEVEL]
    if None in seeds:
        return f"more than {MOST_SEEDS} seeds would be needed, or data on which the networks differ more"
    return f"about {max(s for s in seeds if s)} seeds would tell, if these are typical"
