"""Lists of runs and the pages over them, made of folders as runs leave them, whole and damaged."""

import json
import os
import zipfile

import filelock
import pytest
import yaml

import kcnn.report
import kcnn.runs
from kcnn.errors import InputError
from trainers.reports.many import comparisons, differing, groups
from trainers.reports.overview import duration
from trainers.runs.listing import entries, spare


def made(folder, *, accuracy=0.9, epochs=3, done=3, result=True, seed=0, arch="resnet-18", **settings):
    """A run's folder, without its weights."""
    folder.mkdir(parents=True)
    values = {"arch": arch, "data": "digits", "epochs": epochs, "seed": seed, "lr": 0.1, **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    (folder / "facts.json").write_text(json.dumps({"params": 1000, "macs": 5000}))
    lines = [{"step": 1, "epoch": 1, "loss": 2.3, "lr": 0.1}]
    for epoch in range(done):
        figures = {"val_accuracy": accuracy - 0.1 * (done - 1 - epoch), "val_loss": 1.0 / (epoch + 1)}
        lines.append({"epoch": epoch + 1, "step": epoch + 1, "train_loss": 1.0, "train_accuracy": 0.5, **figures})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result:
        told = {"val_accuracy": accuracy, "seconds": 75.0, "epochs": done, "images_per_second": 99.0,
                "val_accuracy_interval": [accuracy - 0.02, accuracy + 0.02],
                "val_images": 1000, "fingerprint": {"train": "a", "val": "b"}}  # fmt: skip
        (folder / "result.json").write_text(json.dumps(told))
    return folder


def checkpoint(folder, name, whole=True):
    (folder / "checkpoints").mkdir(exist_ok=True)
    path = folder / "checkpoints" / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", bytes(1000))
    if not whole:
        path.write_bytes(path.read_bytes()[:500])
    return path


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Two settings of two seeds, one that was stopped, one that is damaged, a trial of a search; and a live one."""
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        made(tmp_path / "logs" / f"good-{seed}", accuracy=0.95 + 0.002 * seed, seed=seed, lr=0.2)
        made(tmp_path / "logs" / f"bad-{seed}", accuracy=0.7 + 0.002 * seed, seed=seed)
    made(tmp_path / "logs" / "stopped", done=1, result=False)
    made(tmp_path / "logs" / "live", done=2, result=False)
    made(tmp_path / "logs" / "damaged")
    (tmp_path / "logs" / "damaged" / "result.json").write_text('{"val_accuracy": "high"}')
    made(tmp_path / "logs" / "search" / "trials" / "0", accuracy=0.8)
    lock = filelock.FileLock(tmp_path / "logs" / "live" / ".lock")
    with lock:
        yield tmp_path / "logs"


def test_each_run_is_told_with_its_state(logs):
    found = {run.folder.name: run for run in entries([logs], deep=False)}
    assert found.keys() == {"good-0", "good-1", "bad-0", "bad-1", "stopped", "live", "damaged"}
    states = {name: found[name].state for name in ("good-0", "stopped", "live", "damaged")}
    assert states == {"good-0": "finished", "stopped": "stopped", "live": "running", "damaged": "damaged"}
    good, stopped = found["good-0"], found["stopped"]
    assert (good.arch, good.data, good.epoch, good.epochs, good.best) == ("resnet-18", "digits", 3, 3, 0.95)
    assert stopped.epoch == 1 and stopped.result == {"params": 1000, "macs": 5000}
    assert "val_accuracy 'high'" in found["damaged"].problem
    assert good.size == sum(p.stat().st_size for p in good.folder.iterdir()) and good.changed > 0
    assert {run.folder.name for run in entries([logs])} - found.keys() == {"0"}


@pytest.mark.parametrize("place, words", [("nowhere", "no folder"), (".", "holds no run")])
def test_a_place_without_runs_is_one_line(tmp_path, monkeypatch, place, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        entries([place])


def test_links_are_not_followed(logs, tmp_path):
    os.symlink(logs / "good-0", logs / "link")
    assert "link" not in {run.folder.name for run in entries([logs])}


def test_settings_that_differ_make_groups_and_seeds_do_not(logs):
    runs = [run for run in entries([logs], deep=False) if run.state == "finished"]
    assert differing(runs) == ["lr", "seed"]
    good, bad = groups(runs)
    assert (good.name, bad.name) == ("lr 0.2", "lr 0.1") and len(good.runs) == len(bad.runs) == 2
    [line] = comparisons([good, bad])
    assert line.startswith("lr 0.2 is better than lr 0.1 (25.00 points apart over 2 and 2 seeds")


def test_single_runs_are_compared_as_shares_of_the_images(tmp_path):
    for name, accuracy in (("a", 0.9), ("b", 0.895), ("c", 0.5)):
        made(tmp_path / name, accuracy=accuracy, lr=accuracy)
    told = comparisons(groups(entries([tmp_path])))
    assert "does not beat lr 0.895 (0.50 points apart on 1,000 images" in told[0]
    assert told[0].endswith("chance alone explains it") and "is better than lr 0.5" in told[1]
    made(tmp_path / "elsewhere", accuracy=1.0, lr=1)
    result = json.loads((tmp_path / "elsewhere" / "result.json").read_text())
    (tmp_path / "elsewhere" / "result.json").write_text(json.dumps(result | {"fingerprint": {"val": "other"}}))
    assert comparisons(groups(entries([tmp_path]))) == told  # with no other on the same images


def test_networks_of_one_name_are_told_apart(tmp_path):
    for name, widths in (("one", [8]), ("two", [16])):
        made(tmp_path / name, arch={"name": "mine", "stages": widths})
    assert sorted(group.name for group in groups(entries([tmp_path]))) == ["one", "two"]


def test_the_commands_list_compare_and_report(logs, capsys, tmp_path):
    listed = kcnn.runs.list_runs()
    told = capsys.readouterr().out
    assert len(listed["runs"]) == 7 and "logs/live" in told and "running" in told and "damaged: " in told
    kcnn.runs.compare("logs/good-0", "logs/bad-0")
    told = capsys.readouterr().out
    assert "lr" in told and "0.2" in told and "is better than" in told
    result = kcnn.report.report(out=tmp_path / "page.html")
    told = capsys.readouterr().out
    assert told.startswith("8 runs: ") and "is better than" in told
    page = (tmp_path / "page.html").read_text()
    assert 'href="logs/good-0"' in page and "kcnn train --resume logs/stopped" in page
    assert "good-1, epoch 3: 95.2" in page and "2 good" not in page and result["page"].endswith("page.html")
    assert page.count("<svg") == 5 and "1 min 15 s" in page  # three curves, accuracy against two costs


def test_clean_tells_first_and_keeps_what_is_needed(logs, capsys):
    run = logs / "good-0"
    kept = [checkpoint(run, name) for name in ("step-000000900.npz", "best.npz", "notes.npz")]
    spared = [checkpoint(run, "step-000000100.npz"), checkpoint(run, ".step.1a.partial.npz")]
    checkpoint(logs / "stopped", "step-000000001.npz"), checkpoint(logs / "stopped", "step-000000002.npz")
    told = kcnn.runs.clean()
    assert set(told["files"]) == {str(path.relative_to(logs.parent)) for path in spared} and not told["removed"]
    assert all(path.exists() for path in spared) and "kcnn runs clean --yes" in capsys.readouterr().out
    assert kcnn.runs.clean(yes=True)["bytes"] == told["bytes"] > 0
    assert not any(path.exists() for path in spared) and all(path.exists() for path in kept)
    assert len(list((logs / "stopped" / "checkpoints").iterdir())) == 2
    assert kcnn.runs.clean()["files"] == []


def test_a_damaged_last_checkpoint_saves_those_before_it(logs):
    run = logs / "good-1"
    checkpoint(run, "step-000000001.npz")
    checkpoint(run, "step-000000002.npz", whole=False)
    [found] = entries([run])
    assert spare(found) == []


@pytest.mark.parametrize("seconds, told", [
    (5.4, "5 s"), (60, "1 min"), (75, "1 min 15 s"), (3700, "1 h 1 min"), (90000, "1 d 1 h"), (86400, "1 d"),
])  # fmt: skip
def test_durations(seconds, told):
    assert duration(seconds) == told


@pytest.mark.parametrize("changes", [
    {"macs": "many"}, {"images_per_second": [1]}, {"val_accuracy_interval": "wide"}, {"fingerprint": 3},
    {"val_images": "x"}, {"seconds": None},
])  # fmt: skip
def test_a_stranger_s_figures_break_no_page(tmp_path, capsys, changes):
    made(tmp_path / "runs" / "good")
    path = made(tmp_path / "runs" / "evil", lr=0.3) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    kcnn.runs.compare(str(tmp_path / "runs"))
    kcnn.report.report(str(tmp_path / "runs"), out=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "good" in page and ("evil" in page or "damaged" in page)


def test_names_that_are_no_text_and_dates_among_the_settings_are_shown(tmp_path):
    name = os.fsdecode(b"run \xff; <b>")
    config = made(tmp_path / "runs" / name, result=False, done=1) / "config.yaml"
    config.write_text(config.read_text() + "seed_day: 2026-11-27\n")
    made(tmp_path / "runs" / "other")
    kcnn.report.report(str(tmp_path / "runs"), out=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert 'href="runs/run%20%FF%3B%20%3Cb%3E"' in page and "run \\xff; &lt;b&gt;" in page and "2026-11-27" in page
