"""Design spaces compared, from the command line to the page."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kcnn
from trainers.runs import folders
from trainers.training import Result
from tuning import design_space
from tuning.pages.design_space import narrowed, next_sweep
from tuning.trials import engine, sweep
from tuning.trials.sweep import FIGURES, read_lines

ROOT = Path(__file__).parents[2]
SPACES = ("anynetx-e:d=1..2,w=8..64,g=4..8,b=1..2", "regnetx:d=4..6,w=8..24,a=8..24,g=4..8,b=1")
FLAGS = ("--space", *SPACES, "--networks", "6", "--min-macs", "60K", "--max-macs", "250K", "--resolution", "8")


def told(capsys, *argv):
    """(exit code, standard output, standard error) of the command."""
    with pytest.raises(SystemExit) as left:
        design_space.main([str(a) for a in argv])
    return left.value.code, *capsys.readouterr()


def written(path, errors):
    """A table of results: the errors of each space, and depths of which some are best."""
    rows = []
    for space, values in errors.items():
        for i, error in enumerate(values):
            symbols = {"d": 5 + i % 20, "w": 24, "a": 20.0 + i, "m": 2.0, "g": 8, "b": 1}
            arch = f"regnetx-d{5 + i % 20}-w24-a{20 + i}-m2-g8-b1"
            rows.append(
                {
                    "key": f"{space}-{i}",
                    "space": space,
                    "arch": arch,
                    "symbols": symbols,
                    "val_accuracy": 1 - error,
                    "macs": 10**6 + i,
                    "params": 5000 + i,
                }
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_known_tables_get_the_right_verdicts_and_a_page(here, capsys):
    rng = np.random.default_rng(0)
    better, worse, same = rng.normal(0.2, 0.04, 30), rng.normal(0.26, 0.04, 30), rng.normal(0.26, 0.04, 30)
    written(here / "one.jsonl", {"regnetx": better, "anynetx-a": worse})
    written(here / "two.jsonl", {"anynetx-b": same})
    code, out, _ = told(capsys, "--table", "one.jsonl", "two.jsonl", "--run-dir", "seen", "--json")
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and [c["better"] for c in figures["comparisons"]] == ["regnetx", "regnetx", None]
    assert "regnetx is better than anynetx-a, beyond chance" in out
    assert "no difference between anynetx-a and anynetx-b beyond chance" in out
    of = {s["space"]: s for s in figures["spaces"]}
    assert of["regnetx"]["smallest_errors"] == pytest.approx(np.sort(better)[:5].mean())
    assert of["anynetx-a"]["mean_error"] == pytest.approx(worse.mean())
    assert figures["best"]["val_accuracy"] == pytest.approx(1 - better.min())
    assert figures["command"] == f"kcnn train --arch {figures['best']['arch']}"
    assert json.loads((here / "seen" / "summary.json").read_text()) == figures
    page = (here / "seen" / "page.html").read_text()
    assert page.count("<svg ") == 6  # EDFs, three times parameters, two costs
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)  # nothing is fetched
    assert page.count("<tr>") == 1 + 3 + 1 + 3 + 1 + 90 and figures["best"]["arch"] in page


def test_failed_networks_are_left_out_and_told(here, capsys):
    written(here / "t.jsonl", {"regnetx": [0.2, 0.3, 0.25, 0.4, 0.1]})
    with open("t.jsonl", "a") as file:
        file.write(
            json.dumps({"key": "x", "space": "regnetx", "arch": "broken", "error": "InputError: nan <b>"}) + "\n"
        )
    code, out, _ = told(capsys, "--table", "t.jsonl", "--run-dir", ".", "--json")
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and (figures["networks"], figures["failed"], figures["comparisons"]) == (5, 1, [])
    assert "1 networks failed" in out and "InputError: nan &lt;b&gt;" in Path("page.html").read_text()


def test_what_to_look_at_next_lies_within_the_best_ranges():
    ranges = {"depth": (12.0, 15.0, 28.0), "w0": (24.0, 24.0, 24.0), "wa": (8.5, 9.0, 30.1), "wm": (2.0, 2.1, 2.5),
              "group width": (8.0, 8.0, 16.0), "bottleneck ratio": (1.0, 1.0, 1.0)}  # fmt: skip
    spaces = [
        {"space": "regnety:b=1", "smallest_errors": 0.2, "ranges": ranges, "narrowed": ["depth", "wa"]},
        {"space": "regnetx", "smallest_errors": 0.3, "ranges": ranges, "narrowed": ["depth"]},
    ]
    assert narrowed(spaces) == ["regnety:b=1", "regnety:d=12..28,w=24,a=8.5..30.1,b=1"]
    flags = ("--networks", "6", "--max-macs", "250000")
    both = "regnety:b=1 regnety:d=12..28,w=24,a=8.5..30.1,b=1"
    command = f"kcnn design-space --space {both} --networks 6 --max-macs 250000"
    assert next_sweep(spaces, flags) == {"next": command}
    assert narrowed([spaces[0] | {"narrowed": []}]) == []  # no range is narrower than chance makes one
    assert narrowed([{"space": "anynetx-a", "smallest_errors": 0.1, "ranges": {"depth": (1, 2, 3)}}]) == []


@pytest.fixture
def quick(monkeypatch):
    """Workers in this process, and trainings that take no time: deep networks err less."""
    begun = []

    def fit(config, callbacks):
        begun.append(config)
        Path(config.run_dir).mkdir(exist_ok=True)
        folders.write_json(Path(config.run_dir, folders.CLASSES), list("0123456789"))
        arch = kcnn.get(config.arch)
        figures = dict.fromkeys(FIGURES, 1.0) | {"val_accuracy": 0.5 + 0.02 * sum(s.depth for s in arch.stages)}
        facts = kcnn.facts(arch, 10, resolution=8)
        return Result(Path(config.run_dir), figures | {"macs": facts.macs, "params": facts.params})

    monkeypatch.setattr("trainers.fit", fit)
    monkeypatch.setattr(sweep, "carry_out", lambda trials, oracle, _: engine.work_alone(trials, oracle))
    return begun


def test_spaces_are_sampled_trained_and_drawn_and_more_goes_on(here, capsys, quick):
    code, out, err = told(capsys, *FLAGS, "--epochs", "1", "--run-dir", "s", "--json")
    assert code == 0 and err.count("drawing 6 networks of 60 K to 250 K multiply-adds") == 2
    rows = read_lines(here / "s" / "results.jsonl")
    assert [row["space"] for row in rows] == [SPACES[0]] * 6 + [SPACES[1]] * 6
    assert all(60e3 <= row["macs"] <= 250e3 and {"symbols", "activations", "run_dir"} <= row.keys() for row in rows)
    assert {(c.epochs, c.resolution, c.keep, c.resume) for c in quick} == {(1, 8, 1, "auto")}
    figures = json.loads(out.splitlines()[-1])
    assert figures["networks"] == 12 and {s["space"] for s in figures["spaces"]} == set(SPACES)
    best = max(rows, key=lambda row: row["val_accuracy"])
    assert figures["command"] == f"kcnn train --arch {best['arch']} --resolution 8"
    assert "next" not in figures and "more networks would narrow a space" in out  # six of them tell nothing
    assert len(list((here / "s" / "hparams").glob("*/events*"))) == 12
    code, *_ = told(capsys, *(7 if word == "6" else word for word in FLAGS), "--epochs", "1", "--run-dir", "s")
    assert code == 0 and len(quick) == 14
    assert read_lines(here / "s" / "results.jsonl")[:12] == rows
    code, _, err = told(capsys, *FLAGS, "--epochs", "2", "--run-dir", "s")
    assert code == 2 and "s holds another search: epochs is 1 there, 2 here" in err


def test_the_paper_s_band_goes_with_the_area():
    config = design_space.short_runs(replace(design_space.TrainConfig(), resolution=224))
    method = design_space.Method()
    assert design_space.macs_band(method, config) == (360e6, 400e6)
    assert design_space.macs_band(replace(method, max_macs="100M"), config) == pytest.approx((90e6, 100e6))
    assert design_space.macs_band(method, replace(config, resolution=112))[1] == pytest.approx(100e6)


@pytest.mark.parametrize("flags, says", [
    ("--space anynetx-f", "anynetx-f"),
    ("--space regnetx regnetx", "different ones"),
    ("--space regnetx:d=9..3", "'d=9..3' is empty"),
    ("--networks 4", "networks 4"),
    ("--stages 0", "stages 0"),
    ("--parallel 0", "parallel 0"),
    ("--networks 1" + "0" * 400, "networks 1000"),
    ("--stages 99", "stages 99"),
    ("--stages 7", "stages 7: 5 stages halve an image of 32 pixels to a single one, so at most 6 are needed"),
    ("--space regnetx:d=1..3", "stages 4: networks of the space regnetx:d=1..3 have at most 3"),
    ("--space anynetx-a:d=999", "networks of 4 stages have at least"),
    ("--space regnetx --max-macs 9999T", "networks of 4 stages have at most"),
    ("--space regnetx:d=" + "9" * 400, "d (depth) goes up to 1,500 at most"),
    ("--space anynetx-a:w=8..99999999999999999", "w (width) goes up to 100,000 at most"),
    ("--space regnetx:a=" + "9" * 400, "a (slope wa) goes up to 100,000 at most"),
    ("--space regnetx --max-macs=", "max-macs ''"),
    ("--best 0", "best 0"),
    ("--max-macs many", "max-macs 'many'"),
    ("--min-macs 2M --max-macs 1M", "min-macs 2 M, max-macs 1 M"),
    ("--arch resnet-18", "arch 'resnet-18': leave it out"),
    ("--phi 1", "phi 1.0: leave it out"),
    ("--resume auto", "resume 'auto': leave it out"),
    ("--data nowhere/", "nowhere"),
    ("--batch-size 5000 --resolution 8 --max-macs 1M --networks 5 --space regnetx", "batch-size 5000"),
    ("--epochs 0", "epochs 0"),
    ("--recipe nope", "nope"),
    ("--config nowhere.yaml", "nowhere.yaml"),
    ("--table nowhere.jsonl", "nowhere.jsonl"),
    ("--table bad.jsonl", "bad.jsonl, line 1 is not JSON"),
    ("--table empty.jsonl", "empty.jsonl: lines with space, arch and val_accuracy"),
    ("--table failed.jsonl", "all 1 networks failed, the first: it broke"),
])  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(here, capsys, flags, says):
    Path("bad.jsonl").write_text("{]\n")
    Path("empty.jsonl").write_text("")
    Path("failed.jsonl").write_text('{"space": "a", "arch": "x", "error": "it broke"}\n')
    before = sorted(here.iterdir())
    code, out, err = told(capsys, *flags.split())
    line = [line for line in err.splitlines() if "drawing" not in line]
    assert code == 2 and out == "" and len(line) == 1 and says in line[0]
    assert [p for p in sorted(here.iterdir()) if p not in before and p.name != "logs"] == []


def test_help_teaches(capsys):
    code, out, _ = told(capsys, "--help")
    assert code == 0 and all(flag in out for flag in ("--space", "--max-macs", "--parallel", "--table", "--val-split"))


@pytest.mark.slow
def test_a_sweep_killed_twice_ends_as_if_it_had_not_been(tmp_path):
    flags = [word for word in FLAGS if word != SPACES[1]]  # of two spaces, the networks are one list all the same
    command = [sys.executable, "-m", "tuning.design_space", *flags, "--epochs", "2", "--batch-size", "64", "--parallel",
               "2", "--run-dir", str(tmp_path / "s")]  # fmt: skip

    def lines():
        return read_lines(tmp_path / "s" / "results.jsonl")

    for enough in (1, 3):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while len(lines()) < enough:
            assert process.poll() is None
        process.kill()
        process.wait()
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["networks"], figures["failed"]) == (6, 0)
    assert len({row["key"] for row in lines()}) == len(lines()) == 6
    for row in lines():  # one history each, whole
        metrics = read_lines(tmp_path / "s" / row["run_dir"] / "metrics.jsonl")
        assert [line["epoch"] for line in metrics if "val_accuracy" in line] == [1, 2]
