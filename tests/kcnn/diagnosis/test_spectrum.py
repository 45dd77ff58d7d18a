"""Each measure of features against an answer that is known."""

import numpy as np
import pytest

from kcnn.diagnosis.spectrum import Alignment, Moments, entropy_rank, participation, share_of_first


def moments(x, y=None, batch=500):
    found = Moments()
    for i in range(0, len(x), batch):
        found.add(x[i : i + batch], None if y is None else y[i : i + batch])
    return found


@pytest.mark.parametrize("rank, width", [(1, 8), (5, 32), (32, 32)])
def test_the_rank_of_a_planted_subspace(rank, width):
    draws = np.random.default_rng(0)
    axes = np.linalg.qr(draws.normal(size=(width, width)))[0][:rank]
    spectrum = moments(draws.normal(size=(20_000, rank)) @ axes + 7).spectrum()
    assert participation(spectrum) == pytest.approx(rank, rel=0.01)
    assert entropy_rank(spectrum) == pytest.approx(rank, rel=0.01)
    assert share_of_first(spectrum, rank) == pytest.approx(1) and (spectrum[rank:] < 1e-9).all()


def test_an_uneven_spectrum():
    values = np.array([4.0, 1.0, 1.0, 0.0])
    assert participation(values) == pytest.approx(36 / 18)
    p = values[:3] / 6
    assert entropy_rank(values) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert share_of_first(values, 1) == pytest.approx(4 / 6)


def test_constant_features_span_nothing():
    spectrum = moments(np.full((100, 3), 2.0)).spectrum()
    assert participation(np.zeros(3)) == entropy_rank(np.zeros(3)) == share_of_first(np.zeros(3), 1) == 0
    assert spectrum == pytest.approx([0, 0, 0], abs=1e-12)


def test_the_spectrum_is_that_of_numpy_s_covariance():
    x = np.random.default_rng(1).normal(size=(3000, 6)) * [1, 2, 3, 4, 5, 6] + 100
    expected = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    assert moments(x, batch=7).spectrum() == pytest.approx(expected, rel=1e-8)


def test_a_relu_takes_half_of_a_symmetric_gaussian_along_each_axis():
    x = np.random.default_rng(2).normal(size=(200_000, 4)) * [1, 3, 1, 2]
    found = moments(x, np.maximum(x, 0))
    assert found.lost_alone() == pytest.approx(0.5, abs=0.01)
    # With an offset, which the next layer has, it is less: 1 - cov(x, relu x)^2 / var(relu x).
    assert found.lost() == pytest.approx(1 - 0.25 / (0.5 - 0.5 / np.pi), abs=0.01)


def test_a_relu_takes_little_where_few_directions_are_spread_over_many_axes():
    """Sandler et al., 2018, figure 1: what an expansion is for."""
    draws = np.random.default_rng(3)
    x = draws.normal(size=(20_000, 2)) @ draws.normal(size=(2, 30))
    assert moments(x, np.maximum(x, 0)).lost() < 1e-3


def test_nothing_is_lost_without_an_activation_or_above_it():
    x = np.random.default_rng(4).normal(size=(1000, 5))
    assert moments(x, x).lost() == pytest.approx(0, abs=1e-9)
    assert moments(x + 10, np.maximum(x + 10, 0)).lost() == pytest.approx(0, abs=1e-9)
    assert moments(x, 0 * x).lost() == moments(x, 0 * x).lost_alone() == 1
    assert moments(0 * x, x).lost() == moments(0 * x, x).lost_alone() == 0


def aligned(x, y, batch=100):
    found = Alignment()
    for i in range(0, len(x), batch):
        found.add(x[i : i + batch], y[i : i + batch])
    return found.value()


def test_cka_of_equal_turned_and_unrelated_features():
    draws = np.random.default_rng(5)
    x, other = draws.normal(size=(2000, 10)), draws.normal(size=(2000, 10))
    turn = np.linalg.qr(draws.normal(size=(10, 10)))[0]
    assert aligned(x, x) == pytest.approx(1) and aligned(x, 3 * x @ turn + 5) == pytest.approx(1)
    assert aligned(x, other) == pytest.approx(0, abs=0.02)


def test_cka_over_batches_is_that_of_the_whole():
    draws = np.random.default_rng(6)
    x = draws.normal(size=(3000, 6))
    y = x @ draws.normal(size=(6, 6)) + draws.normal(size=(3000, 6))
    a, b = x - x.mean(0), y - y.mean(0)
    cross = np.linalg.norm(a.T @ b) ** 2
    whole = cross / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert aligned(x, y) == pytest.approx(whole, abs=0.02)
