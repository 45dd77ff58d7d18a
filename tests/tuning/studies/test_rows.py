"""The rows of the studies: networks that can be built, at the costs that they claim, with figures that are measured."""

import re
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import kcnn
from trainers.config import TrainConfig
from tuning.pages.study import NAMES
from tuning.studies.arms import at_cost, facts_of, multiply_adds, stack
from tuning.studies.removal import removable, removed
from tuning.studies.rows import STUDIES
from tuning.studies.verdicts import FAILS, HOLDS, OPEN
from tuning.study import CLOSE, job, settled
from tuning.trials.records import PLAIN

DOCS = Path(__file__).parents[3] / "docs" / "studies.md"


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", STUDIES)
def test_a_row_is_whole(name, quick):
    study = replace(STUDIES[name], weights=False)  # there are none here to compare with
    config = settled(study, TrainConfig(), quick)
    arms = study.arms(config.resolution, quick)
    contrasts = study.contrasts(quick)
    assert contrasts and study.claim.endswith(".") and re.search("20[0-9][0-9]|19[0-9][0-9]", study.paper)
    for contrast in contrasts:
        assert contrast.factors.keys() <= arms.keys() and contrast.figure in NAMES
        assert (contrast.figure == "kept") == study.removal
    configs = [vars(config) | {"arch": arm.arch or config.arch} | dict(arm.flags) for arm in arms.values()]
    facts = [facts_of(TrainConfig(**values), 10) for values in configs]
    for what in study.equal:
        costs = [getattr(f, what) for f in facts]
        assert max(costs) / min(costs) <= 1 + CLOSE, (name, costs)
    keys = [job(arm, config, 0).key for arm in arms]
    assert len(set(keys)) == len(keys) and all(PLAIN.fullmatch(key) for key in keys)


def test_the_users_flags_win_over_a_studys_and_a_studys_over_the_usual_ones():
    study = STUDIES["ema"]
    assert settled(study, TrainConfig(), False).schedule == "constant"
    mine = settled(study, TrainConfig(schedule="cosine", lr=0.1, data="digits", resolution=24), False)
    assert (mine.schedule, mine.lr, mine.resolution, mine.epochs) == ("cosine", 0.1, 24, 8)


def test_networks_are_brought_to_a_cost():
    aim = multiply_adds(stack("conv", 2, 32, kernel=3), 16)
    found = at_cost(lambda w: stack("separable", 2, w), aim, 16)
    assert abs(multiply_adds(found, 16) / aim - 1) < 0.1


@pytest.mark.parametrize("kind, options", [("basic", {}), ("basic", {"identity": False}), ("dense", {"first": 16})])
def test_a_block_that_is_taken_out_hands_on_what_it_got(kind, options):
    keras.utils.set_random_seed(0)
    model = kcnn.build(stack(kind, 3, 8, **options), 10, resolution=16, stem="standard")
    draws = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.abs(draws.normal(1, 0.2, w.shape)) for w in layer.get_weights()])
    before = [w.copy() for w in model.get_weights()]
    assert removable(model) == [f"stage{s}_block{b}" for s in (1, 2, 3) for b in (2, 3)]
    block = "stage2_block2"
    ends = [layer.output for layer in model.layers if layer.name.startswith(("stage2_block1_", f"{block}_"))]
    shapes = ends[-1].shape
    entry = [layer.output for layer in model.layers if layer.name.startswith("stage2_block1_")][-1]
    looking = keras.Model(model.inputs, [entry, ends[-1]])
    images = draws.integers(0, 255, (4, 16, 16, 3)).astype("float32")
    x, y = removed(model, block, lambda: looking.predict(images, verbose=0))
    if kind == "dense":
        channels = x.shape[-1]
        np.testing.assert_allclose(y[..., :channels], x)
        assert shapes[-1] > channels and not y[..., channels:].any()
    else:
        np.testing.assert_allclose(y, x, atol=1e-5)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    x, y = looking.predict(images, verbose=0)
    assert x.shape != y.shape or not np.allclose(x, y)


def test_the_page_of_studies_has_a_section_for_each():
    text = DOCS.read_text()
    sections = dict(re.findall(r"<!-- ([a-z-]+) -->\n(.*?)<!-- end of \1 -->", text, re.DOTALL))
    assert list(sections) == list(STUDIES)
    for name, section in sections.items():
        assert section.strip().startswith(f"{STUDIES[name].claim} {STUDIES[name].paper}.")
        assert any(section.lower().count(verdict) == 1 for verdict in (HOLDS, FAILS, OPEN))
