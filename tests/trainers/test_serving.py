"""A SavedModel answers as the network does, or is not there."""

import json

import numpy as np
import pytest
import tensorflow as tf

import kcnn.export
from kcnn.errors import InputError
from trainers import serving
from trainers.checkpoints import load_run
from trainers.data import decode
from trainers.predict import predict


@pytest.fixture(scope="module")
def loaded(shot):
    return load_run(shot.folder)


@pytest.fixture(scope="module")
def exported(loaded, tmp_path_factory):
    """(folder of the versions, reports of two exports)."""
    folder = tmp_path_factory.mktemp("served") / "saved_model"
    return folder, [serving.export(*loaded, folder) for _ in range(2)]


def signature(path):
    archive = tf.saved_model.load(str(path))
    return archive, archive.signatures["serving_default"]  # which lives no longer than its archive


def test_versions_count_up(exported):
    folder, reports = exported
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]
    assert [report["path"] for report in reports] == [str(folder / "1"), str(folder / "2")]
    assert all(report["max_difference"] <= 1e-5 and report["classes"] == 2 for report in reports)
    assert reports[0]["bytes"] == sum(p.stat().st_size for p in (folder / "1").rglob("*") if p.is_file())


def test_labels_are_among_the_assets(exported):
    folder, _ = exported
    assert (folder / "1" / "assets" / "labels.txt").read_text().splitlines() == ["china", "flower"]


def test_inputs_and_outputs_have_names(exported):
    _, serve = signature(exported[0] / "1")
    _, inputs = serve.structured_input_signature
    assert inputs.keys() == {"image"} and inputs["image"].shape.as_list() == [None, None, None, 3]
    assert inputs["image"].dtype == tf.float32
    outputs = serve.structured_outputs
    assert {name: (spec.dtype, spec.shape.rank) for name, spec in outputs.items()} == {
        "probabilities": (tf.float32, 2), "classes": (tf.int64, 1)}  # fmt: skip


def test_it_answers_as_predict_does(exported, loaded, photos):
    _, serve = signature(exported[0] / "1")
    _, config, classes = loaded
    paths = [str(photos / "val" / name / "0.jpg") for name in classes]
    rows, _ = predict(*loaded, paths, 2, 2)
    images = tf.cast(tf.stack([decode(tf.io.read_file(path)) for path in paths]), tf.float32)
    assert images.shape[1] != config.resolution
    outputs = serve(image=images)
    for row, shares, best in zip(rows, outputs["probabilities"].numpy(), outputs["classes"].numpy(), strict=True):
        assert row["top"][0]["class"] == classes[best]
        expected = {pair["class"]: pair["probability"] for pair in row["top"]}
        # Of a crop's edge a decoder of the whole image may see other colours than one of a part.
        np.testing.assert_allclose(shares, [expected[name] for name in classes], atol=5e-3)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 7, 90), (2, 1, 1)])
def test_any_size_and_batch_is_served(exported, shape):
    _, serve = signature(exported[0] / "1")
    outputs = serve(image=tf.random.stateless_uniform((*shape, 3), (0, 1), 0, 255))
    np.testing.assert_allclose(tf.reduce_sum(outputs["probabilities"], -1), np.ones(shape[0]), atol=1e-5)
    np.testing.assert_array_equal(outputs["classes"], tf.argmax(outputs["probabilities"], -1))


def test_an_export_that_answers_differently_is_refused(loaded, tmp_path, monkeypatch):
    model, *_ = loaded
    kernel = model.weights[0]
    before, save = kernel.numpy(), tf.saved_model.save

    def save_and_change(*arguments, **more):
        save(*arguments, **more)
        kernel.assign(-before)

    monkeypatch.setattr(tf.saved_model, "save", save_and_change)
    try:
        with pytest.raises(InputError, match=r"probabilities differ by .* from the model's"):
            serving.export(*loaded, tmp_path / "saved_model")
    finally:
        kernel.assign(before)
    assert not (tmp_path / "saved_model").exists()


def test_an_export_that_does_not_load_is_refused(loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "RELOAD", "import sys; sys.exit('no such op')")
    with pytest.raises(InputError, match="the export does not load again: no such op"):
        serving.export(*loaded, tmp_path / "saved_model")
    assert not (tmp_path / "saved_model").exists()


def test_the_command_says_where(shot, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        kcnn.export.main([str(shot.folder), "--out", str(tmp_path / "served"), "--checkpoint", "best", "--json"])
    assert left.value.code == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["path"] == str(tmp_path / "served" / "1")
    assert lines[-1].startswith(f"exported {tmp_path / 'served' / '1'}")


@pytest.mark.parametrize("argv, words", [
    (["nowhere"], "'nowhere' is no folder"),
    ([], "RUN"),
    (["nowhere", "--checkpoint", "worst"], "worst"),
])  # fmt: skip
def test_bad_input_is_one_line(capsys, argv, words):
    with pytest.raises(SystemExit) as left:
        kcnn.export.main(argv)
    [line] = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and words in line
