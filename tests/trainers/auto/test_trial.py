"""When a trial is made, what it chooses, what is kept of it, and that a run goes on with it."""

import importlib
import json
import os
from dataclasses import replace

import pytest

import trainers
from trainers import TrainConfig
from trainers.auto import kept, table, trial
from trainers.auto.devices import Devices
from trainers.auto.table import Choice
from trainers.auto.trial import Timing
from trainers.runs import folders
from trainers.settings import own_or_named

fitting = importlib.import_module("trainers.training")
ARCH = "anynetx-d1x1-w64x512-g512"  # of `tiny`
FLOAT32, HALF = Choice("float32", False), Choice("mixed_bfloat16", False)
XLA, BOTH = Choice("float32", True), Choice("mixed_bfloat16", True)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Nothing is kept, the CPU has bfloat16, where XLA may pay for the network, and every run is long enough."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    know(monkeypatch, {table.XLA: 1.0})
    for module in (trial, table):
        monkeypatch.setattr(module, "devices_of", lambda strategy: Devices("cpu-bfloat16", "it"))
    monkeypatch.setattr(trial, "LEAST_SECONDS", 0.0)


def know(monkeypatch, times):
    """Lets the table have these times of the tiny network's family."""
    rows = {own_or_named(ARCH).family: times}
    monkeypatch.setattr(table, "measured", lambda: {"times": {"cpu-bfloat16": rows}})


@pytest.fixture
def run(tiny, tmp_path):
    """A run that can start, on auto."""
    config = TrainConfig(**tiny, epochs=1000, precision="auto", jit="auto", run_dir=str(tmp_path / "run"))
    return fitting.prepare(*fitting.new_or_resumed(config))


def measuring(times, cost=1.0):
    """A measure that knows the seconds of a step of each choice, and the choices it was asked for."""
    asked = []

    def measure(run, choice):
        asked.append(choice)
        return Timing(times[choice], cost)

    return measure, asked


@pytest.mark.parametrize(
    "times, chosen, asked",
    [
        ({FLOAT32: 1, HALF: 0.6, BOTH: 0.7}, HALF, [FLOAT32, HALF, BOTH]),
        ({FLOAT32: 1, HALF: 0.6, BOTH: 0.5}, BOTH, [FLOAT32, HALF, BOTH]),
        ({FLOAT32: 1, HALF: 1.2, XLA: 4}, FLOAT32, [FLOAT32, HALF, XLA]),
        ({FLOAT32: 1, HALF: 1.2, XLA: 0.8, BOTH: 0.9}, XLA, [FLOAT32, HALF, XLA, BOTH]),
        ({FLOAT32: 1, HALF: 0.96, BOTH: 0.97}, FLOAT32, [FLOAT32, HALF, BOTH]),  # it saves less than 5 %
    ],
)
def test_a_trial_takes_what_is_clearly_faster(times, chosen, asked, run, capsys):
    measure, seen = measuring(times)
    decided = trial.decided(run, measure)
    assert seen == asked
    assert Choice(decided.config.precision, decided.config.jit) == chosen
    flags = decided.config.flags
    assert (flags.precision, flags.jit) == (chosen.precision, "on" if chosen.jit else "off")
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"auto: {chosen}: a step takes 1 s float32 without XLA")
    assert decided.config == replace(run.config, precision=chosen.precision, jit=chosen.jit, flags=flags)


def test_flags_that_say_what_they_want_are_not_tried(run):
    measure, seen = measuring({FLOAT32: 1, HALF: 0.5, XLA: 0.5, BOTH: 0.1})
    plain = replace(run, config=replace(run.config, flags=replace(run.config.flags, precision="float32", jit=None)))
    assert trial.decided(plain, measure) is plain and not seen
    half = replace(run, config=replace(run.config, flags=replace(run.config.flags, jit=None)))
    assert trial.decided(half, measure).config.flags.precision == "mixed_bfloat16" and seen == [FLOAT32, HALF]
    assert trial.decided(half, measure).config.flags.jit is None


@pytest.mark.parametrize(
    "times, tried",
    [
        ({"xla": 4.0, "mixed_bfloat16": 1.1}, [FLOAT32, HALF]),
        ({"xla": 1.1, "mixed_bfloat16": 1.5}, [FLOAT32, XLA]),
        ({}, [FLOAT32, HALF]),  # XLA may compile for a minute
    ],
)
def test_what_the_table_has_as_far_slower_is_not_tried(times, tried, run, monkeypatch):
    know(monkeypatch, times)
    measure, seen = measuring({FLOAT32: 1, HALF: 0.5, XLA: 0.5})
    assert trial.decision(run, measure)[0] == tried[-1] and seen == tried


