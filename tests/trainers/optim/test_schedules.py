"""Learning rates at named updates, against numbers worked out by hand or by other libraries."""

import keras
import numpy as np
import pytest

from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.optim.schedules import Constant, Cosine, Exponential, OneCycle, Steps, make_schedule, milestones
from trainers.settings import resolve


@pytest.mark.parametrize("schedule, at, values", [
    (Constant(0.4), (0, 7, 999), (0.4, 0.4, 0.4)),
    (Constant(0.4, warmup=4), (0, 1, 2, 3, 4), (0.1, 0.2, 0.3, 0.4, 0.4)),
    (Cosine(0.4, warmup=4, total=14), (0, 3, 4, 9, 14, 99), (0.1, 0.4, 0.4, 0.2, 0.0, 0.0)),
    (Cosine(0.4, floor=0.1, total=12), (0, 4, 6, 8, 12, 13), (0.4, 0.325, 0.25, 0.175, 0.1, 0.1)),
    (Steps(1.0, at=(30, 60), factor=0.1), (0, 29, 30, 59, 60, 90), (1.0, 1.0, 0.1, 0.1, 0.01, 0.01)),
    (Steps(1.0, warmup=5, at=(3,), factor=0.5), (0, 2, 3, 4, 5), (0.2, 0.6, 0.4, 0.5, 0.5)),
    (Steps(1.0, at=(1, 2, 3), factor=0.1, floor=0.005), (0, 1, 2, 3), (1.0, 0.1, 0.01, 0.005)),
    (Steps(1.0), (0, 5), (1.0, 1.0)),
    (Exponential(0.016, every=24, factor=0.97), (0, 12, 24, 48), (0.016, 0.0157582, 0.01552, 0.0150544)),
    (Exponential(1.0, every=1, factor=0.5, floor=0.2), (1, 2, 3), (0.5, 0.25, 0.2)),
    # torch's OneCycleLR with three linear phases that end at 45, 90 and 100 has these, too.
    (OneCycle(1.0, total=100), (0, 9, 45, 81, 90, 95, 100, 101), (0.04, 0.232, 1.0, 0.232, 0.04, 0.020002, 4e-6, 4e-6)),
], ids=str)  # fmt: skip
def test_values(schedule, at, values):
    np.testing.assert_allclose([float(schedule(step)) for step in at], values, rtol=2e-5, atol=1e-8)
    np.testing.assert_allclose(schedule(np.array(at)), values, rtol=2e-5, atol=1e-8)  # all at once
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert type(again) is type(schedule) and float(again(at[1])) == float(schedule(at[1]))


def test_keras_has_the_same_cosine():
    ours = Cosine(0.3, floor=0.03, total=200)
    theirs = keras.optimizers.schedules.CosineDecay(0.3, 200, alpha=0.1)
    steps = np.arange(220)
    np.testing.assert_allclose(ours(steps), [float(theirs(s)) for s in steps], rtol=1e-5, atol=1e-7)


def test_keras_has_the_same_decays():
    ours, theirs = Exponential(0.3, every=7, factor=0.9), keras.optimizers.schedules.ExponentialDecay(0.3, 7, 0.9)
    np.testing.assert_allclose(ours(np.arange(50)), [float(theirs(s)) for s in range(50)], rtol=1e-5)
    ours = Steps(0.3, at=tuple(range(7, 50, 7)), factor=0.9)
    theirs = keras.optimizers.schedules.ExponentialDecay(0.3, 7, 0.9, staircase=True)
    np.testing.assert_allclose(ours(np.arange(50)), [float(theirs(s)) for s in range(50)], rtol=1e-5)


def scheduled(**flags):
    return make_schedule(resolve(TrainConfig(**{"recipe": "default", "lr": 1.0, "warmup_epochs": 0.0, **flags})), 1000)


def test_epochs_become_updates():
    np.testing.assert_allclose(
        scheduled(schedule="cosine", epochs=4, warmup_epochs=0.5)(np.array([249, 2250, 4000])),
        [0.5, 0.5, 0.0],
        atol=1e-7,
    )
    b0 = scheduled(schedule="step", epochs=350, step_epochs=[2.4], step_gamma=0.97)  # EfficientNet's
    assert len(b0.at) == 145 and b0.at[:3] == (2400, 4800, 7200)
    np.testing.assert_allclose(b0(np.array([2399, 2400, 349_999])), [1.0, 0.97, 0.97**145], rtol=1e-4)
    resnet = scheduled(schedule="step", epochs=100, step_epochs=[30, 60, 90])
    np.testing.assert_allclose(resnet(np.array([29_999, 30_000, 60_000, 99_999])), [1, 0.1, 0.01, 0.001], rtol=1e-4)
    np.testing.assert_allclose(scheduled(schedule="exponential", epochs=9, step_epochs=[2], step_gamma=0.25)(1000), 0.5)
    assert float(scheduled(schedule="one-cycle", epochs=10)(4500)) == 1.0
    assert float(scheduled(schedule="constant", epochs=1)(10**7)) == 1.0


def test_milestones():
    assert milestones([30.0], 90) == [30.0, 60.0]
    assert milestones([30.0], 91) == [30.0, 60.0, 90.0]
    assert milestones([30.0, 80.0], 90) == [30.0, 80.0]
    assert milestones([30.0], 20) == []


@pytest.mark.parametrize("flags, words", [
    ({"schedule": "step", "step_epochs": [60.0, 30.0]}, "step-epochs [60.0, 30.0] ascending"),
    ({"schedule": "step", "step_epochs": [30.0, 30.0]}, "step-epochs ascending"),
    ({"schedule": "step", "step_epochs": [0.0, 30.0]}, "step-epochs above"),
    ({"schedule": "step", "step_epochs": []}, "step-epochs []"),
    ({"schedule": "exponential", "step_epochs": [30.0, 60.0]}, "step-epochs exponential"),
    ({"step_gamma": 0.0}, "step-gamma 0.0"),
    ({"step_gamma": 1.5}, "step-gamma 1.5"),
    ({"min_lr": -1.0}, "min-lr -1.0"),
    ({"min_lr": 2.0}, "min-lr 2.0 1"),
    ({"schedule": "one-cycle", "warmup_epochs": 1.0}, "warmup-epochs 1.0 one-cycle"),
    ({"warmup_epochs": 3.0, "epochs": 2}, "warmup-epochs 3.0 2"),
], ids=str)  # fmt: skip
def test_refused(flags, words):
    with pytest.raises(InputError) as error:
        scheduled(**flags)
    for word in words.split():
        assert word in str(error.value)
    assert "\n" not in str(error.value)
