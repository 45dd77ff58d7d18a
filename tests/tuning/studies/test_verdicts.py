"""The test of studies against planted truths: no effect is rarely called one, and a large one nearly always."""

import numpy as np
import pytest
from scipy import stats

from tuning.studies.verdicts import FAILS, HOLDS, OPEN, Contrast, advice, needed, outcome, verdict

ONE, TWO = Contrast("one", {"a": 1.0, "b": -1.0}), Contrast("two", {"a": 1.0, "c": -1.0})


def verdicts(effect, seeds, contrasts=(ONE,), tables=1000, spread=0.01):
    """The verdicts on made-up tables: a is better than b and c by so much."""
    draws, found = np.random.default_rng(0), []
    for _ in range(tables):
        rows = [
            {arm: {"val_accuracy": 0.9 + (effect if arm == "a" else 0) + spread * draws.normal()} for arm in "abc"}
            for _ in range(seeds)
        ]
        found.append(verdict([outcome(c, [c.value(row) for row in rows]) for c in contrasts]))
    return {name: found.count(name) / tables for name in (HOLDS, FAILS, OPEN)}


@pytest.mark.parametrize("seeds", [2, 5, 20])
@pytest.mark.parametrize("contrasts", [(ONE,), (ONE, TWO)])
def test_chance_is_rarely_called_an_effect(seeds, contrasts):
    found = verdicts(0.0, seeds, contrasts)
    assert found[HOLDS] <= 0.05 and found[FAILS] <= 0.05


@pytest.mark.parametrize("contrasts", [(ONE,), (ONE, TWO)])
def test_a_large_effect_is_found_on_both_sides(contrasts):
    assert verdicts(0.05, 5, contrasts)[HOLDS] >= 0.95
    assert verdicts(-0.05, 5, contrasts)[FAILS] >= 0.95


def test_p_and_interval_are_scipys():
    values = [0.01, 0.03, 0.02, -0.01, 0.02]
    found, right = outcome(ONE, values), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(right.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(right.confidence_interval()))


def test_equal_figures_of_all_seeds_are_no_proof():
    assert verdict([outcome(ONE, [0.01, 0.01])]) == OPEN
    assert verdict([outcome(ONE, [0.0] * 5)]) == OPEN


def test_a_claim_with_one_part_that_is_open_is_open():
    clear, unclear = outcome(ONE, [0.1, 0.11, 0.12]), outcome(TWO, [0.1, -0.1, 0.05])
    assert verdict([clear, unclear]) == OPEN and "seeds" in advice([clear.to_dict(), unclear.to_dict()])
    assert verdict([clear, outcome(TWO, [-0.1, -0.11, -0.12])]) == FAILS


def test_the_seeds_that_would_tell_do_so_four_times_out_of_five():
    seeds = needed(0.01, 0.01)
    assert seeds and 0.7 < verdicts(0.01, seeds, spread=0.01 / 2**0.5)[HOLDS] < 0.9
    assert needed(0.0, 1.0) is None and needed(0.001, 1.0) is None


def test_margins_and_factors():
    contrast = Contrast("at most 3 points worse", {"a": 1.0, "b": -2.0}, "val_loss", 0.03)
    assert contrast.value({"a": {"val_loss": 1.0}, "b": {"val_loss": 0.5}}) == pytest.approx(0.03)
