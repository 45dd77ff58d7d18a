"""`--recipe auto`: what a glance sees, what follows from it, and that a run keeps what was chosen."""

import dataclasses
import importlib

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image, ImageDraw

import trainers
from kcnn.errors import InputError
from trainers import TrainConfig
from trainers.auto import duration, recipe
from trainers.auto.duration import Pace
from trainers.auto.glance import SIDES, Glance, glance, mirrored
from trainers.auto.recipe import decided, undecided
from trainers.data import Source, open_data
from trainers.data.digits import open_digits
from trainers.data.splits import indexed_split
from trainers.runs import folders
from trainers.settings import resolve

fitting = importlib.import_module("trainers.training")
PHOTOS = Glance(3000, 10, (300,) * 10, side=500)
DIGITS = Glance(1442, 10, (144,) * 10, side=8, grey=1.0, characters=True)
RESNET = TrainConfig(arch="resnet-18", data="photos/", epochs=10)


def source(images, labels, names):
    """A source of pictures, uint8 (n, h, w) or (n, h, w, 3)."""
    pictures = [tf.io.encode_png(image if image.ndim == 3 else image[..., None]).numpy() for image in images]
    split = indexed_split(pictures, labels, len(names), lambda i, _: str(i))
    return Source("drawn", names, split, split)


def arrows(turned, count=60):
    """Arrows to the left (label 0) and to the right, bright on dark, each moved by a few pixels."""
    draws, images = np.random.default_rng(0), []
    for i in range(count):
        image = Image.new("RGB", (48, 48), (20, 20, 60))
        x, y = draws.integers(-3, 4, 2)
        points = [(36 + x, 10 + y), (36 + x, 38 + y), (12 + x, 24 + y)]
        ImageDraw.Draw(image).polygon([(47 - px, py) if i % 2 and turned else (px, py) for px, py in points], "yellow")
        images.append(np.asarray(image))
    return images, np.arange(count) % 2


# What is seen.


def test_digits_are_seen_as_what_they_are():
    seen = glance(open_digits())
    assert (seen.images, seen.classes, seen.side, seen.grey) == (1442, 10, 8, 1.0)
    assert seen.characters and "mirror images are not recognized" in seen.handed
    assert seen == glance(open_digits())


def test_things_that_a_mirror_makes_others_of_are_found():
    seen = glance(source(*arrows(turned=True), ("a thing", "another")))
    assert seen.handed and seen.plain == 1.0 and 0.2 < seen.extent < 0.6 and seen.grey == 0.0
    images, labels = arrows(turned=False)
    light = np.stack([255 - image if i % 2 else image for i, image in enumerate(images)]).mean(-1)[:, 8:40, 8:40]
    assert not mirrored(light, labels)  # they are told apart by light alone


@pytest.mark.parametrize("name, handed", [("turn-left", True), ("Right hand", True), ("bright", False)])
def test_names_tell_that_sides_count(name, handed):
    assert bool(SIDES.search(name)) == handed


def test_photographs_have_no_ground(photos):
    seen = glance(open_data(str(photos)))
    assert (seen.images, seen.side, seen.extent, seen.drawn) == (48, 160, None, 0.0) and seen.grey < 0.1
    assert not seen.characters and not seen.handed


def test_what_cannot_be_decoded_is_passed_over():
    split = indexed_split([b"no picture"] * 4, [0, 1, 0, 1], 2, lambda i, _: str(i))
    assert glance(Source("broken", ("a", "b"), split, split)) == Glance(4, 2, (2, 2), characters=True)


# What is chosen.


def test_characters_are_not_mirrored_and_hardly_cropped():
    config, lines = decided(dataclasses.replace(RESNET, epochs=4), DIGITS)
    assert (config.flip, config.crop_scale, config.eval_crop, config.resolution) == (False, 0.8, 1.0, 32)
    assert len(lines) == 3 and "1,442 images of 10 classes" in lines[0] and "not mirrored" in lines[1]
    photo, _ = decided(RESNET, PHOTOS)
    assert photo.flip is None and photo.crop_scale == 0.75 and photo.resolution is None
    assert decided(RESNET, dataclasses.replace(PHOTOS, handed="left and right"))[0].flip is False


def test_an_unbalanced_set_is_weighted():
    assert decided(RESNET, PHOTOS)[0].class_weights is None
    config, lines = decided(RESNET, dataclasses.replace(PHOTOS, counts=(2700, *(33,) * 9)))
    assert config.class_weights == "sqrt" and "82 times" in lines[2]


def test_large_data_gets_the_usual_recipe():
    config, _ = decided(TrainConfig(arch="resnet-50", data="photos/"), Glance(1_281_167, 1000, side=400))
    assert resolve(config) == resolve(TrainConfig(arch="resnet-50", data="photos/"))


def test_flags_win_and_what_was_chosen_is_plain():
    config, _ = decided(dataclasses.replace(RESNET, flip=True, batch_size=48, lr=0.5), DIGITS)
    assert (config.flip, config.batch_size, config.lr) == (True, 48, 0.5)
    run = resolve(config)
    assert resolve(run.flags) == run and run.recipe == "auto" and not undecided(run.flags)
    assert undecided(RESNET) and undecided(dataclasses.replace(RESNET, recipe="auto"))
    for named in ({"recipe": "default"}, {"weights": "a run"}, {"data": "digits"}):
        assert not undecided(dataclasses.replace(RESNET, **named))


@pytest.mark.parametrize("images", [2, 20, 300, 5000, 60_000])
@pytest.mark.parametrize("more", [{}, {"epochs": 1}, {"epochs": 200}, {"schedule": "one-cycle"}, {"loss": "focal"},
                                  {"optimizer": "sgd"}, {"arch": "vgg-11"}, {"arch": "inception-v3"}])  # fmt: skip
def test_every_choice_can_be_run(images, more):
    for seen in (dataclasses.replace(PHOTOS, images=images), dataclasses.replace(DIGITS, images=images)):
        config, lines = decided(dataclasses.replace(RESNET, epochs=None) if not more else
                                dataclasses.replace(RESNET, **more), seen)  # fmt: skip
        run = resolve(config)
        assert run.batch_size <= images or images >= recipe.LARGE
        assert len(lines) == 3 and all(len(line) < 300 for line in lines)


def test_a_network_without_normalization_gets_a_lower_rate():
    rates = [resolve(decided(dataclasses.replace(RESNET, arch=a), PHOTOS)[0]).lr for a in ("vgg-11-bn", "vgg-11")]
    assert rates[1] == pytest.approx(rates[0] / 10)


# A run.


@pytest.mark.slow
@pytest.mark.usefixtures("training_only")
def test_a_run_keeps_what_was_chosen(photos, tiny, tmp_path, capsys, monkeypatch):
    flags = {"arch": tiny["arch"], "width": 0.125, "resolution": 16, "epochs": 1, "data": str(photos)}
    result = trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "run")))
    out = capsys.readouterr().out
    assert out.count("\n") == 3 and out.startswith("recipe auto: 48 images of 2 classes")
    saved = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert saved["recipe"] == "auto" and saved["time"] is None and saved["batch_size"] == 8
    assert saved["bn_momentum"] == 0.9 and saved["crop_scale"] == 0.75
    # Neither a resumed nor a repeated run looks at the data again.
    monkeypatch.setattr("trainers.runs.asked.glance", None)
    for again in ({"resume": str(result.folder)}, {"run_dir": str(result.folder), "resume": "auto", "recipe": "auto"}):
        assert trainers.fit(TrainConfig(**flags | again)).figures == result.figures
    same, _ = fitting.new_or_resumed(TrainConfig(**saved | {"run_dir": str(tmp_path / "other")}))
    assert dataclasses.replace(same.flags, run_dir=None) == TrainConfig(**saved)


# The time that a run may take.


@pytest.fixture
def timed(photos, tiny, tmp_path, monkeypatch):
    """A run with --time; measuring takes no time, and a step so long that the seconds of the test do not count."""
    monkeypatch.setattr(duration, "measured", lambda run, make: Pace(first=2.0, step=1000.0))
    flags = {"arch": tiny["arch"], "width": 0.125, "resolution": 16, "data": str(photos)}
    return TrainConfig(**flags, run_dir=str(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.usefixtures("training_only")
def test_as_many_epochs_as_fit_are_run_and_kept(timed, capsys):
    result = trainers.fit(dataclasses.replace(timed, time="5h"))
    saved = folders.read_config(result.folder).flags
    assert (result.figures["epochs"], saved.epochs, saved.time) == (2, 2, None)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("time: 2 epochs of about 6.67e+03 s fit into 5h") and second.endswith("; 2 epochs")
    again = dataclasses.replace(timed, time="5h", resume="auto")  # as one restarts a job
    assert trainers.fit(again).figures == result.figures


def test_a_time_too_short_for_an_epoch_is_told(timed, tmp_path):
    with pytest.raises(InputError, match=r"time '90m': an epoch of 6 steps takes about 6667 s.*give 74\d\ds or more"):
        trainers.fit(dataclasses.replace(timed, time="90m"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_pace_is_measured_on_the_run_s_own_steps(timed, monkeypatch):
    monkeypatch.undo()
    run = fitting.prepare(*fitting.new_or_resumed(timed))
    ticks = iter(range(10_000))
    pace = duration.measured(run, fitting.make, clock=lambda: next(ticks) / 10)
    assert pace == Pace(first=pytest.approx(0.1), step=pytest.approx(0.1))


@pytest.mark.parametrize("seen, glyphs", [
    ({"grey": 1.0, "plain": 1.0}, True),
    ({"grey": 1.0, "plain": 0.1}, False),  # small photographs without colours, such as faces, which are mirrored
    ({"grey": 0.1, "plain": 1.0}, False),
    ({"drawn": 1.0, "plain": 1.0}, True),
    ({"characters": True}, True),
])  # fmt: skip
def test_what_looks_like_characters(seen, glyphs):
    config, lines = decided(RESNET, Glance(1000, 2, (500, 500), side=25, **seen))
    assert (config.flip is False) == glyphs and ("like characters" in " ".join(lines)) == glyphs
    framed = glyphs or seen["grey"] == 1.0
    assert (config.crop_scale, config.eval_crop) == ((0.8, 1.0) if framed else (0.75, None))
