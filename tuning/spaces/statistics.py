"""What error distributions say of design spaces, and of their parameters.

The method is that of Radosavovic et al., 2019 (https://arxiv.org/abs/1905.13214) and 2020
(https://arxiv.org/abs/2003.13678). Errors are those of networks sampled independently within a space.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

Array = np.ndarray
Numbers = Sequence[float] | np.ndarray
RESAMPLES = 10_000
LEVEL = 0.95
SHARE = 0.25  # of the networks in each resample that asks for the best value


def edf(errors: Numbers, at: Numbers) -> Array:
    """F(e) = share of the errors that are at most e, at each of the places. Equation 1 of RegNet has "below"."""
    return np.searchsorted(np.sort(errors), at, side="right") / len(errors)


def edf_band(errors: Numbers, at: Numbers, resamples: int = 1000, seed: int = 0) -> tuple[Array, Array]:
    """Where the EDF lies in 95 % of the bootstrap's samples, place by place."""
    rng, n = np.random.default_rng(seed), len(errors)
    shares = np.asarray(errors)[:, None] <= np.asarray(at)
    drawn = np.stack([shares[rng.integers(0, n, n)].mean(0) for _ in range(resamples)])
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def best_range(values: Numbers, errors: Numbers, seed: int = 0) -> tuple[float, float, float]:
    """(low, median, high) of a parameter in the best network: the likely best range, to 95 %.

    Each resample takes a quarter of the networks, with replacement, and of these the value of the best one. RegNet,
    Section 3.1.
    """
    rng, n = np.random.default_rng(seed), len(errors)
    picks = rng.integers(0, n, (RESAMPLES, max(1, round(SHARE * n))))
    best = np.take_along_axis(picks, np.asarray(errors)[picks].argmin(1)[:, None], 1)[:, 0]
    low, median, high = np.quantile(
        np.asarray(values, float)[best], [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], method="nearest"
    )
    return float(low), float(median), float(high)


def smallest(errors: Array, k: int) -> Array:
    """Mean of the k smallest errors, along the last axis."""
    return np.sort(errors, -1)[..., :k].mean(-1)


def area(a: Array, b: Array) -> Array:
    """Area between the EDFs of two samples, along the last axis: what their errors differ by, rank for rank.

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
    (two-sided, 10,000 permutations); `p` is the area's, corrected for the number of comparisons (Holm, 1979).
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

    def figures(a: Array, b: Array) -> dict[str, Array]:
        return {"smallest": np.abs(smallest(a, k) - smallest(b, k)), "area": area(a, b),
                "mean": np.abs(a.mean(-1) - b.mean(-1))}  # fmt: skip

    both, rng = np.concatenate([a, b]), np.random.default_rng(seed)
    measured = figures(a, b)
    as_large = dict.fromkeys(measured, 0)
    for _ in range(permutations // 1000):
        shuffled = rng.permuted(np.tile(both, (1000, 1)), axis=1)
        for what, chance in figures(shuffled[:, : len(a)], shuffled[:, len(a) :]).items():
            as_large[what] += int((chance >= measured[what] - 1e-12).sum())  # rounding makes no difference
    p = {what: (1 + n) / (1 + permutations) for what, n in as_large.items()}  # the measured order is one of them
    return {"k": k, "smallest_a": float(smallest(a, k)), "smallest_b": float(smallest(b, k)),
            "p_smallest": p["smallest"], "area": float(measured["area"]),
            "mean_difference": float(b.mean() - a.mean()), "p_area": p["area"], "p_mean": p["mean"]}  # fmt: skip


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number n: the i-th smallest, from 0, counts n - i times, and as much as before."""
    corrected, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected
