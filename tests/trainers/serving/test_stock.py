"""model.keras without kcnn: the same names, weights and outputs, opened by a process that has only Keras."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import kcnn
import kcnn.layers
from trainers.runs.checkpoints import load_run
from trainers.serving.stock import stock

# Between them they have every layer of ours: grouped convolutions, stochastic depth, response normalization.
NETWORKS = {"googlenet": 64, "efficientnet-b0": 32, "regnety-200mf": 32}
OPEN = """
import json, sys
import keras, numpy as np
sys.modules["kcnn"] = None
x = np.load(sys.argv[1])
answers = {}
for path in sys.argv[2:]:
    model = keras.saving.load_model(path)
    side = model.input_shape[1]
    logits = np.asarray(model(x[:, :side, :side], training=False))
    answers[path] = [[v.path for v in model.weights], logits.tolist()]
print(json.dumps(answers))
"""


@pytest.mark.slow
def test_its_file_opens_without_kcnn(tmp_path, finished):
    """Networks with all layers of ours, and what a run leaves, in one fresh process."""
    draws = np.random.default_rng(0)
    pixels, models = draws.integers(0, 255, (2, 64, 64, 3)).astype("float32"), {}
    np.save(tmp_path / "x.npy", pixels)
    for name, side in NETWORKS.items():
        model = kcnn.build(name, 10, width=0.25, depth=0.1, resolution=side, drop_path=0.2)
        for v in model.weights:
            if "moving_variance" not in v.path:
                v.assign(v + draws.normal(scale=0.05, size=v.shape))
        models[str(tmp_path / f"{name}.keras")] = model
        stock(model).save(tmp_path / f"{name}.keras")
    models[str(finished.folder / "model.keras")] = load_run(finished.folder)[0]
    command = [sys.executable, "-c", OPEN, str(tmp_path / "x.npy"), *models]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout.splitlines()[-1])
    for path, model in models.items():
        paths, logits = answers[path]
        assert paths == [v.path for v in model.weights]
        side = model.input_shape[1]
        expected = np.asarray(model(pixels[:, :side, :side], training=False))
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def test_dropping_a_path_keeps_its_expectation():
    x = keras.Input((4, 4, 8))
    model = keras.Model(x, kcnn.layers.DropPath(0.25, name="drop")(x))
    ones = np.ones((4000, 4, 4, 8), "float32")
    values = np.asarray(stock(model)(ones, training=True))
    assert set(np.unique(values.round(5))) == {0.0, np.float32(1 / 0.75).round(5)}
    assert (values == values[:, :1, :1, :1]).all()  # one draw an example
    assert values.mean() == pytest.approx(1.0, abs=0.05)
