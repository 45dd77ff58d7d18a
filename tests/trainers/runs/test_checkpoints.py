"""Checkpoints: whole or not there, and a run that goes on from one is the run that never stopped."""

import errno
import json
import logging
import os
import shutil
import signal
from pathlib import Path

import keras
import numpy as np
import pytest

import kcnn.train
import trainers
from kcnn.errors import InputError, Interrupted
from trainers.config import TrainConfig
from trainers.network import network
from trainers.optim.optimizers import make_optimizer
from trainers.runs import checkpoints, folders, listeners
from trainers.settings import resolve
from trainers.state import make_state

STEPS = 22  # an epoch's


class Crash(Exception):
    """In the place of a kill."""


class CrashAt(keras.callbacks.Callback):
    def __init__(self, epoch, batch=None):
        super().__init__()
        self.at, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise Crash

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, None) == self.at:
            raise Crash


class SignalAt(keras.callbacks.Callback):
    def __init__(self, number, batch):
        super().__init__()
        self.number, self.batch = number, batch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            os.kill(os.getpid(), self.number)


pytestmark = pytest.mark.usefixtures("training_only_in_this_module")


@pytest.fixture(scope="module")
def short(tiny):
    """Dropout, stochastic depth, averages, and checkpoints that are at no line of the log."""
    return tiny | {"epochs": 2, "drop": 0.2, "drop_path": 0.1, "ema": 0.9, "checkpoint_every": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, short):
    """A run that was never interrupted."""
    return trainers.fit(TrainConfig(**short, run_dir=str(tmp_path_factory.mktemp("runs") / "whole")))


# Where a run is stopped, one time after the other, and the step that it goes on from. A crash comes in the hook of a
# batch or of an epoch (batch None); a signal lets the run save; a kill comes between the two names of a checkpoint that
# is the best, with which the epoch is repeated.
STOPS = [
    ("crash", 0, 0, 0),  # before there is a checkpoint
    (signal.SIGTERM, 0, 4, 5),
    ("crash", 0, None, 22),
    (signal.SIGINT, 1, 4, 27),
    ("crash", 1, 13, 33),  # the hook of step 36 comes before its checkpoint
    ("kill", 1, None, 42),
]


@pytest.mark.slow
def test_a_run_stopped_again_and_again_is_the_run_that_never_stopped(tmp_path, short, whole, same_run, monkeypatch):
    folder = tmp_path / "run"
    config = TrainConfig(**short, run_dir=str(folder))
    for kind, epoch, batch, goes_on_at in STOPS:
        if kind == "crash":
            with pytest.raises(Crash):
                trainers.fit(config, callbacks=[CrashAt(epoch, batch)])
        elif kind == "kill":
            with monkeypatch.context() as patch, pytest.raises(Crash):
                patch.setattr(checkpoints, "link", crash_after(checkpoints.link, 0, Crash))
                trainers.fit(config)
            assert checkpoints.load(folder / "checkpoints" / "best.npz")[1]["step"] == 2 * STEPS
        else:
            before = signal.getsignal(kind)
            with pytest.raises(Interrupted, match=rf"{kind.name}: saved at step {goes_on_at}; go on with --resume"):
                trainers.fit(config, callbacks=[SignalAt(kind, batch)])
            assert signal.getsignal(kind) is before
        assert not (folder / "result.json").exists()
        found = checkpoints.newest(folder / "checkpoints")
        assert (found[2]["step"] if found else 0) == goes_on_at
        config = TrainConfig(resume=str(folder))
    same_run(trainers.fit(config), whole)


@pytest.mark.slow
def test_resume_auto_starts_goes_on_and_ends(tmp_path, short, whole, monkeypatch, capsys, same_run):
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in short.items()]
    flags += ["--run-dir", str(tmp_path / "run"), "--resume", "auto", "--json"]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
        keep = listeners.Checkpoints.keep
        patch.setattr(listeners.Checkpoints, "keep", crash_after(keep, 9))
        kcnn.train.main(flags)
    assert left.value.code == 2
    lines = []
    for _ in range(2):  # goes on, then finds it finished
        with pytest.raises(SystemExit) as left:
            kcnn.train.main(flags)
        assert left.value.code == 0
        lines.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert lines[0] == lines[1]
    same_run(trainers.Result(tmp_path / "run", lines[0]), whole)


