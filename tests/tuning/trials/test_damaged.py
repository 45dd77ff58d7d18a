"""Files of a search that were cut off, edited or made up: a line that names them, or nothing that matters."""

import copy
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import kcnn
from kcnn.errors import InputError
from trainers import TrainConfig
from tuning import compound, design_space, search
from tuning.trials import trial as trial_module
from tuning.trials.engine import work
from tuning.trials.halving import HalvingOracle, plan
from tuning.trials.options import Limits, Method, Ranges
from tuning.trials.oracles import BayesianOracle, GridOracle, HyperbandOracle, RandomOracle, Start
from tuning.trials.records import made, read
from tuning.trials.search import Settings, make_oracle, open_search, read_settings
from tuning.trials.settings import check_same
from tuning.trials.space import Dimension, Space
from tuning.trials.sweep import FIGURES, Job, ListOracle, Sweep, read_jobs

HOSTILE = (None, True, "", "../../esc", "\ud800", "COMPLETED", -1, 10**18, 10**400, 0.5, 1e308, float("nan"),
           float("inf"), [], [None], [[]], {}, {"a": 1}, ["0", "0"])  # fmt: skip
TUNERS = {
    "random": (RandomOracle, {}),
    "bayesian": (BayesianOracle, {"num_initial_points": 3}),
    "hyperband": (HyperbandOracle, {"max_epochs": 9}),
    "grid": (GridOracle, {"points": 3}),
    "halving": (HalvingOracle, {"rungs": plan(5, 12, False), "timing": lambda trial: (1.0, 5.0), "stretch": True}),
}


class Quick(Space):
    """Networks that cost nothing to look at."""

    def costs(self, values, everything=True):
        return {"macs": 1e6 * values["width"]}

    def network(self, values):
        return repr(self.rounded(values))


SPACE = Quick(TrainConfig(), (Dimension("width", 0.1, 1.0), Dimension("recipe", values=("a", "b"))), {"macs": 9e5})


def oracle(name, path):
    if name == "list":
        return ListOracle(Start(path), [f"job-{i}" for i in range(5)])
    make, options = TUNERS[name]
    return make(Start(path, max_trials=5), SPACE, **options)


def score(trial):
    return trial.hyperparameters.values.get("width", 0.5)


