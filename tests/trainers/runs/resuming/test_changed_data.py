"""Data that is no longer what a run began with: it is told, refused or accepted."""

import importlib
import json
import shutil

import numpy as np
import pytest

import kcnn.train
from kcnn.errors import InputError
from trainers.data import open_data
from trainers.evaluation import Evaluation
from trainers.runs import checkpoints, folders, provenance

fitting = importlib.import_module("trainers.training")  # the package has its function under that name
conclude = fitting.conclude  # which has a stand-in in the tests of this folder


def delete_most(data):
    for path in data.glob("train/*/*.bmp"):
        if int(path.stem) % 4:
            path.unlink()


def double(data):
    for path in list(data.glob("train/*/*.bmp")):
        shutil.copy(path, path.with_stem(f"copy-{path.stem}"))


def delete_one(data):
    (data / "train/cat/07.bmp").unlink()


def add_one(data):
    (data / "val/dog/new.bmp").write_bytes(b"x")


def exchange(data):
    """All files keep their names and their sizes."""
    for one, other in (("cat", "tmp"), ("dog", "cat"), ("tmp", "dog")):
        (data / "train" / one).rename(data / "train" / other)


def replace_one(data):
    (data / "train/dog/03.bmp").write_bytes(b"cow 003" * 20)


CHANGES = {
    delete_most: ["train: 12 images, it had 48 (cat 6, had 24; dog 6, had 24)", "36 files are gone ('train/cat/01."],
    double: ["train: 96 images, it had 48", "48 files are new ('train/cat/copy-00.bmp', "],
    delete_one: ["47 images, it had 48 (cat 23, had 24)", "1 file is gone ('train/cat/07.bmp')"],
    add_one: ["val: 17 images, it had 16 (dog 9, had 8)", "1 file is new ('val/dog/new.bmp')"],
    exchange: ["train: 48 files are of other contents ('train/cat/00.bmp', "],
    replace_one: ["train: 1 file is of other contents ('train/dog/03.bmp')"],
}  # fmt: skip


@pytest.mark.parametrize("change, words", CHANGES.items(), ids=[change.__name__ for change in CHANGES])
def test_changed_data_is_refused_and_told(interrupted, change, words, train, contents):
    folder, data = interrupted
    change(data)
    before = contents(folder)
    with pytest.raises(InputError) as refused:
        train(folder, resume=True)
    assert all(word in str(refused.value) for word in [*words, "--data-changed accept"]), refused.value
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600
    assert contents(folder) == before


@pytest.mark.parametrize("change, steps", [(delete_most, 1), (double, 12), (replace_one, 6)])
def test_changed_data_that_is_accepted_begins_the_epoch_anew(interrupted, change, steps, train, epochs):
    folder, data = interrupted
    change(data)
    result = train(folder, resume=True, data_changed="accept")
    [told] = result.figures["data_changes"]
    assert told["epoch"] == 2 and told["what"].startswith("train: ")
    assert epochs(folder) == [(1, 6), (2, 2 * steps), (3, 3 * steps)]
    assert [line["step"] for line in folders.read_metrics(folder) if "val_loss" not in line] == [
        *range(1, 7),
        *range(steps + 1, 3 * steps + 1),
    ]
    assert (result.figures["steps"], result.figures["epochs"]) == (3 * steps, 3)
    arrays, extra = checkpoints.load(checkpoints.found(folder / "checkpoints")[-1])
    assert extra["step"] == int(arrays["step"])
    # Once accepted, it is the run's data.
    more = train(folder, resume=True, epochs=4)
    assert (more.figures["epochs"], more.figures["data_changes"]) == (4, [told])


