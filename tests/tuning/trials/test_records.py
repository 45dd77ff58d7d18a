"""What a folder from a stranger can do: nothing outside itself."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.distribute import supervisor
from trainers.training import Result
from tuning.pages import hparams
from tuning.pages.search import draw_pareto
from tuning.trials import engine, sweep
from tuning.trials.objective import Objective
from tuning.trials.options import Limits, Method, Ranges
from tuning.trials.records import inside
from tuning.trials.search import Search, Settings
from tuning.trials.space import Space

NAMES = ("../../esc", "/esc", "..", ".", "", "a/b", "a\nb", "a\0b", "x" * 300, "..\\esc")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="a plain name of a file is needed"):
        inside(tmp_path, "runs", name)


def test_names_of_ours_stay():
    names = ("00", "alpha1.2311-beta1.1096-gamma1.1487-seed0", "regnetx-b-1-d-12..28-000", ".job-0.lock", "0-rung1")
    for name in names:
        assert inside(Path("there"), "runs", name) == Path("there", "runs", name)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A sweep's folder beside `elsewhere`, which nothing may be written to."""

    def fit(config, callbacks=()):
        Path(config.run_dir, "written").touch()
        return Result(Path(config.run_dir), dict.fromkeys(sweep.FIGURES, 0.5))

    monkeypatch.setattr("trainers.fit", fit)
    monkeypatch.setattr(sweep, "carry_out", lambda trials, oracle, _: engine.work_alone(trials, oracle))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sweep").mkdir()
    yield tmp_path / "sweep"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "sweep"}


@pytest.mark.parametrize("key", NAMES)
def test_a_job_s_key_does_not_lead_out_of_its_folder(folder, key):
    (folder / "jobs.jsonl").write_text(json.dumps({"key": key, "config": {}, "facts": {}}) + "\n")
    with pytest.raises(InputError, match="a plain name of a file is needed"):
        sweep.reopened(folder)


@pytest.mark.parametrize("link", ["runs", "runs/job-0"])
def test_a_sweep_does_not_follow_a_link(folder, link):
    (folder / link).parent.mkdir(exist_ok=True)
    (folder / link).symlink_to(folder.parent / "elsewhere")
    with pytest.raises(InputError, match=f"{Path(link).name} is a symbolic link"):
        sweep.train_all(folder, [sweep.Job("job-0", TrainConfig())], 1)


def search_in(folder):
    settings = Settings(TrainConfig(), Ranges(), Limits(), Method())
    return Search(settings, folder, Space(TrainConfig(), ()), Objective("val_accuracy"), {}, 355)


def trial(name, **values):
    return SimpleNamespace(trial_id=name, hyperparameters=SimpleNamespace(values=values))


@pytest.mark.parametrize("name", ["../../esc", "linked"])
def test_a_trial_stays_in_its_search_s_folder(folder, name):
    (folder / "trials").mkdir()
    (folder / "trials" / "linked").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(InputError, match=r"plain name|symbolic link"):
        search_in(folder).run(trial(name))


def test_a_promoted_trial_goes_on_with_no_run_from_outside(folder):
    assert search_in(folder).run(trial("0", **{"tuner/trial_id": "../../elsewhere"})) is None
    assert "a plain name of a file is needed" in (folder / "trials" / "0" / "trial.json").read_text()


@pytest.mark.parametrize("link, key", [("hparams", "a"), ("hparams/a", "a"), (None, "../../esc")])
def test_dashboards_stay_in_their_folder(folder, link, key):
    if link:
        (folder / link).parent.mkdir(exist_ok=True)
        (folder / link).symlink_to(folder.parent / "elsewhere")
    with pytest.raises(InputError, match=r"plain name|symbolic link"):
        hparams.write(folder, {key: {"width": 1.0}}, [{"key": key, "score": 1.0}])


@pytest.mark.parametrize("name", ["results.jsonl", "jobs.jsonl", "worker.log", "pareto.png"])
def test_a_file_that_is_a_link_is_replaced_or_refused_and_its_target_stays(tmp_path, name):
    target, path = tmp_path / "target", tmp_path / name
    target.write_text("mine")
    path.symlink_to(target)
    if name == "worker.log":
        with pytest.raises(OSError, match="symbolic links"):
            supervisor.start(["true"], 0, {}, path)
    elif name == "pareto.png":
        row = {"rungs": [], "rung": 0, "macs": 1.0, "params": 1.0, "latency_ms": 1.0, "val_accuracy": 0.5}
        draw_pareto([row], row, path)
    elif name == "jobs.jsonl":
        sweep.write_jobs(tmp_path, [])
    else:
        sweep.write_lines(path, [{"key": "a", "arch": "x", "error": "no"}])
    assert target.read_text() == "mine"
