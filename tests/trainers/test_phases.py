"""Runs that change on the way: resolution, augmentation, mixing; and that end before their time."""

import keras
import numpy as np
import pytest

import trainers
import trainers.loop
from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.phases import phase_of, phases
from trainers.runs import checkpoints, folders
from trainers.settings import resolve


def test_a_plain_run_has_one_phase():
    config = resolve(TrainConfig())
    assert phases(config) == [(0, config)]


def test_stages_grow_in_resolution_and_strength():
    config = resolve(
        TrainConfig(
            epochs=9,
            resolution=64,
            progressive=[32, 48],
            augment="randaugment",
            mixup=0.3,
            augment_magnitude=9.0,
            erase=0.3,
            mix_off_epochs=1,
        )
    )
    rows = [(start, p.resolution, p.augment_magnitude, p.erase, p.mixup) for start, p in phases(config)]
    np.testing.assert_allclose(
        rows, [(0, 32, 3, 0.1, 0.1), (3, 48, 6, 0.2, 0.2), (6, 64, 9, 0.3, 0.3), (8, 64, 9, 0.3, 0)]
    )
    assert [phase_of(config, epoch).resolution for epoch in (0, 2, 3, 8)] == [32, 32, 48, 64]
    assert all(p.arch.stem == config.arch.stem for _, p in phases(config))  # that of the last stage, throughout


@pytest.mark.parametrize("flags, says", [
    ({"progressive": [48, 32], "resolution": 64}, "ascending order"),
    ({"progressive": [64], "resolution": 64}, "below the last stage's, 64"),
    ({"progressive": [0.5, 24], "resolution": 64}, "ascending order"),
    ({"progressive": [32.5], "resolution": 64}, "resolutions in pixels, or of shares"),
    ({"progressive": [16, 24], "resolution": 32, "epochs": 2}, "an epoch or more for each stage"),
    ({"progressive": [33], "resolution": 64, "arch": "vgg-11"}, "depend on the resolution"),
    ({"patience": 0}, "patience 0"),
])  # fmt: skip
def test_stages_out_of_order_are_refused(tmp_path, flags, says):
    with pytest.raises(InputError, match=says):
        trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


class Crash(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise RuntimeError("crash")


@pytest.mark.slow
def test_a_run_grows_and_goes_on_from_a_crash(tmp_path, tiny, same_run):
    flags = tiny | {"epochs": 3}
    flags |= {
        "progressive": [12],
        "mixup": 0.2,
        "mix_off_epochs": 1,
        "ema": 0.9,
        "precise_bn": 2,
        "repeats": 2,
        "augment": "randaugment",
    }
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        data = trainers.loop.training_data
        for module in (trainers.loop, trainers.phases):  # the first images are shown by the latter
            patch.setattr(
                module,
                "training_data",
                lambda run, phase, step: (seen.append((step, phase.resolution, phase.mixup)), data(run, phase, step))[
                    1
                ],
            )
        whole = trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "whole")))
    strip, first, measured, second, *_ = seen
    assert first == strip == (0, 12, 0.1) and measured[1] == 16 and second == (22, 16, 0.2)
    assert whole.figures["val_accuracy"] > 0.2  # it learns
    with pytest.raises(RuntimeError):
        trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "run")), callbacks=[Crash()])
    same_run(trainers.fit(TrainConfig(resume=str(tmp_path / "run"))), whole)


@pytest.mark.usefixtures("training_only")
def test_patience_comes_to_an_end(tmp_path, tiny):
    result = trainers.fit(TrainConfig(**tiny | {"lr": 1e-9}, epochs=9, patience=2, run_dir=str(tmp_path / "run")))
    history = [line["val_accuracy"] for line in folders.read_metrics(result.folder) if "val_accuracy" in line]
    assert len(history) < 9 and result.figures["epochs"] == len(history)
    assert history.index(max(history)) == len(history) - 3
    again = trainers.fit(TrainConfig(resume=str(result.folder)))
    assert again.figures == result.figures  # it is finished


@pytest.mark.usefixtures("training_only")
@pytest.mark.slow
def test_a_blow_up_goes_back_and_halves_the_learning_rate(tmp_path, tiny, monkeypatch):
    """Once, at step 30: a gradient that is no number. Recorded, and remembered by a resumed run."""
    refuse, blown = trainers.loop.refuse_nan, []

    def refuse_nan(series, position, job):
        if position.step >= 30 and not blown:
            blown.append(position.step)
            series["loss"][0] = np.nan
        refuse(series, position, job)

    monkeypatch.setattr(trainers.loop, "refuse_nan", refuse_nan)
    flags = tiny | {"epochs": 3, "schedule": "constant", "checkpoint_every": 8, "recover": 2}
    result = trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "run")))
    assert result.figures["recoveries"] == 1 and result.figures["steps"] == 66
    lines = folders.read_metrics(result.folder)
    (event,) = [line for line in lines if "event" in line]
    assert event["event"] == "recovered" and event["lr_scale"] == 0.5 and "loss is nan" in event["reason"]
    back = max(step for step in range(0, blown[0] + 1) if step % 8 == 0 or step % 22 == 0)
    assert event["step"] == back
    rates = {line["step"]: line["lr"] for line in lines if "lr" in line}
    assert all(rate == pytest.approx(3e-3 if step <= back else 1.5e-3) for step, rate in rates.items())
    *_, extra = checkpoints.newest(result.folder / "checkpoints")
    assert extra["recoveries"] == 1


@pytest.mark.usefixtures("training_only")
def test_a_blow_up_stops_the_run_by_default(tmp_path, tiny):
    with pytest.raises(InputError, match="--recover"):
        trainers.fit(TrainConfig(**tiny | {"lr": 1e9, "optimizer": "sgd"}, epochs=2, run_dir=str(tmp_path / "run")))
