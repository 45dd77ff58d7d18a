"""What an evaluation leaves in a run's folder, and what it refuses."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import kcnn.evaluate
import kcnn.export
import kcnn.predict
from kcnn.errors import InputError
from trainers import evaluation
from trainers.evaluation import evaluate_run
from trainers.runs import checkpoints


def command(main, *argv):
    with pytest.raises(SystemExit) as left:
        main([str(a) for a in argv])
    return left.value.code


def change(run, **values):
    """Fills those weights of a run's checkpoints whose names end in these, layer_weight, with values."""
    for path in (run / "checkpoints").glob("*.npz"):
        arrays, extra = checkpoints.load(path)
        for name, value in values.items():
            for key in (
                k for k in arrays if k.startswith(("model/", "ema/")) and k.endswith(name.replace("_", "/", 1))
            ):
                arrays[key] = np.full_like(arrays[key], value)
        np.savez(path, **arrays, extra=np.array(json.dumps(extra)))


@pytest.fixture(scope="module")
def known(shot, tmp_path_factory):
    """What the network of `run` says of its validation split."""
    found, answers = [], evaluation.answers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "answers", lambda *args: found.append(answers(*args)) or found[0])
        evaluate_run(str(shutil.copytree(shot.folder, tmp_path_factory.mktemp("known") / "run")))
    return found[0]


@pytest.fixture
def uncomputed(known, monkeypatch):
    """For tests of the files that an evaluation leaves: its figures are known."""
    monkeypatch.setattr(evaluation, "answers", lambda *args: known)
    monkeypatch.setattr(evaluation.evaluation_board, "show", lambda *args: None)


def test_each_evaluation_has_a_folder_of_its_own(run, photos, monkeypatch):
    monkeypatch.setattr(evaluation.time, "strftime", lambda *_: "20261121-120000")  # all in one second
    first, second = evaluate_run(str(run)), evaluate_run(str(run), checkpoint="best")
    third = evaluate_run(str(run), data=str(photos / "train"))
    folders = [
        run / "evaluations" / name for name in ("val-20261121-120000", "val-20261121-120000-1", "train-20261121-120000")
    ]
    for folder, figures in zip(folders, (first, second, third), strict=True):
        names = {p.name.partition(".")[0] for p in folder.iterdir()}
        assert names == {"evaluation", "confusion", "mistakes", "events", "logits", "images", "projector_config"}
        assert json.loads((folder / "evaluation.json").read_text()) == figures
        assert figures["picture"] == str(folder / "confusion.png")
        assert figures["page"] == str(folder / "mistakes.html")
    assert set((run / "evaluations").iterdir()) == set(folders)
    for name in ("evaluation.json", "confusion.png", "mistakes.html"):
        assert (run / name).read_bytes() == (folders[2] / name).read_bytes()
    assert (third["images"], third["split"], third["place"]) == (48, "all", f"all of {photos / 'train'}")


@pytest.mark.parametrize("data, name", [
    ("../photos", "photos"), ("a b/é,\n", "a-b-é"), ("/", "data"), (".hidden", "hidden"), ("x" * 200, "x" * 50),
])  # fmt: skip
def test_an_evaluation_s_name_is_a_name(tmp_path, data, name):
    with evaluation.new_folder(tmp_path / "evaluations", Path(data).name if data[0] != "a" else data) as folder:
        assert folder.parent == tmp_path / "evaluations" and folder.name.rsplit("-", 2)[0] == name


def test_links_in_a_run_s_folder_are_not_followed(run, tmp_path, uncomputed):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("confusion.png", "evaluation.json", ".evaluation.json.partial", ".confusion.png.partial"):
        (run / name).symlink_to(victim)
    evaluate_run(str(run))
    assert victim.read_text() == "mine"
    assert not (run / "evaluation.json").is_symlink() and json.loads((run / "evaluation.json").read_text())["images"]