@pytest.mark.usefixtures("no_pictures")
def test_the_card_tells_of_accepted_changes(interrupted, monkeypatch, capsys):
    """The change is accepted on the command line, and the card is written by all that writes one."""
    folder, data = interrupted
    plain = Evaluation(loss=0.5, accuracy=0.5, top5=1.0, confusion=np.full((2, 2), 5))
    monkeypatch.setattr(
        "trainers.reports.conclusion.evaluate_train_sample", lambda *_: plain
    )  # the files hold no pixels
    monkeypatch.setattr(fitting, "conclude", conclude)
    delete_one(data)
    for flags, code in ([], 2), (["--data-changed", "refuse"], 2), (["--data-changed", "accept"], 0):
        with pytest.raises(SystemExit) as left:
            kcnn.train.main(["--resume", str(folder), *flags])
        assert left.value.code == code
    [first, second] = capsys.readouterr().err.splitlines()
    assert "1 file is gone" in first and first == second
    line = "From epoch 2 on, the data was another, and that was accepted: train: 47 images, it had 48 (cat 23, had 24)"
    assert f"\n\n{line}; 1 file is gone ('train/cat/07.bmp').\n\n" in (folder / "card.md").read_text("utf-8")


def test_the_updates_follow_the_accepted_data(interrupted, monkeypatch, train, stand_in):
    """The learning rate is that of the place in the run, not of the steps that were done."""
    folder, data = interrupted
    delete_most(data)
    seen = []

    def look(run, state, position, callbacks):
        seen.append((position.step, int(state.step), int(state.optimizer.iterations)))
        return stand_in(run, state, position, callbacks)

    monkeypatch.setattr(fitting, "Training", look)
    train(folder, resume=True, data_changed="accept")
    assert seen == [(1, 1, 1)]


def test_a_kill_after_changed_data_was_accepted_goes_on(interrupted, killed, train, epochs):
    folder, data = interrupted
    double(data)
    with killed(13):  # before there is a checkpoint of the new data
        train(folder, resume=True, data_changed="accept")
    result = train(folder, resume=True)
    assert len(result.figures["data_changes"]) == 1
    assert epochs(folder) == [(1, 6), (2, 24), (3, 36)]


def test_a_finished_run_does_not_look_at_its_data(interrupted, train):
    folder, data = interrupted
    result = train(folder, resume=True)
    delete_most(data)
    assert train(folder, resume=True).figures == result.figures
    with pytest.raises(InputError, match="36 files are gone"):
        train(folder, resume=True, epochs=4)
    assert folders.is_finished(folder)


def test_a_run_of_an_earlier_version_goes_on(interrupted, train):
    folder, data = interrupted
    (folder / provenance.DATA).unlink()
    (folder / provenance.FILES).unlink()
    path = folder / folders.CONFIG
    path.write_text(
        "".join(line for line in path.read_text().splitlines(True) if not line.startswith(("data_changed", "sam")))
    )
    for path in checkpoints.found(folder / "checkpoints"):
        arrays, extra = checkpoints.load(path)
        del extra["steps_per_epoch"]
        np.savez(path, **arrays, extra=np.array(json.dumps(extra)))
    delete_one(data)
    assert train(folder, resume=True).figures["epochs"] == 3
    delete_most(data)  # from then on it is compared
    with pytest.raises(InputError, match="train: 12 images, it had 47"):
        train(folder, resume=True, epochs=4)


def test_the_list_of_files_may_be_lost(interrupted, train):
    """It is for the message alone."""
    folder, data = interrupted
    replace_one(data)
    packed = (folder / provenance.FILES).read_bytes()
    for damaged in (packed[:-9], packed[:20] + b"x" * 20, b"", None):
        (folder / provenance.FILES).unlink()
        if damaged is not None:
            (folder / provenance.FILES).write_bytes(damaged)
        else:
            (folder / provenance.FILES).mkdir()
        with pytest.raises(InputError, match="train: other images or labels, in the same number"):
            train(folder, resume=True)


def test_large_data_is_compared_by_names_sizes_and_samples(tmp_path, monkeypatch, make_data):
    """To read all of it would take as long as an epoch."""
    monkeypatch.setattr("trainers.data.folder._HASHED", 10)
    source = open_data(str(make_data(tmp_path / "data")))
    hashed = [name for name, _, digest in source.train.files() if digest]
    assert 0 < len(hashed) < 12 < len(source.train.files())
    provenance.record(tmp_path, source, [])
    exchange(tmp_path / "data")
    assert "of other contents" in provenance.difference(tmp_path, open_data(str(tmp_path / "data")))