def places(value, at=()):
    """Where a JSON value holds others, from the top down."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*at, key))


def changed(value, rng):
    """A copy with one value, somewhere in it, that is gone or another."""
    value = copy.deepcopy(value)
    *above, last = rng.choice(list(places(value))[1:])
    holder = value
    for key in above:
        holder = holder[key]
    if rng.random() < 0.2:
        del holder[last]
    else:
        holder[last] = rng.choice(HOSTILE)
    return value


def damaged(text, rng):
    if rng.random() < 0.8:
        return json.dumps(changed(json.loads(text), rng)).encode()
    data, at = bytearray(text.encode()), rng.randrange(len(text))
    if rng.random() < 0.5:
        return bytes(data[:at])
    data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


@pytest.mark.parametrize("name", [*TUNERS, "list"])
@pytest.mark.parametrize("cases", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_a_changed_state_is_refused_or_gone_on_with(name, cases, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits for nobody"))
    rng, path, refused = random.Random(0), tmp_path / "oracle.json", 0
    o, left = oracle(name, path), 3
    cases = cases // 10 if name == "bayesian" else cases  # its process takes long to fit

    def stops(trial):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return score(trial)

    with pytest.raises(KeyboardInterrupt):
        work(o, "a", stops)
    text = path.read_text()
    for _ in range(cases):
        path.write_bytes(damaged(text, rng))
        o = oracle(name, path)
        try:
            o.reload()
        except InputError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
            continue
        work(o, "a", score)
        assert len(o.trials) <= 5 + 5 * (name == "hyperband")
    assert refused > cases / 4


RECORD = {"trial": "0", "values": {"width": 0.5}, "figures": {"val_accuracy": 0.5}, "score": 0.5, "error": None,
          "seconds": 1.0, "lost_seconds": 0.5, "epoch_seconds": 0.1, "epochs": 2, "resolution": 16}  # fmt: skip


@pytest.mark.parametrize("text", [
    "", "{", "[]", '"x"', "\x00", "[" * 100_000, '{"a": ' * 100_000, "1" * 5000,
    *(json.dumps(RECORD | wrong)
      for wrong in ({"score": "high"}, {"score": float("nan")}, {"figures": []}, {"figures": {}}, {"seconds": None},
                    {"values": {"width": []}}, {"epochs": 0.5}, {"figures": {"val_accuracy": 1e999}})),
])  # fmt: skip
def test_a_trial_s_record_is_whole_or_named(tmp_path, text):
    (tmp_path / "trial.json").write_text(text)
    with pytest.raises(InputError, match=r"trial\.json"):
        trial_module.read_record(tmp_path)
    (tmp_path / "trial.json").write_text(json.dumps(RECORD))
    assert trial_module.read_record(tmp_path) == RECORD


def test_a_file_that_is_none_or_too_large_is_not_read(tmp_path):
    (tmp_path / "folder").mkdir()
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(2**40)
    for name in ("gone", "folder", "huge"):
        with pytest.raises(InputError, match=name):
            read(tmp_path / name, {})


JOB = {"key": "a-000", "config": {"arch": "resnet-18", "epochs": 2}, "facts": {"space": "a"}}


@pytest.mark.parametrize("job", [
    [], {"key": "a"}, JOB | {"more": 1}, JOB | {"key": 5}, JOB | {"facts": []}, JOB | {"config": {"epochs": "many"}},
    JOB | {"config": {"no": 1}}, JOB | {"config": {"width": float("nan")}}, JOB | {"config": {"seed": 10**400}},
    JOB | {"config": {"strategy": "cloud"}}, JOB | {"config": {"arch": None}}, JOB | {"config": []},
])  # fmt: skip
def test_a_job_is_whole_or_named_with_its_line(tmp_path, job):
    (tmp_path / "jobs.jsonl").write_text(json.dumps(JOB) + "\n")
    [found] = read_jobs(tmp_path)
    assert found == Job("a-000", TrainConfig(arch="resnet-18", epochs=2), {"space": "a"})
    with open(tmp_path / "jobs.jsonl", "a") as file:
        file.write(json.dumps(job) + "\n")
    with pytest.raises(InputError, match=r"jobs\.jsonl, line 2"):
        read_jobs(tmp_path)


REGNET = {"d": 5, "w": 24, "a": 20.0, "m": 2.0, "g": 8, "b": 1}
ROW = {
    "key": "a-000",
    "space": "a",
    "arch": "x",
    "run_dir": "runs/a-000",
    "symbols": REGNET,
    "activations": 5,
    "candidate": "base",
    "resolution": 16,
} | dict.fromkeys(FIGURES, 0.5)


@pytest.mark.parametrize("wrong", [
    {"val_accuracy": "0.9"}, {"val_accuracy": float("nan")}, {"val_accuracy": 7.0}, {"val_accuracy": None},
    {"macs": float("inf")}, {"macs": "many"}, {"macs": -1.0}, {"space": 3}, {"arch": None}, {"symbols": []},
    {"symbols": {"d": 1}}, {"symbols": REGNET | {"g": -1}}, {"symbols": {"d": [1], "w": [], "g": [1], "b": [1]}},
    {"error": 3},
])  # fmt: skip
def test_a_result_is_drawn_or_named_with_its_line(tmp_path, wrong, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.jsonl").write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | wrong) + "\n")
    with pytest.raises(SystemExit) as left:
        design_space.main(["--table", "t.jsonl"])
    out, err = capsys.readouterr()
    assert left.value.code == 2 and not out and "t.jsonl, line 2" in err and err.count("\n") == 1


@pytest.mark.parametrize("text", ["{", "[]", json.dumps(RECORD), json.dumps(RECORD | {"score": None, "figures": None})])
def test_a_sweep_s_result_is_that_of_its_record_or_says_what_is_wrong(tmp_path, text):
    folder = tmp_path / "runs" / "a-000"
    folder.mkdir(parents=True)
    sweep = Sweep(tmp_path, {})
    job = Job("a-000", TrainConfig(), {"space": "a"})
    (folder / "trial.json").write_text(json.dumps(RECORD | {"figures": dict.fromkeys(FIGURES, 0.5)}))
    assert sweep.row(job) == {
        "key": "a-000",
        "space": "a",
        "arch": "efficientnet-b0",
        "run_dir": "runs/a-000",
        **dict.fromkeys(FIGURES, 0.5),
    }
    (folder / "trial.json").write_text(text)
    assert sweep.row(job)["error"] and "val_accuracy" not in sweep.row(job)
    assert sweep.row(job, "it killed three")["error"]


def test_a_candidate_tells_what_it_is():
    assert compound.checked_row(ROW, "x") == ROW
    for wrong in ({"candidate": "a"}, {"candidate": None}, {"resolution": 0.5}):
        with pytest.raises(InputError, match=r"^x(:| has)"):
            compound.checked_row(ROW | wrong, "x")


def test_settings_of_another_search_are_refused_with_what_differs():
    had = {"band": [1.0, 2.0], "config": {"data": "digits", "run_dir": "a"}}
    check_same(Path("f"), had, {"band": (1.0, 2.0), "config": {"data": "digits", "run_dir": "b"}})
    with pytest.raises(InputError, match=r"f holds another search: band is \[1.0, 2.0\] there, \[1.0, 3.0\] here"):
        check_same(Path("f"), had, had | {"band": [1.0, 3.0]})
    with pytest.raises(InputError, match="epochs is the default there, 3 here"):
        check_same(Path("f"), had, had | {"config": {"data": "digits", "epochs": 3}})
    check_same(Path("f"), had, had | {"config": {"data": "digits", "keep": 3}}, free={"keep"})


def test_a_search_of_a_network_of_one_s_own_is_read_again(tmp_path):
    own = replace(kcnn.get("resnet-18"), name="mine")
    settings = Settings(TrainConfig(arch=own), Ranges(), Limits(), Method())
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(settings.to_dict()))
    assert read_settings(tmp_path) == settings
    path.write_text(path.read_text().replace("stages:", "stairs:"))
    with pytest.raises(InputError, match=r"search\.yaml: config: arch: this is no architecture"):
        read_settings(tmp_path)


@pytest.mark.parametrize("cases", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_changed_settings_of_a_search_are_refused_or_settings(tmp_path, cases):
    settings = Settings(TrainConfig(epochs=2), Ranges(width_range=(0.1, 1.0)), Limits("1M"), Method("grid", 5))
    saved, rng, refused = settings.to_dict(), random.Random(0), 0
    (tmp_path / "search.yaml").write_text(json.dumps(saved))
    assert read_settings(tmp_path) == settings
    for _ in range(cases):
        (tmp_path / "search.yaml").write_text(json.dumps(changed(saved, rng)))
        try:
            read_settings(tmp_path)
        except InputError as error:
            refused += 1
            assert "search.yaml" in str(error)
    assert refused > cases / 4


def test_a_lost_record_leaves_its_trial_out(tmp_path, capsys):
    """Of three trials that have ended, one record is cut off and one is gone."""
    config = TrainConfig(arch="resnet-18", width=0.125, depth=0.5)
    method = Method("random", max_trials=3)
    found = open_search(Settings(config, Ranges(resolution_range=(8, 16)), Limits(), method), tmp_path)
    o = make_oracle(found)

    def run(trial):
        folder = tmp_path / "trials" / trial.trial_id
        folder.mkdir(parents=True)
        text = json.dumps(RECORD | {"trial": trial.trial_id, "values": trial.hyperparameters.values})
        (folder / "trial.json").write_text(text[: 20 if trial.trial_id == "1" else None])
        if trial.trial_id == "2":
            (folder / "trial.json").unlink()
        return 0.5

    work(o, "a", run)
    result = search.close(found, o)
    assert [row["score"] for row in result.trials] == [0.5, None, None] and result.best["trial"] == "0"
    err = capsys.readouterr().err
    assert f"trial 1 is left out: {tmp_path / 'trials/1/trial.json'} is not JSON" in err
    assert "trial 2 is left out: trial 2 has ended, but its trial.json is gone" in err


def test_values_that_cannot_be_are_told_shortly():
    with pytest.raises(InputError) as error:
        made(Job, JOB | {"key": ["x" * 1000]}, "place")
    assert str(error.value).startswith("place: key ['xxx") and len(str(error.value)) < 300
