"""No winner is called by luck: tests on made-up networks whose truth is known."""

import numpy as np
import pytest

from trainers.reports.chance import beaten, not_beaten, over_seeds


@pytest.mark.parametrize("networks, images, share", [(2, 355, 0.9), (8, 355, 0.98), (30, 2000, 0.7)])
def test_equal_networks_are_called_equal(networks, images, share):
    draws = np.random.default_rng(0)
    right = draws.binomial(images, share, (100, networks)) / images
    assert sum(len(not_beaten(accuracies, images)) == networks for accuracies in right) >= 95


def test_a_clear_winner_is_named():
    draws = np.random.default_rng(0)
    for _ in range(100):
        right = draws.binomial(1000, [0.8] * 9 + [0.95]) / 1000
        assert not_beaten(right, 1000) == [9]


def test_none_wrong_is_no_certainty():
    assert not_beaten([1.0, 1.0, 0.995], 200) == [0, 1, 2]
    assert beaten([0.5], 100) == [1.0]
    chances = beaten([0.9, 0.89, 0.5], 300)
    assert chances[0] == 1.0 and chances[1] > 0.5 and chances[2] < 1e-6


def test_seeds_tell_means_apart():
    draws = np.random.default_rng(0)
    by_luck = sum(over_seeds(*draws.normal(0.9, 0.01, (2, 5))) <= 0.05 for _ in range(400))
    assert by_luck <= 30  # of 20 in the mean
    assert over_seeds([0.9, 0.91, 0.905], [0.8, 0.81, 0.79]) < 0.01
    assert over_seeds([0.9, 0.9], [0.8, 0.8]) == 1.0  # how coarse the figure is, and no more