def test_a_link_in_the_place_of_a_folder_is_not_followed(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (run / "evaluations").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="evaluations is a symbolic link"):
        evaluate_run(str(run))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_full_disk_costs_nothing_but_the_evaluation(run, capsys, files_of_at_most, everything, uncomputed):
    assert command(kcnn.evaluate.main, run) == 0
    before = everything(run)
    for size in (0, 1000, 100_000):  # neither file, the picture is cut short, only just so
        with files_of_at_most(size):
            if command(kcnn.evaluate.main, run) == 0:
                continue
        assert everything(run) == before
        line = capsys.readouterr().err.splitlines()[-1]
        assert "cannot write" in line and "File too large" in line


def test_a_terminated_evaluation_leaves_nothing(run, monkeypatch, everything, uncomputed):
    before = everything(run)

    def killed(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(evaluation, "confusion_png", killed)
    with pytest.raises(SystemExit) as left:
        evaluate_run(str(run))
    assert left.value.code == 128 + signal.SIGTERM and everything(run) == before
    assert not (run / "evaluations").exists() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_batch_is_no_larger_than_the_images(run, monkeypatch):
    batches = []

    def noted(split, *, batch, **more):
        batches.append(batch)
        return eval_batches(split, batch=batch, **more)

    eval_batches = evaluation.eval_batches
    monkeypatch.setattr(evaluation, "eval_batches", noted)
    one, other = evaluate_run(str(run), batch_size=2_000_000), evaluate_run(str(run), batch_size=5)
    assert batches == [16, 5] and one["confusion"] == other["confusion"]
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_the_command_says_where_and_how_many(run, photos, tmp_path, capsys):
    shutil.copytree(photos / "train" / "china", tmp_path / "new" / "china")
    assert command(kcnn.evaluate.main, run, "--data", tmp_path / "new", "--json") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    assert figures["images"] == 24 and [row["count"] for row in figures["per_class"]] == [24, 0]
    assert figures["per_class"][1]["recall"] is None
    assert lines[0].startswith("24 images: loss ")
    assert lines[1] == f"evaluated on all of {tmp_path / 'new'}, which have images of 1 of the run's 2 classes"


# Numbers that are none.


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("main", [kcnn.evaluate.main, kcnn.predict.main, kcnn.export.main])
def test_weights_that_are_no_numbers_are_refused(run, photos, capsys, everything, main, value):
    change(run, kernel=value)  # behind a ReLU, which makes 0 of NaN
    before = everything(run)
    images = [photos / "val" / "china" / "0.jpg"] if main is kcnn.predict.main else []
    assert command(main, run, *images) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "no finite number: choose --checkpoint best" in line
    assert everything(run) == before


def test_answers_that_are_no_numbers_are_refused(run, photos, capsys):
    change(run, logits_bias=3e38, logits_kernel=3e38)  # finite, but what they make is not
    assert command(kcnn.evaluate.main, run) == 2
    assert "the loss on the val split of" in (line := capsys.readouterr().err.splitlines()[-1]), line
    assert "no finite number" in line and not (run / "evaluations").exists()
    paths = [photos / "val" / "china" / f"{i}.jpg" for i in (0, 1)]
    assert command(kcnn.predict.main, run, *paths, "--json") == 2
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["predictions"] == [] and "NaN" not in out
    assert err.count("the network's answer to it is no finite number") == 3  # an image each, and the summary
    assert command(kcnn.export.main, run, "--images", "4") == 2
    assert "no finite number" in capsys.readouterr().err.splitlines()[-1]
    assert not (run / "saved_model").exists()


@pytest.mark.parametrize("place", ["fifo", "device"])
def test_what_is_no_file_is_not_read(run, tmp_path, capsys, place):
    path = Path("/dev/zero") if place == "device" else tmp_path / "pipe.jpg"
    if place == "fifo":
        os.mkfifo(path)
    assert command(kcnn.predict.main, run, path) == 2
    assert f"{str(path)!r} is neither a file nor a folder" in capsys.readouterr().err


def test_unknown_parts_are_one_line(run):
    with pytest.raises(InputError, match=r"split test: .* has no part"):
        evaluate_run(str(run), split="test")
