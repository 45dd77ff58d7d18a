"""The statistics of error distributions against other computations, and verdicts against known truths."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from tuning.spaces.statistics import area, best_range, compare, edf, edf_band, holm, permutation_tests, smallest

DRAWS = np.random.default_rng(7)
GOOD, BAD, LIKE_BAD = DRAWS.normal(0.20, 0.05, 40), DRAWS.normal(0.27, 0.05, 40), DRAWS.normal(0.27, 0.05, 40)


def test_edf_is_the_share_at_or_below():
    errors, at = [0.3, 0.1, 0.2, 0.2], [0.05, 0.1, 0.2, 0.25, 0.3, 0.9]
    assert edf(errors, at) == pytest.approx([sum(e <= x for e in errors) / 4 for x in at])
    assert edf(GOOD, at) == pytest.approx(stats.ecdf(GOOD).cdf.evaluate(at))


def test_the_band_is_as_wide_as_theory_has_it():
    """Bootstrap samples of a share p of n have the standard error sqrt(p (1 - p) / n)."""
    low, high = edf_band(GOOD, [np.median(GOOD), 1.0], resamples=4000)
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), rel=0.15)
    assert low[1] == high[1] == 1


def test_the_area_is_the_wasserstein_distance_and_the_integral():
    for a, b in ((GOOD, BAD), (GOOD[:7], BAD), (np.array([0.1]), np.array([0.1, 0.3])), (GOOD, GOOD[::-1])):
        assert area(a, b) == pytest.approx(stats.wasserstein_distance(a, b), abs=1e-12)
    grid = np.linspace(0, 0.6, 200_001)
    assert area(GOOD, BAD) == pytest.approx(np.trapezoid(np.abs(edf(GOOD, grid) - edf(BAD, grid)), grid), rel=1e-3)
    assert area(np.stack([GOOD, BAD]), np.stack([BAD, BAD])) == pytest.approx([area(GOOD, BAD), 0])


def test_the_smallest_errors():
    assert smallest(np.array([0.4, 0.1, 0.3, 0.2]), 2) == pytest.approx(0.15)
    assert smallest(np.array([[3.0, 1], [2, 2]]), 1) == pytest.approx([1, 2])


def test_p_values_are_those_of_all_permutations():
    """Of 4 and 4 errors there are 70 ways to part them: each counted."""
    a, b, k = np.array([0.10, 0.12, 0.15, 0.11]), np.array([0.13, 0.16, 0.14, 0.20]), 2
    both, measured, as_large = np.concatenate([a, b]), {}, dict.fromkeys(("smallest", "area", "mean"), 0)
    for chosen in [(0, 1, 2, 3), *combinations(range(8), 4)]:
        x, y = both[list(chosen)], np.delete(both, chosen)
        now = {
            "smallest": abs(np.sort(x)[:k].mean() - np.sort(y)[:k].mean()),
            "area": stats.wasserstein_distance(x, y),
            "mean": abs(x.mean() - y.mean()),
        }
        if not measured:
            measured = now
            continue
        for what, value in now.items():
            as_large[what] += value >= measured[what] - 1e-12
    found = permutation_tests(a, b, k, seed=0)
    for what, count in as_large.items():
        assert found[f"p_{what}"] == pytest.approx(count / 70, abs=0.02), what
    assert (found["smallest_a"], found["smallest_b"]) == (pytest.approx(0.105), pytest.approx(0.135))
    assert found["mean_difference"] == pytest.approx(b.mean() - a.mean())


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


def test_a_true_difference_is_found_and_has_its_direction():
    for errors in ({"good": GOOD, "bad": BAD}, {"bad": BAD, "good": GOOD}):
        [c] = compare(errors, k=5)
        assert c.better == "good" and c.p < 0.001 and c.p_mean < 0.001
        assert c.verdict == "good is better than bad, beyond chance"
        assert c.area == pytest.approx(abs(c.mean_difference))  # one is better everywhere
        assert c.area == pytest.approx(0.07, abs=3 * 0.05 * np.sqrt(2 / 40))  # within three standard errors


def test_where_nothing_differs_nothing_is_said_to():
    [c] = compare({"bad": BAD, "like": LIKE_BAD}, k=5)
    assert c.better is None and c.p > 0.05 and c.verdict.startswith("no difference between bad and like")


def test_chance_alone_convinces_as_often_as_it_may():
    """Of 300 comparisons of equals some 5 % say otherwise: 15, and 26 at most at three standard errors."""
    rng, wrong = np.random.default_rng(1), 0
    for i in range(300):
        a, b = rng.gamma(3, 0.05, 24), rng.gamma(3, 0.05, 24)
        wrong += permutation_tests(a, b, 5, seed=i, permutations=1000)["p_area"] <= 0.05
    assert 4 <= wrong <= 26


def test_equal_means_of_different_spreads_differ_but_neither_is_better():
    rng = np.random.default_rng(3)
    wide, narrow = rng.normal(0.3, 0.1, 60), rng.normal(0.3, 0.01, 60)
    [c] = compare({"wide": wide, "narrow": narrow})
    assert c.p < 0.05 and c.better is None and "differ beyond chance, but" in c.verdict


def test_many_comparisons_are_corrected_for():
    found = compare({"good": GOOD, "bad": BAD, "like": LIKE_BAD})
    assert [(c.a, c.b) for c in found] == [("good", "bad"), ("good", "like"), ("bad", "like")]
    assert [c.better for c in found] == ["good", "good", None]
    assert found[0].p >= 2 * found[0].p_area


def test_the_likely_best_range_finds_what_was_planted():
    rng = np.random.default_rng(5)
    depth = rng.uniform(1, 60, 200)
    errors = 0.2 + 0.001 * np.abs(depth - 20) + rng.normal(0, 0.002, 200)
    low, median, high = best_range(depth, errors)
    assert low < 20 < high and abs(median - 20) < 3 and high - low < 15
    noise = best_range(depth, rng.normal(size=200))
    assert noise[2] - noise[0] > 40  # tells nothing, and says so


def test_the_likely_best_range_by_another_computation():
    """The best of m draws with replacement is the r-th best with probability (1 - r/n)^m - (1 - (r+1)/n)^m."""
    n, m = 16, 4
    values, errors = np.arange(n)[::-1] * 1.0, np.arange(n) / 100
    chances = np.array([(1 - r / n) ** m - (1 - (r + 1) / n) ** m for r in range(n)])
    order = np.argsort(values)
    quantiles = [values[order][np.searchsorted(np.cumsum(chances[order]), q)] for q in (0.025, 0.5, 0.975)]
    assert best_range(values, errors) == pytest.approx(quantiles)
