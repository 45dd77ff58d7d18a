"""Verdicts on histories whose truth is known, and on runs that were made to overfit, underfit and diverge."""

import math
from dataclasses import fields

import numpy as np
import pytest

from trainers.config import TrainConfig
from trainers.reports.verdict import TRY, difference, medians, rises, verdict, wilson
from trainers.settings import plain, resolve

CLASSES = 10
SETTINGS = plain(resolve(TrainConfig(recipe="default", weight_decay=0.0, lr=1e-3)).flags)


def history(
    epochs,
    *,
    loss=(2.0, 0.1),
    accuracy=(0.3, 0.99),
    val_loss=None,
    val_accuracy=None,
    lr="cosine",
    n=1000,
    seed=0,
    norm=2.0,
):
    """A run's figures by epoch: from the first to the last of each pair exponentially, or a function of t in [0, 1].

    Validation has the noise of n images, drawn anew in each epoch: more than a real run's, which sees the same ones.
    """
    draws = np.random.default_rng(seed)

    def curve(shape, t):
        return shape(t) if callable(shape) else shape[1] + (shape[0] - shape[1]) * math.exp(-6 * t)

    lines = []
    for i in range(epochs):
        t = i / max(1, epochs - 1)
        p = curve(val_accuracy or accuracy, t)
        lines.append(
            {
                "loss": curve(loss, t),
                "accuracy": curve(accuracy, t),
                "grad_norm": norm,
                "val_loss": curve(val_loss or loss, t) * (1 + 0.3 * draws.standard_normal() / math.sqrt(n)),
                "val_accuracy": draws.binomial(n, p) / n,
                "lr": 1e-3 * (0.5 + 0.5 * math.cos(math.pi * (i + 1) / epochs) if lr == "cosine" else 1.0),
            }
        )
    return lines


def judge(lines, train_accuracy, n=1000, chance=1 / CLASSES, **more):
    values = {"train_images": 2000, "val_images": n, "guess_loss": math.log(CLASSES), "settings": SETTINGS} | more
    return verdict(lines, train_accuracy=train_accuracy, chance=chance, **values)


@pytest.mark.parametrize("epochs", [1, 3, 12, 100])
def test_what_fits_both_is_fine(epochs):
    lines = history(epochs, loss=(0.13, 0.1), accuracy=(0.97, 0.99), val_accuracy=(0.95, 0.97))
    found = judge(lines, 0.99)
    assert (found.kind, found.advice) == ("fine", ())
    assert "of 2,000 training images" in found.evidence[0] and "of 1,000 validation images" in found.evidence[0]


def test_a_gap_beyond_noise_is_overfitting():
    found = judge(history(30, val_accuracy=(0.3, 0.85)), 1.0)
    assert found.kind == "overfit" and "100.0% of 2,000 training images" in found.evidence[1]
    assert any(line.startswith("`--weight-decay 0.0001` (now 0)") for line in found.advice)


def test_the_same_gap_on_few_images_is_noise():
    lines = history(30, val_accuracy=(0.3, 0.9), n=40)
    lines[-1]["val_accuracy"] = 0.9
    assert judge(lines, 0.99, n=40).kind == "fine"
    lines = [line | {"val_accuracy": 0.9} for line in lines]
    assert judge(lines, 0.99, n=4000, train_images=4000).kind == "overfit"


def test_a_gap_smaller_than_the_error_in_training_is_not_the_trouble():
    # An ImageNet-like end: 12 % wrong in training, 8 points more in validation.
    lines = history(100, accuracy=(0.1, 0.8), val_accuracy=(0.1, 0.8), n=50_000)
    assert judge(lines, 0.88, n=50_000, chance=0.001).kind == "fine"


def test_a_validation_loss_that_turns_up_is_overfitting():
    lines = history(30, val_loss=lambda t: 0.3 + 1.5 * math.exp(-20 * t) + 0.6 * t, val_accuracy=(0.3, 0.96))
    found = judge(lines, 0.999)
    assert found.kind == "overfit"
    low = int(np.argmin(medians(np.array([x["val_loss"] for x in lines])))) + 1
    assert f"Validation loss was lowest about epoch {low}," in found.evidence[0] and 3 <= low <= 9


def test_one_odd_epoch_at_the_end_is_no_turn():
    lines = history(30, accuracy=(0.3, 0.99), val_accuracy=(0.3, 0.98))
    lines[-1]["val_loss"] *= 3
    assert judge(lines, 0.99).kind == "fine"


def test_what_cannot_be_fitted_is_underfit():
    found = judge(history(30, loss=(2.3, 1.5), accuracy=(0.1, 0.45)), 0.46)
    assert found.kind == "underfit" and "from guessing (10.0% right)" in found.evidence[0]
    assert found.advice[0].startswith("`--epochs 200` (now 100)")


