"""kcnn study: bad input is one line, and what was trained becomes a verdict, a page and a section."""

import json
import re

import numpy as np
import pytest
import yaml

import trainers
import tuning.study
from kcnn.errors import InputError
from trainers.config import TrainConfig
from tuning.pages import study as pages
from tuning.studies.rows import STUDIES
from tuning.study import Method, carry_out, study_command


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def made_up(monkeypatch):
    """Runs that are not trained: y is better than x by 2 points, and others are as good as each other."""

    def train_all(folder, jobs, parallel):
        draws = np.random.default_rng(0)
        return [
            {
                "key": j.key, **j.facts, "arch": j.name, "val_loss": 0.5, "train_loss": float(draws.normal(0.4, 0.01)),
                "val_accuracy": 0.9 + 0.02 * (j.facts["arm"] == "y") + float(draws.normal(0, 0.002)),
            }
            for j in jobs
        ]  # fmt: skip

    monkeypatch.setattr(tuning.study, "train_all", train_all)
    monkeypatch.setattr(tuning.study, "read_result", lambda run: {"plain_train_loss": 0.3})


@pytest.mark.parametrize("name, config, method, words", [
    ("death", {}, {}, r"study 'death': one of depth, residual-paths, .* is needed"),
    ("depth", {}, {"seeds": 1}, "seeds 1: .*2"),
    ("depth", {"arch": "resnet-50"}, {}, "arch 'resnet-50': leave it out, a study's networks are its own"),
    ("depth", {"resume": "x"}, {}, "resume 'x': leave it out"),
    ("depth", {"weights": "imagenet"}, {}, "weights 'imagenet': leave it out"),
    ("transfer", {}, {}, "weights: this study compares them with random ones; give --weights"),
])  # fmt: skip
def test_bad_input_is_one_line(here, name, config, method, words):
    with pytest.raises(InputError, match=words):
        carry_out(name, TrainConfig(**config), Method(**method))
    assert list(here.iterdir()) == []


def test_too_few_images_are_told(here, photos):
    with pytest.raises(InputError, match=r"validation images, and a study needs 50"):
        carry_out("depth", TrainConfig(data=str(photos)), Method(quick=True))


def test_costs_that_are_too_far_apart_are_refused_before_anything_is_trained(here, monkeypatch):
    monkeypatch.setattr(tuning.study, "CLOSE", 0.001)
    with pytest.raises(InputError, match=r"resolution 16: what inverted compares differs by 4% in macs there"):
        carry_out("inverted", TrainConfig(), Method())
    assert list(here.iterdir()) == []


def test_a_folder_of_another_study_is_refused(here, made_up):
    carry_out("squeeze-excite", TrainConfig(run_dir="s"), Method(seeds=3))
    with pytest.raises(InputError, match=r"study is squeeze-excite there, depth here"):
        carry_out("depth", TrainConfig(run_dir="s"), Method())


def test_without_a_name_and_with_list(capsys):
    with pytest.raises(InputError, match="which study"):
        study_command()
    listed = study_command(list=True)["studies"]
    told = capsys.readouterr().out
    assert list(listed) == list(STUDIES) and all(study.claim in told for study in STUDIES.values())


def test_the_verdict_the_page_and_the_section(here, made_up, capsys):
    (here / "page.md").write_text("before\n<!-- squeeze-excite -->\nold\n<!-- end of squeeze-excite -->\nafter\n")
    result = study_command("squeeze-excite", method=Method(), config=TrainConfig(run_dir="s"), write=here / "page.md")
    assert (result["verdict"], result["seeds"]) == ("it holds here", 5)
    assert result["contrasts"][0]["mean"] == pytest.approx(0.02, abs=0.003)
    assert json.loads((here / "s" / "summary.json").read_text()) == result
    told = capsys.readouterr().out
    assert "It holds here, with 5 seeds and 355 validation images." in told
    page = (here / "s" / "page.html").read_text()
    assert "It holds here" in page and "http" not in re.sub(r"\(https://[^)]*\)", "", page)
    assert page.count("<title>x, seed ") == page.count("<title>y, seed ") == 5
    text = (here / "page.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old\n" not in text
    assert "**It holds here, with 5 seeds" in text and "| y |" in text
    with pytest.raises(InputError, match="no lines"):
        pages.write_section(here / "page.md", result | {"study": "depth"})


def test_more_seeds_add_to_what_is_there(here, made_up):
    carry_out("squeeze-excite", TrainConfig(run_dir="s"), Method(seeds=2))
    result = carry_out("squeeze-excite", TrainConfig(run_dir="s"), Method(seeds=4))
    assert result["seeds"] == 4
    lines = (here / "s" / "jobs.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [f"{arm}-seed{s}" for s in range(4) for arm in "xy"]


@pytest.mark.slow
def test_blocks_are_removed_from_what_was_trained(here):
    config = TrainConfig(run_dir="s", epochs=1, resolution=8, batch_size=256)
    result = carry_out("residual-paths", config, Method(quick=True, parallel=2))
    assert result["seeds"] == 2 and result["failed"] == []
    for arm in result["arms"].values():
        assert len(arm["figures"]["kept"]) == 2 and all(0 <= share < 3 for share in arm["figures"]["kept"])
    assert result["verdict"] in ("it holds here", "it does not hold here", "this data cannot tell")


@pytest.mark.exhaustive
def test_weights_are_compared_with_random_ones(here):
    first = TrainConfig(arch="mobilenet-v1", width=0.25, run_dir="first", epochs=1, resolution=16, batch_size=128)
    trainers.fit(first)
    config = TrainConfig(arch="mobilenet-v1", width=0.25, weights="first", run_dir="s", batch_size=32)
    result = carry_out("transfer", config, Method(quick=True, parallel=2))
    assert result["seeds"] == 2 and result["failed"] == []
    assert list(result["arms"]) == ["weights, 4", "random, 4", "weights, 16", "random, 16"]
    assert {of["resolution"] for of in result["arms"].values()} == {16}
    configs = {p.parent.name: yaml.safe_load(p.read_text()) for p in (here / "s" / "runs").glob("*/config.yaml")}
    few = configs["weights--4-seed1"]
    assert (few["images_per_class"], few["seed"], few["epochs"]) == (4, 1, 64) and few["weights"].endswith("first")
    assert configs["random--4-seed1"]["weights"] is None and configs["random--4-seed1"]["stem"] == few["stem"]
