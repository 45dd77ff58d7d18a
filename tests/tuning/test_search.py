"""Whole searches, from the command line to the command that trains the winner."""

import html
import importlib
import json
import os
import shlex
import socket
import types
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import kcnn
import trainers
import tuning
from kcnn.errors import InputError, Interrupted
from trainers import TrainConfig
from trainers.runs import folders
from tuning.pages.search import recommendation, show_trials
from tuning.trials import service
from tuning.trials.objective import Objective
from tuning.trials.options import Limits, Ranges
from tuning.trials.search import cheapest, equals_of

ARCH = "anynetx-d2x2-w64x512-g512"
RANGES = Ranges(width_range=(0.0625, 0.13), depth_range=(0.5, 0.75), resolution_range=(12, 18))
LIMITS = Limits(max_macs="400K")  # which the larger networks of the ranges exceed


def main(*argv):
    """The exit code of the command."""
    with pytest.raises(SystemExit) as left:
        importlib.import_module("tuning.search").main([str(a) for a in argv])
    return left.value.code


def config(folder, **flags):
    return TrainConfig(**{"arch": ARCH, "run_dir": str(folder), "epochs": 2, "batch_size": 128, **flags})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished search by halving: three networks, of which one is promoted."""
    folder = tmp_path_factory.mktemp("searches") / "one"
    return tuning.search(config(folder), RANGES, LIMITS, max_trials=3)


def test_each_trial_is_a_run_within_the_limits(done):
    assert [row["trial"] for row in done.trials] == ["0", "1", "2"]
    for row in done.trials:
        made = kcnn.facts(ARCH, 10, **{k: row[k] for k in ("width", "depth", "resolution")})
        assert (row["macs"], row["params"]) == (made.macs, made.params) and row["macs"] <= 4e5
        run = Path(row["run_dir"])
        assert folders.read_json(run / folders.RESULT)["val_accuracy"] == row["val_accuracy"] == row["score"]
        assert 0 < row["lost_seconds"] < row["seconds"]
        assert row["latency_ms"] == 0.01 * row["resolution"]
    assert sorted(row["rung"] for row in done.trials) == [0, 0, 1]
    assert done.best["rung"] == 1 and done.best["epochs"] == 2 and len(done.best["rungs"]) == 2
    assert folders.read_json(done.folder / "result.json")["best"] == done.best
    first = max((r for r in done.trials), key=lambda r: r["rungs"][0]["val_accuracy"])
    assert first["rungs"][0]["val_accuracy"] == done.best["rungs"][0]["val_accuracy"]


def test_short_trials_see_small_images_through_the_same_network(done):
    short, full = (folders.open_run(done.folder / "trials" / f"{done.best['trial']}-rung{i}")[1] for i in range(2))
    assert short.resolution == round(0.7 * full.resolution) and short.epochs < full.epochs == 2
    assert short.arch.stages == full.arch.stages and short.arch.stem == full.arch.stem


def test_it_ends_with_a_table_a_picture_and_hparams(done, capsys):
    show_trials(done.trials, done.best)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and done.best["trial"] == lines[1].split()[1 if "*" in lines[1] else 0]
    assert Image.open(done.folder / "pareto.png").width == 1760  # eleven inches
    events = EventAccumulator(str(done.folder / "hparams" / done.best["trial"]))
    events.Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    session = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert session.hparams["width"].number_value == pytest.approx(done.best["width"])
    assert {"score", "val_accuracy", "macs", "latency_ms"} <= set(events.Tags()["tensors"])


def test_the_page_tells_what_to_take(done):
    page = (done.folder / "page.html").read_text()
    assert "<p>Take trial " in page and done.command in html.unescape(page)
    assert all(f">trial {row['trial']}</a>" in page for row in done.trials) and page.count("<svg") == 3
    assert done.equals == [done.best["trial"]] and done.choice == done.best  # the only one on its rung


@pytest.mark.parametrize("accuracies, equals, choice", [
    ([0.98, 0.97, 0.60], ["0", "1"], "1"), ([0.98, 0.60, 0.61], ["0"], "0"), ([0.9, 0.9, 0.9], ["0", "1", "2"], "2"),
])  # fmt: skip
def test_the_cheapest_that_the_best_does_not_beat_is_taken(accuracies, equals, choice):
    made = [
        {"trial": str(i), "score": a, "val_accuracy": a, "rung": 0, "macs": 100 - 10 * i}
        for i, a in enumerate(accuracies)
    ]
    search = types.SimpleNamespace(objective=Objective("val_accuracy"), images=355)
    found = equals_of(search, made, made[0])
    assert [row["trial"] for row in found] == equals and cheapest(found)["trial"] == choice
    told = recommendation({"best": made[0], "choice": cheapest(found), "equals": equals})
    assert told.startswith(f"trial {choice}") and ("beyond chance" in told) == (choice != "0")
    search.objective = Objective("val_accuracy", (("macs", -0.07),))
    assert equals_of(search, made, made[0]) == [made[0]]


def test_the_winners_command_trains_it_in_full(done, capsys):
    import kcnn.train

    program, command, *flags = shlex.split(done.command)
    assert (program, command) == ("kcnn", "train")
    with pytest.raises(SystemExit) as left:
        kcnn.train.main([*flags, "--dry-run", "--json"])
    assert left.value.code == 0
    plan = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (plan["macs"], plan["params"]) == (done.choice["macs"], done.choice["params"])
    assert plan["config"]["epochs"] == 12 and plan["config"]["batch_size"] == 128


def test_a_finished_search_is_told_again_without_training(done, capsys, monkeypatch):
    monkeypatch.setattr("trainers.fit", lambda *_, **__: pytest.fail("it trains"))
    flags = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in (("arch", ARCH), ("run_dir", done.folder), ("epochs", 2), ("batch_size", 128))
    ]
    for name in ("width", "depth", "resolution"):
        flags += [f"--{name}-range", *map(str, getattr(RANGES, f"{name}_range"))]
    assert main(*flags, "--max-macs", "400K", "--max-trials", 3, "--json") == 0
    out = capsys.readouterr().out
    told = json.loads(out.splitlines()[-1])
    assert told["trials"] == json.loads(json.dumps(done.trials)) and told["best"] == done.best
    assert f"next       kcnn train --arch {ARCH}" in out

    assert main(*flags, "--max-macs", "5M", "--max-trials", 3) == 2
    assert "holds another search: max-macs is 400K there, 5M here" in capsys.readouterr().err
    assert callable(tuning.search)


@pytest.mark.slow
def test_a_failing_trial_is_recorded_and_an_interrupted_one_gone_on_with(tmp_path, monkeypatch, capsys):
    """Trial 1 fails; SIGTERM comes in trial 2, which has trained one epoch of two by then."""
    fit, calls = trainers.fit, []

    def interrupted(config, callbacks):
        calls.append(Path(config.run_dir).name)
        if config.run_dir.endswith("1"):
            raise RuntimeError("out of\nmemory")
        if calls.count("2") == 1 and config.run_dir.endswith("2"):
            hook = type(callbacks[0]).on_epoch_end
            callbacks[0].on_epoch_end = lambda *a, **k: (hook(callbacks[0], *a, **k), os.kill(os.getpid(), 15))
        return fit(config, callbacks=callbacks)

    monkeypatch.setattr("trainers.fit", interrupted)
    asked = {"tuner": "random", "max_trials": 3}
    with pytest.raises(Interrupted, match="saved at step 11; the same command goes on"):
        tuning.search(config(tmp_path / "s"), RANGES, LIMITS, **asked)
    first = folders.read_metrics(tmp_path / "s/trials/2")
    result = tuning.search(config(tmp_path / "s"), RANGES, LIMITS, **asked)
    assert calls == ["0", "1", "2", "2"]
    assert [row["status"] for row in result.trials] == ["completed", "failed", "completed"]
    assert result.trials[1]["error"] == "RuntimeError: out of memory" and result.trials[1]["score"] is None
    assert "RuntimeError" in (tmp_path / "s/trials/1/error.txt").read_text()
    again = folders.read_metrics(tmp_path / "s/trials/2")
    assert again[: len(first)] == first and len(again) > len(first)
    assert "trial 1 (2/3)" in (err := capsys.readouterr().err) and "failed: RuntimeError: out of memory" in err
    assert result.best["trial"] in "02"


def test_all_trials_failing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.fit", lambda *_, **__: (_ for _ in ()).throw(InputError("the disk is full")))
    with pytest.raises(InputError, match="none of 2 trials succeeded, the first: the disk is full"):
        tuning.search(config(tmp_path / "s"), RANGES, LIMITS, tuner="random", max_trials=2)


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--max-macs", "1"], "no network of the space is within"),
        (["--objective", "val_f1"], "no run reports 'val_f1'"),
        (["--max-trials", "0"], "max-trials 0: a whole number from 1 to"),
        (["--max-trials", "9" * 400], "max-trials 99"),
        (["--parallel", "9" * 400], "parallel 99"),
        (["--grid-points", "1" + "0" * 18], "grid-points 1000"),
        (["--width-range", "1e308", "1e308"], "width 1e+308"),
        (["--resolution-range", "16", "9" * 30], "resolution-range 16 99"),
        (["--resolution-range", "16", "9999999"], "at most 8,192 pixels"),
        (["--lr-range", "nan", "1"], "lr-range nan 1"),
        (["--objective", "val_accuracy:macs^-" + "9" * 400], "an exponent of at most 10"),
        (["--batch-size", "9999"], "there are 1442 training images"),
        (["--data", "/nowhere"], "does not exist"),
        (["--arch", "resnet-19"], "did you mean"),
        (["--resume", "auto"], "--run-dir goes on"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(flags, says, tmp_path, capsys):
    assert main("--run-dir", tmp_path / "s", *flags) == 2
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert says in line and line.startswith("kcnn search: error: ")
    assert not out and not (tmp_path / "s").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main("--run-dir", tmp_path) == 2
    assert "is not empty and holds no search" in capsys.readouterr().err


def cluster(monkeypatch, name, port):
    monkeypatch.setenv(service.NAME, name)
    monkeypatch.setenv(service.ADDRESS, service.LOOPBACK)
    monkeypatch.setenv(service.PORT, str(port))


def test_a_port_in_use_and_a_chief_that_is_not_there(tmp_path, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind((service.LOOPBACK, 0))
        taken.listen()
        cluster(monkeypatch, "chief", taken.getsockname()[1])
        assert main("--run-dir", tmp_path / "s") == 2
        assert "the port is in use" in capsys.readouterr().err
    monkeypatch.setattr(service, "REACH_SECONDS", 1.0)
    cluster(monkeypatch, "worker-0", 1)
    assert main("--run-dir", tmp_path / "s") == 2
    assert "no chief answers at 127.0.0.1:1" in capsys.readouterr().err
    monkeypatch.delenv(service.PORT)
    assert main("--run-dir", tmp_path / "s") == 2
    assert "KERASTUNER_ORACLE_PORT is not set" in capsys.readouterr().err
