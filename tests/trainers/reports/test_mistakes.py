"""What an evaluation tells of single images, and its page."""

import re

import keras
import numpy as np
import pytest

from trainers import evaluation
from trainers.data import open_data
from trainers.distribute.strategy import make_strategy
from trainers.evaluation import VIEWS, answers, evaluate_run, evaluator
from trainers.reports.mistakes import confused
from trainers.runs.checkpoints import load_run


@pytest.fixture(scope="module")
def loaded(shot, photos):
    return *load_run(shot.folder), open_data(str(photos))


@pytest.mark.parametrize("tta", [*VIEWS][:2])
def test_the_answers_are_those_of_the_evaluation_in_training(loaded, tta):
    model, config, classes, source = loaded
    said = answers(model, source.train, len(classes), config, tta)
    expected = evaluator(model, [], source.train, len(classes), config, make_strategy("one-device"), tta)()
    found = said.evaluation(len(classes))
    assert np.array_equal(found.confusion, expected.confusion)
    assert (found.accuracy, found.top5) == pytest.approx((expected.accuracy, expected.top5))
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert said.own == pytest.approx(np.exp(-said.loss), rel=1e-5)
    assert said.at.tolist() == list(range(48)) and (said.logits.argmax(1) == said.likely[:, 0]).all()


def test_logits_of_some_images_are_kept_where_all_are_too_many(loaded, monkeypatch):
    model, config, classes, source = loaded
    whole = answers(model, source.train, len(classes), config)
    monkeypatch.setattr(evaluation, "LARGEST", 20)
    some = answers(model, source.train, len(classes), config)
    assert len(some.at) == 10 and some.logits == pytest.approx(whole.logits[some.at], abs=1e-5)
    assert some.calibration()["images_for_temperature"] == 10


def test_the_page_has_the_surest_mistakes_first(loaded, run):
    figures = evaluate_run(str(run), split="train")
    page = (run / "mistakes.html").read_text("utf-8")
    model, config, classes, source = loaded
    said = answers(model, source.train, len(classes), config)
    wrong = np.flatnonzero(said.likely[:, 0] != said.labels)
    assert len(wrong) == figures["images"] - round(figures["accuracy"] * figures["images"])
    order = wrong[np.argsort(-said.shares[wrong, 0], kind="stable")]
    names = [source.train.describe(int(i)) for i in order]
    assert re.findall(r"<figcaption>(.*)\nlabel ", page) == names
    hits = [i for i in np.argsort(said.own, kind="stable") if i not in wrong]
    found = re.findall(r"<figcaption>(.*)\n(?!label)", page)
    assert found == [source.train.describe(int(i)) for i in hits][: len(found)] and found
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)


def test_the_classes_most_often_taken_for_each_other():
    counts = np.array([[5, 2, 0], [7, 3, 0], [0, 0, 0]])
    assert confused(counts, ("a", "b", "<c>")) == [
        {"label": "b", "taken_for": "a", "images": 7, "share": 0.7},
        {"label": "a", "taken_for": "b", "images": 2, "share": 2 / 7},
    ]


def test_a_temperature_changes_how_sure_a_network_is_and_no_answer():
    from trainers.serving.exports import divide_logits

    inputs = keras.Input((4, 4, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, bias_initializer="ones")(x))
    images = np.random.default_rng(0).random((5, 4, 4, 3)).astype(np.float32)
    before = model(images).numpy()
    divide_logits(model, 2.5)
    assert model(images).numpy() == pytest.approx(before / 2.5, rel=1e-5)
