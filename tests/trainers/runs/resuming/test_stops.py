"""Symbolic links, signals, full disks, races, and folders that vanish under a run."""

import contextlib
import importlib
import os
import resource
import shutil
import signal
from pathlib import Path

import keras
import pytest

from kcnn.errors import InputError, Interrupted
from trainers.config import TrainConfig
from trainers.runs import checkpoints, folders

fitting = importlib.import_module("trainers.training")  # the package has its function under that name
conclude = fitting.conclude


@pytest.mark.parametrize("name", [".lock", *folders.FOLDERS])
def test_what_training_writes_to_may_be_no_link(stopped, tmp_path, name, train, contents):
    precious = tmp_path / "precious"
    precious.mkdir()
    if name == ".lock":
        (stopped / name).unlink()
        precious = precious / "file"
        precious.write_text("old")
    elif (stopped / name).exists():
        shutil.copytree(stopped / name, precious, dirs_exist_ok=True)
        shutil.rmtree(stopped / name)
    (stopped / name).symlink_to(precious)
    before = contents(tmp_path / "precious")
    with pytest.raises(InputError, match=f"{name} is a symbolic link, which a run does not follow"):
        train(stopped, resume=True)
    assert contents(tmp_path / "precious") == before


def test_links_among_the_files_are_not_followed(stopped, tmp_path, train):
    names = [folders.METRICS, folders.RESULT, "checkpoints/step-000000009.npz", "checkpoints/best.npz"]
    target = tmp_path / "precious"
    for name in names:
        path = stopped / name
        target.with_name(path.name).write_bytes(path.read_bytes() if path.exists() else b"old")
        path.unlink(missing_ok=True)
        path.symlink_to(target.with_name(path.name))
    (stopped / folders.RESULT).unlink()
    (stopped / folders.RESULT).symlink_to(tmp_path / "nowhere")
    before = {name: (tmp_path / Path(name).name).read_bytes() for name in names if name != folders.RESULT}
    train(stopped, resume=True, epochs=5)
    assert {name: (tmp_path / Path(name).name).read_bytes() for name in before} == before
    assert not (tmp_path / "nowhere").exists()


# Signals, races, and folders that vanish.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["make", "conclude"])
def test_a_signal_outside_the_loop_stops_the_run_which_goes_on(tmp_path, monkeypatch, number, where, train, epochs):
    function, before = getattr(fitting, where), signal.getsignal(number)

    def told(*args):
        with contextlib.suppress(Exception):  # as TensorFlow's tracing has it
            os.kill(os.getpid(), number)
        return function(*args)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, where, told)
        with pytest.raises(Interrupted, match=rf"{number.name}: go on with --resume {tmp_path / 'run'}"):
            train(tmp_path / "run")
    assert signal.getsignal(number) is before and not folders.is_finished(tmp_path / "run")
    assert train(tmp_path / "run", resume=True).figures["steps"] == 9
    assert epochs(tmp_path / "run") == [(1, 3), (2, 6), (3, 9)]


@pytest.mark.parametrize("where", [
    "keras.Model.save", *(pytest.param(f"trainers.{name}", marks=pytest.mark.slow) for name in (
        "reports.conclusion.evaluate_train_sample", "reports.card.curves_png", "reports.card.card"))])  # fmt: skip
def test_a_conclusion_that_is_stopped_or_finds_no_room_can_be_had_again(stopped, monkeypatch, where, train, epochs):
    """Each of its files is whole or not there, and result.json, which says that all are there, is the last."""
    monkeypatch.setattr(fitting, "conclude", conclude)

    def told(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)

    def full(*args, **kwargs):
        made = None if saves else function(*args, **kwargs)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        return function(*args, **kwargs) if saves else made

    module, _, name = where.rpartition(".")
    saves = module == "keras.Model"  # itself; after the others, what they made is written
    place = keras.Model if saves else importlib.import_module(module)
    function, before = getattr(place, name), resource.getrlimit(resource.RLIMIT_FSIZE)
    for instead, error, words in ((told, Interrupted, "SIGTERM: go on with"), (full, InputError, "File too large")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, instead)
            try:
                with pytest.raises(error, match=words):
                    train(stopped, resume=True)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not folders.is_finished(stopped) and not list(stopped.rglob("*partial*"))
        if (stopped / "model.keras").exists():
            keras.saving.load_model(stopped / "model.keras")
    result = train(stopped, resume=True)
    assert {"model.keras", "curves.png", "card.md", folders.RESULT} <= {path.name for path in stopped.iterdir()}
    assert (result.figures["steps"], epochs(stopped)) == (9, [(1, 3), (2, 6), (3, 9)])


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders.time, "strftime", lambda _: "now")
    config = TrainConfig(**flags)
    jobs = [fitting.prepare(*fitting.new_or_resumed(config)) for _ in range(2)]  # neither has a folder yet
    assert [job.folder for job in jobs] == [Path(f"logs/{flags['arch']}-digits-now")] * 2
    with contextlib.ExitStack() as stack:
        made = [fitting.enter(job, stack)[0] for job in jobs]
    assert made == [Path(f"logs/{flags['arch']}-digits-now"), Path(f"logs/{flags['arch']}-digits-now-1")]
    assert all(folders.is_run(folder) for folder in made)


def test_a_folder_removed_under_a_run_is_noticed_and_not_made_again(tmp_path, monkeypatch, train, stand_in):
    def removed(run, state, position, callbacks):
        shutil.rmtree(run.folder)
        return stand_in(run, state, position, callbacks)

    monkeypatch.setattr(fitting, "Training", removed)
    with pytest.raises(InputError, match=r"cannot write .*metrics.jsonl: its folder is gone"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_does_not_bring_a_removed_folder_back(tmp_path, stopped):
    state = fitting.make(fitting.prepare(*fitting.new_or_resumed(TrainConfig(resume=str(stopped)))))
    with pytest.raises(InputError, match=r"cannot write .*best.npz: its folder is gone"):
        checkpoints.save(tmp_path / "gone/checkpoints", "best", state, {})
    assert not (tmp_path / "gone").exists()
