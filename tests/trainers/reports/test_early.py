"""A run that goes wrong says so once, early, and one that goes well never."""

import pytest

from trainers.reports.early import warning

SETTINGS = {"warmup_epochs": 0.0, "lr": 0.3, "clip_norm": 0.0, "bn_momentum": 0.99, "ema": 0.0, "epochs": 20}


def said(accuracies, losses, trained=None, **more):
    """The lines that are said after each epoch."""
    trained = trained or accuracies
    lines = [
        {"val_accuracy": a, "accuracy": t, "loss": loss, "val_loss": loss}
        for a, t, loss in zip(accuracies, trained, losses, strict=True)
    ]
    known = {"epochs": 20, "steps_per_epoch": 100, "val_images": 1000, "chance": 0.1, "settings": SETTINGS} | more
    return [warning(lines[: k + 1], **known) for k in range(len(lines))]


def test_a_run_that_goes_well_says_nothing():
    assert said([0.2, 0.4, 0.35, 0.5, 0.6], [2.2, 1.9, 1.95, 1.5, 1.2]) == [None] * 5


def test_chance_after_a_tenth_is_told_once():
    first, second, *later = said([0.1, 0.11, 0.1, 0.1], [2.3] * 4)
    assert first is None and later == [None, None]
    assert second.startswith("still at chance after 2 of 20 epochs") and "try --lr 0.1 (now 0.3)" in second
    assert said([0.1, 0.11, 0.1, 0.1], [2.3] * 4, steps_per_epoch=10) == [None] * 4  # these are too few steps
    assert said([0.1, 0.11], [2.3] * 2, settings=SETTINGS | {"warmup_epochs": 3.0}) == [None] * 2


def test_statistics_that_lag_are_told_apart():
    *_, line = said([0.1, 0.1], [1.0, 0.5], trained=[0.7, 0.9])
    assert "try --bn-momentum 0.9 (now 0.99)" in line


def test_a_loss_that_grows_is_told():
    lines = said([0.3, 0.4, 0.3, 0.2, 0.2], [1.9, 1.7, 2.0, 2.3, 2.6])
    assert lines[:3] == [None] * 3 and lines[4] is None
    assert lines[3].startswith("the loss grows: 2.3 after 4 of 20 epochs, 1.7 at best")


@pytest.mark.parametrize("epochs, at", [(5, 0), (20, 1), (100, 9)])
def test_it_is_said_after_a_tenth_of_the_epochs(epochs, at):
    lines = said([0.1] * 12, [2.3] * 12, epochs=epochs)
    assert [i for i, line in enumerate(lines) if line] == [at]