def test_a_trial_takes_no_more_than_its_share_of_the_run(run):
    steps = run.plan.steps
    step = 2.5 / (trial.SHARE * steps)  # 2.5 s are the share: a second trial of 1 s fits, XLA's of 4 s does not
    measure, seen = measuring({FLOAT32: step, HALF: 0.5 * step, XLA: 0.1 * step, BOTH: 0.1 * step})
    choice, why = trial.decision(run, measure)
    assert choice == HALF and seen == [FLOAT32, HALF]
    assert f"too short for it: {XLA}" in why or f"too short for it: {BOTH}" in why


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"deterministic": True}, "is not decided by a clock"),
        ({"features_only": True}, "a classifier on features"),
        ({}, "too short for a trial"),
    ],
)
def test_the_table_decides_where_no_trial_pays(changes, reason, run, monkeypatch, capsys):
    if not changes:
        monkeypatch.setattr(trial, "LEAST_SECONDS", 1e9)
    changed = replace(run, config=replace(run.config, **changes))
    measure, seen = measuring({})
    assert Choice(*(getattr(trial.decided(changed, measure).config, n) for n in ("precision", "jit"))) == FLOAT32
    assert not seen and reason in capsys.readouterr().out


def test_a_decision_is_kept_for_runs_of_the_same_kind(run, monkeypatch):
    measure, seen = measuring({FLOAT32: 1, HALF: 0.5, BOTH: 2})
    assert trial.decision(run, measure)[0] == HALF
    assert trial.decision(replace(run, folder=run.folder / "other"), measure) == (
        HALF, trial.decision(run, measure)[1])  # fmt: skip
    assert len(seen) == 3  # of the first decision
    monkeypatch.setattr(trial, "devices_of", lambda strategy: Devices("cpu-bfloat16", "another"))
    assert trial.decision(run, measure)[0] == HALF and len(seen) == 6
    trial.decision(replace(run, config=replace(run.config, batch_size=32)), measure)
    assert len(seen) == 9


DAMAGED = ["", "{", "[]", "{}", "1" * 100, "[" * 10_000, '{"choice": "float64 without XLA", "why": "x"}',
           '{"choice": ["mixed_bfloat16 without XLA"], "why": "x"}', '{"choice": "mixed_bfloat16 without XLA"}',
           '{"choice": "mixed_bfloat16 without XLA", "why": "\\u001b[2J"}', "x" * 100_000]  # fmt: skip


def test_what_is_kept_is_not_trusted(run):
    choices = [FLOAT32, HALF]
    kept.write("name", HALF, "a reason")
    path = kept.folder() / "name.json"
    assert kept.read("name", choices) == (HALF, "a reason")
    assert kept.read("name", [FLOAT32]) is None  # it is none of the choices
    for text in DAMAGED:
        path.write_text(text)
        assert kept.read("name", choices) is None, text
    path.unlink()
    os.mkfifo(path)  # on which reading would wait
    assert kept.read("name", choices) is None


def test_without_a_place_to_keep_it_a_decision_is_made_each_time(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    measure, seen = measuring({FLOAT32: 1, HALF: 0.5, BOTH: 2})
    assert trial.decision(run, measure)[0] == trial.decision(run, measure)[0] == HALF
    assert len(seen) == 6


def test_a_relative_cache_folder_counts_as_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kept.folder() == tmp_path / ".cache/kcnn/auto"


def test_a_dry_run_makes_no_trial(run, capsys):
    assert "a trial of some steps at the start" in trial.outlook(run)
    trial.decided(run, measuring({FLOAT32: 1, HALF: 0.5, BOTH: 2})[0])
    assert "auto: mixed_bfloat16 without XLA: a step takes" in trial.outlook(run)


def test_a_resumed_run_keeps_what_was_chosen(finished):
    auto = TrainConfig(resume=str(finished.folder), precision="auto", jit="auto")
    flags = fitting.new_or_resumed(auto)[0].flags
    saved = folders.read_config(finished.folder).flags
    assert (flags.precision, flags.jit) == (saved.precision, saved.jit) == ("float32", None)


def test_a_config_of_an_earlier_version_means_what_it_meant(finished, tmp_path):
    for name in ("config.yaml", "classes.json"):
        text = (finished.folder / name).read_text().replace("jit: null", "jit: auto")
        (tmp_path / name).write_text(text)
    assert "jit: auto" in (tmp_path / "config.yaml").read_text()
    assert folders.read_config(tmp_path).flags.jit is None


@pytest.mark.slow
def test_a_run_on_auto_is_the_run_with_what_it_chose(tiny, tmp_path, monkeypatch, training_only, same_run):
    monkeypatch.setattr(trial, "SHARE", 1e9)
    auto = {"precision": "auto", "jit": "auto"}
    chosen = trainers.fit(TrainConfig(**tiny, **auto, epochs=1, run_dir=str(tmp_path / "auto")))
    [decision] = kept.folder().iterdir()
    flags = folders.read_config(chosen.folder).flags
    words = f"{flags.precision} {'with' if flags.jit == 'on' else 'without'} XLA"
    assert json.loads(decision.read_text())["choice"] == words
    typed = {"precision": flags.precision, "jit": flags.jit}
    same_run(chosen, trainers.fit(TrainConfig(**tiny, **typed, epochs=1, run_dir=str(tmp_path / "typed"))))
    decision.unlink()
    monkeypatch.setattr(fitting, "timed", lambda *_, **__: pytest.fail("a resumed run made a trial"))
    same = [
        trainers.fit(TrainConfig(resume=str(tmp_path / name), epochs=2, **words))
        for name, words in (("auto", auto), ("typed", {}))
    ]
    same_run(*same)
