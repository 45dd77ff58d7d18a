"""A run that starts from a file keeps what the weights expect, and needs the file no more; its weights go out again."""

from dataclasses import replace

import numpy as np
import pytest

import kcnn
import trainers
from trainers.runs import checkpoints, folders
from trainers.serving.exports import export_run


@pytest.fixture
def source(tmp_path, tiny):
    """A file of the tiny network's weights, in which padding and epsilon are not the usual ones."""
    import json

    from safetensors.numpy import save_file

    from kcnn.builder import resolve
    from kcnn.notation import to_data

    arch = resolve(tiny["arch"], tiny["width"], resolution=tiny["resolution"])
    arch = replace(arch, style=replace(arch.style, padding="same", bn_epsilon=1e-3))
    model = kcnn.build(arch, 10, stem="standard")
    about = {"format": "kcnn", "arch": json.dumps(to_data(arch)), "crop": "0.9", "interpolation": "bicubic"}
    save_file({v.path: v.numpy() for v in model.weights}, path := tmp_path / "a.safetensors", metadata=about)
    return path


@pytest.mark.slow
def test_a_run_keeps_the_conventions_and_not_the_file(source, tmp_path, tiny, capsys):
    asked = trainers.TrainConfig(**tiny, epochs=1, weights=str(source), run_dir=str(tmp_path / "run"), resume="auto")
    trainers.fit(asked)
    assert "tensors loaded" in capsys.readouterr().out
    source.unlink()
    run = folders.read_config(tmp_path / "run")
    assert (run.arch.style.padding, run.arch.style.bn_epsilon) == ("same", 1e-3)
    assert (run.eval_crop, run.interpolation) == (0.9, "bicubic")
    assert trainers.fit(replace(asked, epochs=2)).figures["epochs"] == 2
    trained = checkpoints.load_run(tmp_path / "run")[0]
    path = export_run(str(tmp_path / "run"), format="safetensors", images=8)["path"]
    again = kcnn.build(run.arch, 10, weights=f"{path}/model.safetensors")
    assert all(np.array_equal(a, b) for a, b in zip(trained.get_weights(), again.get_weights(), strict=True))
