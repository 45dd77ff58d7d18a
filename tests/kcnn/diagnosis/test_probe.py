"""The linear classifier that has not seen an example."""

import numpy as np
import pytest

from kcnn.diagnosis import probe


def test_scores_are_those_of_a_ridge_regression_on_the_other_images():
    draws = np.random.default_rng(4)
    x, y = draws.normal(size=(60, 7)).astype(np.float32), draws.integers(0, 3, 60)
    scores, fold = probe.unseen_scores(x, y, 3), np.random.default_rng(0).permutation(60) % probe.FOLDS
    centred = x - x.mean(0)
    for k in range(probe.FOLDS):
        seen = fold != k
        a, t = centred[seen], np.eye(3)[y[seen]]
        ridge = probe.RIDGE * np.trace(a.T @ a) / 7
        w = np.linalg.solve(a.T @ a + ridge * np.eye(7), a.T @ (t - t.mean(0)))
        assert scores[~seen] == pytest.approx(centred[~seen] @ w + t.mean(0), abs=1e-5)


def test_the_accuracy_of_features_that_tell_and_of_noise():
    draws = np.random.default_rng(5)
    y = draws.integers(0, 4, 2000)
    assert probe.probe_accuracy(np.eye(4)[y] + draws.normal(0, 0.1, (2000, 4)), y) > 0.99
    assert probe.probe_accuracy(draws.normal(size=(2000, 8)), y) == pytest.approx(0.25, abs=0.05)
    assert probe.probe_accuracy(draws.normal(size=(20, 8)), np.zeros(20, int)) is None