def crash_after(function, times, error=InputError):
    calls = []

    def limited(*arguments):
        calls.append(1)
        if len(calls) > times:
            raise error("enough")
        return function(*arguments)

    return limited


@pytest.mark.slow
def test_a_finished_run_goes_on_to_more_epochs(tmp_path, whole):
    folder = Path(shutil.copytree(whole.folder, tmp_path / "run"))
    with pytest.raises(Crash):
        trainers.fit(TrainConfig(resume=str(folder), epochs=3), callbacks=[CrashAt(2, 9)])
    assert not (folder / "result.json").exists()  # of the shorter run
    more = trainers.fit(TrainConfig(resume=str(folder), epochs=3))
    assert (more.figures["epochs"], more.figures["steps"]) == (3, 3 * STEPS)
    assert [x["step"] for x in folders.read_metrics(folder) if "val_loss" in x] == [STEPS, 2 * STEPS, 3 * STEPS]


def test_other_classes_are_told(tmp_path, photos, tiny):
    data = tmp_path / "data"
    for part in ("train", "val"):
        for name in ("china", "flower"):
            (data / part / name).mkdir(parents=True)
            for file in sorted((photos / part / name).iterdir())[:4]:
                (data / part / name / file.name).hardlink_to(file)
    folder = tmp_path / "run"
    config = TrainConfig(**tiny | {"batch_size": 4}, recipe="default", data=str(data), epochs=1, run_dir=str(folder))
    with pytest.raises(Crash):
        trainers.fit(config, callbacks=[CrashAt(0, 0)])
    for part in ("train", "val"):
        (data / part / "flower").rename(data / part / "tree")
    with pytest.raises(InputError, match=r"the data's 2 classes are not the 2 .* new \['tree'\], missing \['flower'\]"):
        trainers.fit(TrainConfig(resume=str(folder)))


# Checkpoints alone, without a run.


@pytest.fixture(scope="module")
def state(tiny):
    config = resolve(TrainConfig(**tiny))
    model = network(config, 10)
    return make_state(model, make_optimizer(config, 5, model), averaged=True)


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path, state):
    extra = {"best": 0.1 + 0.2, "history": [{"loss": 1e-17}]}
    path = checkpoints.save(tmp_path, "step-000000001", state, extra)
    arrays, found = checkpoints.load(path)
    assert found == extra
    before = {key: v.numpy() for key, v in checkpoints.variables(state).items()}
    for v in checkpoints.variables(state).values():
        v.assign(v * 0)
    checkpoints.restore(state, arrays, path)
    for key, v in checkpoints.variables(state).items():
        np.testing.assert_array_equal(v.numpy(), before[key], err_msg=key, strict=True)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(tmp_path, state, damage, caplog, monkeypatch):
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, checkpoints.step_name(step), state, {"step": step})
    damage(tmp_path / "step-000000003.npz")
    monkeypatch.setattr(logging.getLogger("tensorflow"), "propagate", True)
    path, _, extra = checkpoints.newest(tmp_path)
    assert (path.name, extra) == ("step-000000002.npz", {"step": 2})
    assert "step-000000003.npz is damaged" in caplog.text and "goes on from step-000000002.npz" in caplog.text
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step-000000001.npz",
        "step-000000002.npz",
        "step-000000003.npz.damaged",
    ]


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoints.newest(tmp_path) is None
    assert checkpoints.newest(tmp_path / "nowhere") is None