def test_always_guessing_the_most_frequent_class_is_underfit():
    lines = history(30, loss=(0.4, 0.3), accuracy=(0.9, 0.9))
    assert judge(lines, 0.9, chance=0.9).kind == "underfit"
    assert judge(lines, 0.9, chance=0.1).kind == "fine"


def test_evaluation_that_lags_behind_training_is_told_from_weak_weights():
    lines = history(5, accuracy=(0.5, 0.95), val_accuracy=(0.1, 0.2), val_loss=lambda t: 5.0)
    found = judge(lines, 0.2, settings=SETTINGS | {"ema": 0.9999, "bn_momentum": 0.99})
    assert found.kind == "underfit" and "moving statistics" in found.evidence[0]
    assert [line.split()[0] for line in found.advice] == ["`--bn-momentum", "`--ema", "`--epochs"]


def test_a_constant_rate_and_a_rising_accuracy_promise_more():
    found = judge(history(20, accuracy=lambda t: 0.2 + 0.5 * t, lr="constant", loss=lambda t: 2 - t), 0.71)
    assert found.kind == "still improving" and found.advice[0].startswith("`--epochs 200`")


def test_a_falling_loss_promises_more_too():
    lines = history(20, accuracy=lambda t: 0.92, val_loss=lambda t: 2 - 1.4 * t, loss=lambda t: 2 - t, lr="constant")
    found = judge(lines, 0.92)
    assert found.kind == "still improving" and found.evidence[0].startswith("Validation loss fell by")


def test_what_rises_as_the_rate_falls_to_nothing_promises_nothing():
    # Cosine's end: all of it below a tenth of the peak.
    lines = history(100, accuracy=lambda t: 0.6 + 0.35 * t**4, lr="cosine")
    assert judge(lines, 0.97).kind == "fine"
    assert judge([line | {"lr": 1e-3} for line in lines], 0.97).kind == "still improving"


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_few_epochs_are_too_early(epochs):
    found = judge(history(epochs, accuracy=(0.2, 0.4)), 0.4)
    assert found.kind == "still improving" and f"After {epochs} epoch" in found.evidence[0]


@pytest.mark.parametrize("broken", [
    {"loss": None}, {"loss": math.nan}, {"val_loss": None}, {"val_loss": math.inf},
    {"loss": 40.0, "accuracy": 0.12, "val_accuracy": 0.1},
    {"loss": 2.1, "accuracy": 0.2, "val_accuracy": 0.15, "grad_norm": 300.0},
], ids=str)  # fmt: skip
def test_what_falls_apart_has_diverged(broken):
    lines = history(12)
    lines[-1] |= broken
    found = judge(lines, 0.1)
    assert found.kind == "diverged" and found.advice[0].startswith("`--lr 0.00033`")
    if "grad_norm" in broken:
        assert "norm was 2 in the median epoch, 3e+02 at most" in found.evidence[0]


def test_a_loss_that_only_grows_has_diverged():
    lines = history(6, loss=lambda t: 3 + 30 * t, accuracy=lambda t: 0.1, val_loss=lambda t: 5 + 9 * t)
    assert judge(lines, 0.1).kind == "diverged"


def test_what_is_surer_of_wrong_answers_than_a_guess_has_diverged():
    # From the first step on: nothing gets worse, and validation's loss falls.
    lines = history(10, loss=lambda t: 30 - 5 * t, accuracy=lambda t: 0.11, val_loss=lambda t: 1e4 * 0.01**t)
    lines = [line | {"val_accuracy": 0.1} for line in lines]
    found = judge(lines, 0.1)
    assert found.kind == "diverged" and "surer of wrong answers" in found.evidence[0]
    # Early in a run moving statistics may be to blame.
    assert judge(lines[-3:], 0.1).kind == "still improving"
    assert judge([line | {"accuracy": 0.6} for line in lines], 0.1).kind != "diverged"


def test_what_recovers_has_not_diverged():
    lines = history(30, accuracy=(0.3, 0.99), val_accuracy=(0.3, 0.98))
    lines[10] |= {"loss": 9.0, "accuracy": 0.1, "val_accuracy": 0.1, "val_loss": 20.0}
    assert judge(lines, 0.99).kind == "fine"


def test_harder_images_on_the_way_are_no_divergence():
    # Progressive resizing: the loss in training doubles, validation goes on to improve.
    lines = history(
        20,
        loss=lambda t: 1.0 if t < 0.5 else 2.1,
        accuracy=lambda t: 0.8 if t < 0.5 else 0.35,
        val_accuracy=lambda t: 0.85 + 0.1 * t,
        val_loss=lambda t: 0.5 - 0.1 * t,
    )
    assert judge(lines, 0.95).kind != "diverged"


