"""Intervals, calibration and temperature, against SciPy and against what was put in."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest

from trainers.reports.calibration import BINS, calibration, ece, f1_interval, interval, reliability, temperature


@pytest.mark.parametrize("hits, of", [(0, 1), (1, 1), (3, 7), (50, 50), (980, 1000)])
def test_intervals_are_wilson_s(hits, of):
    expected = binomtest(hits, of).proportion_ci(method="wilson")
    assert interval(hits, of) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert interval(0, 0) is None and f1_interval(0, 0, 0) is None


def test_the_interval_of_f1_holds_it_in_95_of_100_measurements():
    draws = np.random.default_rng(0)
    cells = np.array([0.3, 0.05, 0.1, 0.55])  # hits, missed, taken for it, neither
    truth = 2 * 0.3 / (2 * 0.3 + 0.05 + 0.1)
    found = [f1_interval(h, h + m, h + t) for h, m, t, _ in draws.multinomial(200, cells, 2000)]
    assert 0.93 < np.mean([low <= truth <= high for low, high in found]) < 0.97


def made(scale, n=20_000, classes=5):
    """Labels drawn from the softmax of logits, which are then scaled, as those of a network that is too sure."""
    draws = np.random.default_rng(1)
    logits = draws.normal(0, 1.5, (n, classes))
    shares = softmax(logits, 1)
    labels = (shares.cumsum(1) > draws.random(n)[:, None]).argmax(1)
    return (scale * logits).astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_is_what_logits_were_scaled_by(scale):
    logits, labels = made(scale)
    assert temperature(logits, labels) == pytest.approx(scale, rel=0.03)


def test_calibration_says_how_far_off_confidence_is_and_what_mends_it():
    logits, labels = made(3.0)
    shares = softmax(logits, 1)
    sure, right = shares.max(1), shares.argmax(1) == labels
    # By the definition, image by image.
    total = 0.0
    for k in range(BINS):
        mine = (sure >= k / BINS) & ((sure < (k + 1) / BINS) | (k == BINS - 1))
        total += abs(sure[mine].sum() - right[mine].sum()) if mine.any() else 0.0
    assert ece(sure, right) == pytest.approx(total / len(sure), rel=1e-5)
    found = calibration(sure, right, logits, labels)
    assert found["ece"] > 0.2 and found["ece_with_temperature"] < 0.02
    assert sum(row["images"] for row in found["reliability"]) == len(labels)


def test_sure_and_right_answers_fill_one_bin():
    [row] = reliability(np.ones(7), np.ones(7, bool))
    assert row == {"from": 14 / 15, "to": 1.0, "images": 7, "confidence": 1.0, "accuracy": 1.0}
    assert ece(np.ones(7), np.ones(7, bool)) == 0.0


def test_one_image_has_a_calibration():
    found = calibration(np.array([0.9]), np.array([True]), np.array([[3.0, 0.0]], np.float32), np.array([0]))
    assert found["ece_with_temperature"] is None and found["images_for_temperature"] == 1
