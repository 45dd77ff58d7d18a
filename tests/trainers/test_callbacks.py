"""Keras's callbacks: when a run calls them, what they see, and what they may change."""

import math

import keras
import numpy as np
import pytest

import trainers
from trainers.config import TrainConfig
from trainers.runs import checkpoints, folders

STEPS = 22  # an epoch's: 1,442 digits by 64


class Watch(keras.callbacks.Callback):
    """Writes down what it is called with."""

    def __init__(self, folder=None):
        super().__init__()
        self.folder, self.calls, self.seen = folder, [], None

    def on_train_begin(self, logs=None):
        self.calls.append(("train begin", None, logs))
        self.seen = sorted(p.name for p in self.folder.iterdir()) if self.folder else None

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("epoch begin", epoch, logs))

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("batch begin", batch, logs))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("batch end", batch, dict(logs)))

    def on_test_begin(self, logs=None):
        self.calls.append(("test begin", None, logs))

    def on_test_end(self, logs=None):
        self.calls.append(("test end", None, dict(logs)))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("epoch end", epoch, dict(logs)))

    def on_train_end(self, logs=None):
        self.calls.append(("train end", None, dict(logs)))


@pytest.fixture(scope="module")
def watched(tmp_path_factory, tiny):
    """A run of at most four epochs at a constant rate with Keras's callbacks: (result, callbacks by name)."""
    folder = tmp_path_factory.mktemp("watched")
    rates = [1e-3, 5e-4, 2e-4, 1e-4]
    hooks = {
        "watch": Watch(folder / "run"),
        "history": keras.callbacks.History(),
        "rate": keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch]),
        "file": keras.callbacks.ModelCheckpoint(str(folder / "at-{epoch}.keras")),
        # Of a loss that can only grow by 100 there is no improvement: it stops after its patience.
        "stop": keras.callbacks.EarlyStopping("val_loss", min_delta=100.0, patience=2),
    }
    config = TrainConfig(**tiny, epochs=4, schedule="constant", run_dir=str(folder / "run"))
    return trainers.fit(config, callbacks=hooks.values()), hooks


def values(model):
    return [v.numpy() for v in model.weights]


def test_config_and_facts_are_there_before_the_first_step(watched):
    _, hooks = watched
    assert {"config.yaml", "facts.json", "classes.json"} <= set(hooks["watch"].seen)
    assert "metrics.jsonl" not in hooks["watch"].seen and "checkpoints" not in hooks["watch"].seen


def test_hooks_come_in_keras_s_order(watched):
    _, hooks = watched
    order = [name for name, *_ in hooks["watch"].calls]
    epoch = ["epoch begin", *["batch begin", "batch end"] * 5, "test begin", "test end", "epoch end"]
    first = ["epoch begin", *["batch begin", "batch end"] * 6, *epoch[-3:]]  # the very first step goes alone
    assert order == ["train begin", *first, *epoch, *epoch, "train end"]
    epochs = [at for name, at, _ in hooks["watch"].calls if name in ("epoch begin", "epoch end")]
    assert epochs == [0, 0, 1, 1, 2, 2]
    second = [at for name, at, _ in hooks["watch"].calls if name == "batch end"][6:11]
    assert second == [4, 9, 14, 19, 21]


def test_hooks_see_the_running_and_the_final_figures(watched):
    _, hooks = watched
    for name, _, logs in hooks["watch"].calls:
        if name == "batch end":
            assert logs.keys() >= {"loss", "accuracy"} and all(map(math.isfinite, logs.values()))
        if name == "test end":
            assert logs.keys() >= {"loss", "accuracy"}
        if name in ("epoch end", "train end"):
            assert logs.keys() >= {"loss", "accuracy", "val_loss", "val_accuracy", "val_top5"}


def test_early_stopping_stops(watched):
    result, hooks = watched
    assert hooks["stop"].stopped_epoch == 2
    assert (result.figures["epochs"], result.figures["steps"]) == (3, 3 * STEPS)


@pytest.mark.usefixtures("training_only")
def test_a_callback_can_stop_at_any_batch(tmp_path, tiny):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 9

    watch = Watch()
    config = TrainConfig(**tiny, epochs=3, run_dir=str(tmp_path / "run"))
    result = trainers.fit(config, callbacks=[Stop(), watch])
    assert (result.figures["steps"], result.figures["epochs"]) == (10, 1)
    assert [name for name, *_ in watch.calls][-5:] == ["batch end", "test begin", "test end", "epoch end", "train end"]


def test_history_is_kept(watched):
    result, hooks = watched
    assert hooks["history"].epoch == [0, 1, 2]
    assert hooks["history"].history["val_accuracy"][-1] == result.figures["val_accuracy"]
    assert hooks["history"].model.history is not None


def test_a_learning_rate_scheduler_rules(watched):
    result, hooks = watched
    assert {x["epoch"]: x["lr"] for x in folders.read_metrics(result.folder) if "lr" in x} == {
        epoch: pytest.approx(rate) for epoch, rate in ((1, 1e-3), (2, 5e-4), (3, 2e-4))
    }
    assert float(hooks["rate"].model.optimizer.learning_rate) == pytest.approx(2e-4)


def test_keras_s_own_checkpoints_open(watched):
    result, _ = watched
    files = sorted(result.folder.parent.glob("at-*.keras"))
    assert [f.name for f in files] == ["at-1.keras", "at-2.keras", "at-3.keras"]
    final, *_ = checkpoints.load_run(result.folder)
    for a, b in zip(values(keras.saving.load_model(files[-1])), values(final), strict=True):
        np.testing.assert_array_equal(a, b)