@pytest.mark.parametrize("n", [50, 355, 5000])
@pytest.mark.parametrize("lr", ["cosine", "constant"])
def test_noise_alone_is_seldom_taken_for_anything_else(n, lr):
    kinds = [
        judge(history(epochs, accuracy=lambda t: 0.95, loss=lambda t: 0.2, lr=lr, n=n, seed=seed), 0.95, n=n).kind
        for seed in range(50)
        for epochs in (8, 40)
    ]
    assert kinds.count("fine") >= 95, {kind: kinds.count(kind) for kind in kinds}


def test_the_advice_names_flags_that_are_there_and_not_turned_yet():
    assert {key for rows in TRY.values() for key, *_ in rows} - {"mixup", "cutmix", "augment", "erase", "sam"} <= {
        f.name for f in fields(TrainConfig)
    }
    lines = history(30, val_accuracy=(0.3, 0.85))
    turned = SETTINGS | {
        "augment": "randaugment",
        "erase": 0.25,
        "sam": 0.05,
        "drop": 0.5,
        "drop_path": 0.2,
        "label_smoothing": 0.1,
        "mixup": 0.2,
        "cutmix": 0.0,
    }
    flags = [line.split()[0] for line in judge(lines, 1.0, settings=turned).advice]
    assert flags == ["`--cutmix", "`--weight-decay", "`--width"]  # crops are small as it is
    assert judge(lines, 1.0, settings={}).advice == ()


@pytest.mark.parametrize("hits, n", [(0, 10), (1, 1), (49, 50), (350, 355), (25_000, 50_000)])
def test_wilson_s_interval_is_scipy_s(hits, n):
    from scipy.stats import binomtest

    np.testing.assert_allclose(wilson(hits / n, n), binomtest(hits, n).proportion_ci(0.95, "wilson"), atol=1e-12)


@pytest.mark.parametrize("a, n, b, m, interval", [
    (56, 70, 48, 80, (0.0524, 0.3339)), (9, 10, 3, 10, (0.1705, 0.8090)), (10, 10, 0, 10, (0.6075, 1.0)),
    (0, 10, 0, 20, (-0.1611, 0.2775)),
])  # fmt: skip
def test_the_gap_s_interval_is_the_paper_s(a, n, b, m, interval):
    # Newcombe, 1998, Table II, method 10.
    gap, *bounds = difference(a / n, n, b / m, m)
    assert gap == pytest.approx(a / n - b / m)
    np.testing.assert_allclose(bounds, interval, atol=1e-4)


def test_four_in_order_are_a_trend_and_three_are_not():
    assert rises(np.arange(4.0)) and not rises(np.arange(3.0))
    assert not rises(-np.arange(9.0)) and not rises(np.ones(9)) and not rises(np.array([1.0, 3, 2, 4]))


def test_advice_turns_what_is_off_on_and_the_other_way_round():
    weak, strong = history(30, val_accuracy=(0.3, 0.85)), history(30, loss=(2.3, 1.5), accuracy=(0.1, 0.45))
    off, on = {"mixup": 0.0, "augment": "none"}, {"mixup": 0.2, "augment": "randaugment"}
    assert [line.split(":")[0] for line in judge(weak, 1.0, settings=off).advice] == [
        "`--mixup 0.2` (now 0)",
        "`--augment trivialaugment` (now none)",
    ]
    assert [line.split(":")[0] for line in judge(strong, 0.46, settings=on).advice] == [
        "`--mixup 0` (now 0.2)",
        "`--augment none` (now randaugment)",
    ]
    assert judge(weak, 1.0, settings=on).advice == judge(strong, 0.46, settings=off).advice == ()


@pytest.mark.parametrize(("flags", "first"), [
    ({"freeze": "backbone"}, "`--freeze backbone --unfreeze-epoch 10` (now never)"),
    ({"freeze": "2"}, "`--freeze 2 --unfreeze-epoch 10` (now never)"),
    ({"features_only": True}, "`--freeze backbone --unfreeze-epoch 10` (in the place of `--features-only`)"),
    ({"freeze": "backbone", "unfreeze_epoch": 5}, "`--epochs 60`"),
    ({}, "`--epochs 60`"),
])  # fmt: skip
def test_what_is_frozen_is_to_learn_where_a_run_underfits(flags, first):
    settings = plain(resolve(TrainConfig(arch="resnet-18", weights="nowhere", drop_path=0.1, **flags)).flags)
    found = judge(history(30, accuracy=(0.2, 0.4), loss=(2.0, 1.5)), 0.4, settings=settings)
    assert found.kind == "underfit" and found.advice[0].startswith(first)
    assert not any("--width" in line for line in found.advice)  # the weights have theirs
    rests = "backbone" in first
    assert any("--drop-path" in line for line in found.advice) != rests
    if "features_only" in flags:
        assert not any("--crop-scale" in line for line in found.advice)