def test_the_last_few_and_the_best_are_kept(tmp_path, state):
    for step in range(1, 6):
        path = checkpoints.save(tmp_path, checkpoints.step_name(step), state, {"step": step})
        if step == 2:
            checkpoints.link(path, "best")
        checkpoints.prune(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.npz", "step-000000004.npz", "step-000000005.npz"]
    assert checkpoints.load(tmp_path / "best.npz")[1] == {"step": 2}


def test_a_full_disk_leaves_what_was_there(tmp_path, state, monkeypatch):
    path = checkpoints.save(tmp_path, "step-000000001", state, {"step": 1})
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    for name in ("step-000000001", "step-000000002"):
        with pytest.raises(InputError, match=rf"cannot write .*{name}.npz: No space left on device"):
            checkpoints.save(tmp_path, name, state, {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000001.npz"]
    assert path.read_bytes() == before


@pytest.mark.slow
def test_a_run_stopped_by_a_full_disk_is_found_and_goes_on(tmp_path, short, whole, monkeypatch, same_run):
    """--resume auto without a folder: the newest unfinished run of the same configuration."""
    monkeypatch.chdir(tmp_path)
    write, written = np.savez, []

    def full(file, **arrays):
        written.append(file)
        if len(written) > 4:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, **arrays)

    with monkeypatch.context() as patch, pytest.raises(InputError, match="No space left on device"):
        patch.setattr(np, "savez", full)
        trainers.fit(TrainConfig(**short, resume="auto"))
    (folder,) = (tmp_path / "logs").iterdir()
    assert folders.unfinished(resolve(TrainConfig(**short))) == f"logs/{folder.name}"
    assert folders.unfinished(resolve(TrainConfig(**short | {"lr": 1e-4}))) is None
    with folders.locked(folder):  # it lives
        assert folders.unfinished(resolve(TrainConfig(**short))) is None
    result = trainers.fit(TrainConfig(**short, resume="auto"))
    assert result.folder.resolve() == folder
    same_run(result, whole)
    assert folders.unfinished(resolve(TrainConfig(**short))) is None


@pytest.mark.slow
def test_a_run_goes_on_with_other_replicas(tmp_path, short, whole):
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        trainers.fit(TrainConfig(**short, run_dir=str(folder)), callbacks=[CrashAt(1, 13)])
    result = trainers.fit(TrainConfig(resume=str(folder), strategy="mirrored", replicas=2))
    assert (result.figures["steps"], result.figures["replicas"]) == (2 * STEPS, 2)
    lines, others = (folders.read_metrics(r.folder) for r in (result, whole))
    assert [x["step"] for x in lines] == [x["step"] for x in others]
    assert result.figures["train_loss"] == pytest.approx(whole.figures["train_loss"], rel=0.1)


def test_a_checkpoint_of_another_run_is_refused(tmp_path, state):
    path = checkpoints.save(tmp_path, "step-000000001", state, {})
    arrays, _ = checkpoints.load(path)
    kernel = next(key for key in arrays if key.endswith("kernel"))
    with pytest.raises(InputError, match="is of another run: 'step' is missing"):
        checkpoints.restore(state, {k: v for k, v in arrays.items() if k != "step"}, path)
    with pytest.raises(InputError, match="is of another run: 'more' is unknown"):
        checkpoints.restore(state, arrays | {"more": arrays["step"]}, path)
    with pytest.raises(InputError, match=rf"'{kernel}' is \(2,\) of float64, this run has \(3, 3,"):
        checkpoints.restore(state, arrays | {kernel: np.zeros(2)}, path)


def test_averages_are_what_is_loaded_of_a_run(whole):
    model, config, classes = checkpoints.load_run(whole.folder)
    arrays, _ = checkpoints.load(checkpoints.found(whole.folder / "checkpoints")[0])
    assert config.ema == 0.9 and len(classes) == 10
    for v in model.weights:
        np.testing.assert_array_equal(v.numpy(), arrays[f"ema/{v.path}"])
    assert any((arrays[f"ema/{v.path}"] != arrays[f"model/{v.path}"]).any() for v in model.weights)


def test_a_run_without_a_checkpoint_says_so(tmp_path, tiny):
    folders.create(tmp_path / "run", resolve(TrainConfig(**tiny)), {}, ("a", "b"))
    for which in ("last", "best"):
        with pytest.raises(InputError, match=f"has no {which} checkpoint"):
            checkpoints.load_run(tmp_path / "run", which)
