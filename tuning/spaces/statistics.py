"""What error distributions say of design spaces, and of their parameters.

The method is that of Radosavovic et al., 2019 (https://arxiv.org/abs/1905.13214) and 2020
(https://arxiv.org/abs/2003.13678). Errors are those of networks sampled independently within a space.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

Array = np.ndarray
Numbers = Sequence[float] | np.ndarray
RESAMPLES = 10_000
LEVEL = 0.95
PERMUTATIONS = 999
SHARE = 0.25  # of the networks in each resample that asks for the best value


def edf(errors: Numbers, at: Numbers) -> Array:
    """F(e) = the share of the errors that are at most e, at each of the places. RegNet's Equation 1 has "below"."""
    return np.searchsorted(np.sort(errors), at, side="right") / len(errors)


def edf_band(errors: Numbers, at: Numbers, resamples: int = 1000, seed: int = 0) -> tuple[Array, Array]:
    """Between which shares the EDF lies, at each of the places, in 95 % of the bootstrap's samples."""
    below = np.asarray(at)[:, None] >= np.asarray(errors)
    if below.shape[1] < 2:  # of a single network there is but one sample
        return below[:, 0].astype(float), below[:, 0].astype(float)
    found = stats.bootstrap(
        (below,),
        np.mean,
        n_resamples=resamples,
        batch=100,
        axis=-1,
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return found.confidence_interval.low, found.confidence_interval.high


def best_range(values: Numbers, errors: Numbers, seed: int = 0) -> tuple[float, float, float]:
    """(low, median, high) of a parameter in the best network: the likely best range, to 95 %.

    Each resample takes a quarter of the networks, with replacement, and of these the value of the best one. RegNet,
    Section 3.1.
    """
    low, median, high = likely(np.asarray(values, float), best_picks(errors, np.random.default_rng(seed)))
    return float(low), float(median), float(high)


def best_picks(errors: Numbers, rng: np.random.Generator, resamples: int = RESAMPLES) -> Array:
    """The place of the best network in each resample of a quarter of them."""
    n = len(errors)
    picks = rng.integers(0, n, (resamples, max(1, round(SHARE * n))))
    return np.take_along_axis(picks, np.asarray(errors)[picks].argmin(1)[:, None], 1)[:, 0]


def likely(values: Array, best: Array) -> Array:
    """The 95 % range, with its median, of the values of the best networks."""
    return np.quantile(values[best], [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], method="nearest")


def narrows(values: Numbers, errors: Numbers, seed: int = 0) -> float:
    """How often chance alone makes the likely best range of a parameter as narrow: a permutation test.

    How narrow it is is told by the share of the networks within it. The errors are dealt anew to the values.
    """
    rng, values = np.random.default_rng(seed), np.asarray(values, float)
    best = best_picks(errors, rng, RESAMPLES // 10)

    def within(values: Array) -> float:
        low, _, high = likely(values, best)
        return float(np.mean((values >= low) & (values <= high)))

    seen = within(values)
    dealt = [within(rng.permutation(values)) for _ in range(PERMUTATIONS)]
    return (1 + sum(share <= seen for share in dealt)) / (1 + PERMUTATIONS)


def smallest(errors: Array, k: int) -> Array:
    """The mean of the k smallest errors, along the last axis."""
    return np.sort(errors, -1)[..., :k].mean(-1)


def area(a: Array, b: Array) -> Array:
    """The area between the EDFs of two samples, along the last axis: by how much their errors differ, rank for rank.

    It is the integral of |F_a - F_b|, the Wasserstein distance of the samples.
    """
    both = np.concatenate([a, b], -1)
    order = np.argsort(both, -1, kind="stable")
    gaps = np.diff(np.take_along_axis(both, order, -1), axis=-1)
    steps = np.where(order < a.shape[-1], 1 / a.shape[-1], -1 / b.shape[-1])
    return (np.abs(np.cumsum(steps, -1)[..., :-1]) * gaps).sum(-1)


@dataclass(frozen=True)
class Comparison:
    """Two spaces a and b.

    smallest_a, smallest_b: means of the k smallest errors. area: between the EDFs. mean_difference: of the errors of
    b to those of a, the area with its sign. The p-values are those of permutation tests of equal distributions
    (two-sided; all permutations of few networks, else 10,000); `p` is the area's, corrected for the number of
    comparisons (Holm, 1979).
    better: the name of the space with the smaller errors, where both the area and the mean differ beyond chance.
    """

    a: str
    b: str
    k: int
    smallest_a: float
    smallest_b: float
    p_smallest: float
    area: float
    mean_difference: float
    p_area: float
    p_mean: float
    p: float
    better: str | None

    @property
    def verdict(self) -> str:
        if self.better:
            worse = self.b if self.better == self.a else self.a
            return f"{self.better} is better than {worse}, beyond chance"
        if self.p <= 1 - LEVEL:
            return f"{self.a} and {self.b} differ beyond chance, but neither's mean error is lower beyond chance"
        return f"no difference between {self.a} and {self.b} beyond chance"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


def compare(errors: Mapping[str, Sequence[float]], k: int = 5, seed: int = 0) -> list[Comparison]:
    """Every two of the spaces, given by their networks' errors."""
    pairs, rows = list(combinations(errors, 2)), []
    for a, b in pairs:
        rows.append(permutation_tests(np.asarray(errors[a], float), np.asarray(errors[b], float), k, seed))
    areas = holm([row["p_area"] for row in rows])
    means = holm([row["p_mean"] for row in rows])
    found = []
    for (a, b), row, p, p_mean in zip(pairs, rows, areas, means, strict=True):
        beyond = max(p, p_mean) <= 1 - LEVEL
        better = (a if row["mean_difference"] > 0 else b) if beyond else None
        found.append(Comparison(a=a, b=b, p=p, better=better, **row))
    return found


def permutation_tests(a: Array, b: Array, k: int, seed: int, permutations: int = RESAMPLES) -> dict[str, Any]:
    """The figures of a Comparison: what was measured, and how often chance gives as much or more."""
    k = min(k, len(a), len(b))
    measures: dict[str, Callable[..., Array]] = {
        "smallest": lambda a, b, axis=-1: np.abs(smallest(a, k) - smallest(b, k)),
        "area": lambda a, b, axis=-1: area(a, b),
        "mean": lambda a, b, axis=-1: np.abs(a.mean(-1) - b.mean(-1)),
    }
    p = dict.fromkeys(measures, 1.0)  # a single network tells nothing of its space
    if min(len(a), len(b)) > 1:
        for what, measure in measures.items():
            rng = np.random.default_rng(seed)
            p[what] = stats.permutation_test(
                (a, b), measure, vectorized=True, n_resamples=permutations, batch=1000, alternative="greater", rng=rng
            ).pvalue
    return {
        "k": k,
        "smallest_a": float(smallest(a, k)),
        "smallest_b": float(smallest(b, k)),
        "p_smallest": float(p["smallest"]),
        "area": float(area(a, b)),
        "mean_difference": float(b.mean() - a.mean()),
        "p_area": float(p["area"]),
        "p_mean": float(p["mean"]),
    }


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number n: the i-th smallest, from 0, counts n - i times; none falls below another.

    Holm, 1979.
    """
    corrected, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected
