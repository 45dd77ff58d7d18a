"""What a network looks at: what the methods promise, and a patch that was planted."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import kcnn
import kcnn.explain
from trainers.lab.explain import COMPLETE, grad_cam, integrated_gradients
from trainers.lab.subject import photographs

SIDE = 32


def patched(draws, count):
    """Pictures of noise, of which every other one has a bright red patch: (pixels, labels, corners)."""
    pixels = draws.uniform(60, 140, (count, SIDE, SIDE, 3)).astype(np.float32)
    corners = draws.integers(0, SIDE - 8, (count, 2))
    labels = np.arange(count) % 2
    for picture, label, (top, left) in zip(pixels, labels, corners, strict=True):
        if label:
            picture[top : top + 8, left : left + 8] = [250, 20, 20]
    return pixels, labels, corners


@pytest.fixture(scope="module")
def finder():
    """A small network that has learnt to tell pictures with a patch from those without."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    for channels in (8, 16):
        x = keras.layers.Conv2D(channels, 3, strides=2, padding="same", activation="relu")(x)
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.optimizer.learning_rate = 0.02
    pixels, labels, _ = patched(np.random.default_rng(0), 256)
    model.fit(pixels, labels, epochs=8, verbose=0)
    assert model.evaluate(pixels, labels, verbose=0)[1] > 0.95
    return model


def inside(values, corner):
    top, left = corner
    return values[top : top + 8, left : left + 8].sum() / values.sum()


def test_a_planted_patch_is_found(finder):
    pixels, _, corners = patched(np.random.default_rng(1), 12)
    for picture, corner in list(zip(pixels, corners, strict=True))[1::2]:
        cam = grad_cam(finder, picture, [1])[0]
        top, left = np.unravel_index(cam.argmax(), cam.shape)
        assert corner[0] - 4 <= top < corner[0] + 12 and corner[1] - 4 <= left < corner[1] + 12
        assert inside(cam, corner) > 4 * 64 / SIDE**2  # four times its share of the area
        values = np.maximum(integrated_gradients(finder, picture, 1, 100.0).values, 0)
        assert inside(values, corner) > 0.5


def test_integrated_gradients_are_complete(finder):
    picture = patched(np.random.default_rng(2), 2)[0][1]
    found = integrated_gradients(finder, picture, 1)
    logits = finder(np.stack([np.zeros_like(picture), picture])).numpy()[:, 1]
    assert found.error <= COMPLETE and found.values.sum() == pytest.approx(logits[1] - logits[0], rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-b0"])
def test_integrated_gradients_are_complete_on_networks_of_ours(name):
    keras.utils.set_random_seed(0)
    model = kcnn.build(name, 10, width=0.5, resolution=64)
    [(pixels, _)] = photographs(64, 2, 2)
    for picture in pixels:
        assert integrated_gradients(model, picture, 3, 120.0).error <= COMPLETE


def test_a_linear_network_is_explained_exactly():
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
    picture = np.random.default_rng(3).uniform(0, 255, (8, 8, 1)).astype(np.float32)
    found = integrated_gradients(model, picture, 2, 7.0)
    kernel = model.layers[-1].kernel.numpy()[:, 2].reshape(8, 8, 1)
    assert found.values == pytest.approx((picture - 7) * kernel, rel=1e-4, abs=1e-4) and found.steps == 32


def test_grad_cam_is_its_formula(finder):
    picture = patched(np.random.default_rng(4), 2)[0][1]
    conv = [layer for layer in finder.layers if isinstance(layer, keras.layers.Conv2D)][-1]
    looking = keras.Model(finder.input, [conv.output, finder.output])
    with tf.GradientTape() as tape:
        maps, logits = looking(picture[None])
        logit = logits[0, 1]
    weights = tape.gradient(logit, maps).numpy().mean((0, 1, 2))
    expected = np.maximum((maps.numpy()[0] * weights).sum(-1), 0)
    large = tf.image.resize(expected[..., None], (SIDE, SIDE)).numpy()[..., 0]
    assert grad_cam(finder, picture, [1])[0] == pytest.approx(large / large.max(), abs=1e-5)


def test_a_network_without_a_map_is_one_line():
    image = keras.Input((1, 1, 3))
    with pytest.raises(kcnn.InputError, match="no map"):
        grad_cam(keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image))), np.zeros((1, 1, 3)), [0])


def command(*words):
    with pytest.raises(SystemExit) as left:
        kcnn.explain.main([str(w) for w in words])
    return left.value.code


def test_the_command_explains_images_and_names_those_that_it_cannot_read(run, photos, tmp_path, capsys):
    pictures = sorted((photos / "val" / "china").iterdir())[:2]
    (tmp_path / "no.jpg").write_bytes(b"nothing")
    assert command(run, *pictures, tmp_path / "no.jpg", "--json") == 2
    out, err = capsys.readouterr()
    told = json.loads(out.splitlines()[-1])
    assert [row["image"] for row in told["explanations"]] == [str(p) for p in pictures]
    assert all(len(row["top"]) == 2 and row["completeness_error"] < 0.05 for row in told["explanations"])
    assert len(told["errors"]) == 1 and "no.jpg: cannot be read as an image" in err
    page = Path(told["page"]).read_text("utf-8")
    assert page.count("<figure>") == 2 * (1 + 2 + 1) and "Grad-CAM: " in page


def test_bad_input_is_one_line(run, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for words in (
        [run],
        [run, tmp_path / "none.png"],
        [run, tmp_path / "a.png", "--top", "0"],
        ["no-run", tmp_path / "a.png"],
    ):
        assert command(*words) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (run / "explain.html").exists()
