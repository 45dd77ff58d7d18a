"""A parameter's likely best range narrows a space only where the errors do more than chance."""

import numpy as np

from tuning.spaces.statistics import narrows


def test_ranges_of_made_up_networks():
    draws, found = np.random.default_rng(0), 0
    for seed in range(40):
        values = draws.uniform(0, 1, 40)
        found += narrows(values, draws.normal(0.3, 0.05, 40), seed) <= 0.05
        if seed < 5:
            assert narrows(values, 0.2 + (values - 0.4) ** 2 + draws.normal(0, 0.01, 40), seed) <= 0.005
    assert found <= 6  # of 2 in the mean
