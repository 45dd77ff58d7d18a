"""Checkpoints that are damaged, unreadable or gone, and metrics that were lost."""

import json
import os
import shutil

import numpy as np
import pytest

from kcnn.errors import InputError
from trainers.runs import checkpoints, folders


def damage(path):
    data = path.read_bytes()
    path.unlink()  # best.npz may be the same file under another name
    path.write_bytes(data[: len(data) // 2])


def test_where_only_the_best_is_whole_the_run_goes_on_from_it(stopped, train, epochs):
    for path in checkpoints.found(stopped / "checkpoints"):
        damage(path)
    best = checkpoints.load(stopped / "checkpoints/best.npz")[1]
    result = train(stopped, resume=True)
    assert (best["step"], result.figures["steps"]) == (6, 9)
    assert epochs(stopped) == [(1, 3), (2, 6), (3, 9)]
    assert checkpoints.load(stopped / "checkpoints/best.npz")[1] == best
    assert {p.name for p in (stopped / "checkpoints").iterdir()} == {
        "best.npz",
        "step-000000003.npz.damaged",
        "step-000000006.npz.damaged",
        "step-000000009.npz",
    }


def test_where_none_is_whole_the_run_stops_and_nothing_is_touched(stopped, train, contents):
    for path in (stopped / "checkpoints").iterdir():
        damage(path)
    before = contents(stopped)
    with pytest.raises(InputError, match=r"none of the 3 checkpoints in .* can be used, the newest: .*step-000000006"):
        train(stopped, resume=True)
    assert contents(stopped) == before


def test_a_name_that_was_given_to_a_damaged_one_is_not_given_again(stopped, train):
    newest, *_ = checkpoints.found(stopped / "checkpoints")
    newest.with_name(f"{newest.name}.damaged").write_bytes(b"an earlier one")
    damage(newest)
    train(stopped, resume=True)
    assert newest.with_name(f"{newest.name}.damaged").read_bytes() == b"an earlier one"
    assert newest.with_name(f"{newest.name}.damaged-1").exists()


def test_a_checkpoint_that_cannot_be_read_stops_the_run(stopped, monkeypatch, train, contents):
    """It may be whole; who may not read it, or whose disk is away for a moment, must not lose it."""
    before, (newest, *_) = contents(stopped), checkpoints.found(stopped / "checkpoints")
    opened = os.open

    def refuse(path, *args, **kwargs):
        if str(path) == str(newest):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(
            InputError, match=r"step-000000006.npz: Permission denied: make it readable, or move it away"
        ):
            train(stopped, resume=True)
    assert contents(stopped) == before
    newest.unlink()
    newest.mkdir()
    with pytest.raises(InputError, match=r"step-000000006.npz: Is a directory: make it readable"):
        train(stopped, resume=True)


def test_a_disk_that_fails_while_it_is_read_is_no_damage(stopped, monkeypatch, train, contents):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoints, "members", broken)
    before = contents(stopped)
    with pytest.raises(InputError, match=r"step-000000006.npz: Input/output error"):
        train(stopped, resume=True)
    assert contents(stopped) == before


@pytest.mark.parametrize("lose", [shutil.rmtree, lambda folder: [p.unlink() for p in folder.iterdir()]])
def test_lost_checkpoints_are_no_reason_to_begin_anew(stopped, lose, train):
    before = (stopped / folders.METRICS).read_bytes()
    lose(stopped / "checkpoints")
    with pytest.raises(InputError, match=r"figures up to step 8, and .*checkpoints has no checkpoint: put it back, or"):
        train(stopped, resume=True)
    assert (stopped / folders.METRICS).read_bytes() == before
    (stopped / folders.METRICS).unlink()  # as the message says
    assert train(stopped, resume=True).figures["steps"] == 9


@pytest.mark.parametrize("every", [None, 2])
def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path, killed, every, train, epochs):
    with killed(2):
        train(tmp_path / "run")
    assert train(tmp_path / "run", resume=True, checkpoint_every=every).figures["steps"] == 9
    assert epochs(tmp_path / "run") == [(1, 3), (2, 6), (3, 9)]


def rename(arrays, extra):
    arrays["model/conv1_c0nv/kernel"] = arrays.pop(next(key for key in arrays if key.endswith("kernel")))


def retype(arrays, extra):
    arrays["step"] = arrays["step"].astype(np.float32)


def reshape(arrays, extra):
    arrays["model/logits/bias"] = arrays["model/logits/bias"][:5]


def forget(arrays, extra):
    del extra["epoch"]["loss"]


def mistake(arrays, extra):
    extra["history"] = [3]


def mislead(arrays, extra):
    extra["step"] = 3


def add(arrays, extra):
    extra["more"] = 3


@pytest.mark.parametrize("change", [rename, retype, reshape, forget, mistake, mislead, add])
def test_a_checkpoint_that_is_not_the_run_s_means_the_one_before(stopped, change, train, epochs):
    newest, *_ = checkpoints.found(stopped / "checkpoints")
    arrays, extra = checkpoints.load(newest)
    change(arrays, extra)
    newest.unlink()
    np.savez(newest, **arrays, extra=np.array(json.dumps(extra)))
    assert train(stopped, resume=True).figures["steps"] == 9
    assert newest.with_name(f"{newest.name}.damaged").exists() and epochs(stopped) == [(1, 3), (2, 6), (3, 9)]


def test_steps_are_numbers(tmp_path):
    for name in ("step-999999999.npz", "step-1000000000.npz", "step-000000010.npz", "step-x.npz", "step-1.npz.damaged"):
        (tmp_path / name).touch()
    assert [p.stem for p in checkpoints.found(tmp_path)] == ["step-1000000000", "step-999999999", "step-000000010"]


def test_lost_metrics_are_told(stopped, capsys, train):
    path = stopped / folders.METRICS
    path.write_text("".join(path.read_text().splitlines(True)[:2]))
    train(stopped, resume=True)
    assert "metrics.jsonl has only 2 of the 8 lines that the checkpoint remembers" in capsys.readouterr().err
    assert [line["step"] for line in folders.read_metrics(stopped)] == [1, 2, 7, 8, 9, 9]
