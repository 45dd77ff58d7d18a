"""LiteRT and ONNX exports run in runtimes of their own and answer alike, or are refused."""

import json

import numpy as np
import pytest
import tensorflow as tf

import kcnn.export
from kcnn.errors import InputError
from trainers.data import eval_image
from trainers.runs.checkpoints import load_run
from trainers.serving import formats
from trainers.serving.exports import export_run

NEEDS = {"litert": "ai_edge_litert", "onnx": "onnxruntime"}


def command(*argv):
    with pytest.raises(SystemExit) as left:
        kcnn.export.main([str(a) for a in argv])
    return left.value.code


def expected(shot, photos):
    """(pixels uint8 (1, r, r, 3), probabilities) of one picture."""
    model, config, _ = load_run(shot.folder)
    pixels = eval_image(tf.io.read_file(str(photos / "val" / "flower" / "3.jpg")), config.resolution)[None]
    return pixels.numpy(), tf.nn.softmax(model(tf.cast(pixels, tf.float32), training=False)).numpy()


@pytest.mark.parametrize("dtype, atol", [("float32", 1e-5), ("float16", 5e-3), ("int8", 0.1)])
def test_litert(shot, photos, tmp_path, dtype, atol):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install '.[litert]'")
    report = export_run(
        str(shot.folder), out=str(tmp_path), format="litert", dtype=dtype, images=16, tolerance=0.2, seconds=0.0
    )
    folder = tmp_path / "1"
    assert {p.name for p in folder.iterdir()} == {"model.tflite", "labels.txt", "model_card.json"}
    assert report["max_difference"] <= atol and report["images_per_second_batch_1"] > 0
    assert report["accuracy_before"] - report["accuracy"] <= 0.2 and report["folded"] > 0
    call = interpreter.Interpreter(str(folder / "model.tflite")).get_signature_runner("serving_default")
    details = call.get_input_details()["image"]
    assert details["dtype"] is (np.uint8 if dtype == "int8" else np.float32)
    if dtype == "int8":
        assert details["quantization"] == (1.0, 0)  # a pixel is a pixel
    pixels, probabilities = expected(shot, photos)
    answer = call(image=pixels.astype(details["dtype"]))["probabilities"]
    np.testing.assert_allclose(answer, probabilities, atol=atol)
    card = json.loads((folder / "model_card.json").read_text())  # it tells an app what to do
    assert card["preprocessing"]["resolution"] == 32 and len(card["preprocessing"]["steps"]) == 3
    assert (folder / "labels.txt").read_text().splitlines() == card["classes"]
    smaller = {"float32": 1.2, "float16": 0.65, "int8": 0.4}[dtype]  # of 4 bytes a weight
    assert (folder / "model.tflite").stat().st_size < smaller * 4 * shot.figures["params"] + 40_000


def test_onnx(shot, photos, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install '.[onnx]'")
    onnx = pytest.importorskip("onnx", reason="pip install '.[onnx]'")
    assert command(shot.folder, "--out", tmp_path, "--format", "onnx", "--images", "16", "--json") == 0
    path = tmp_path / "1" / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path))
    (given,), (got,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape[1:], got.name) == ("image", [32, 32, 3], "probabilities")
    pixels, probabilities = expected(shot, photos)
    for count in (1, 5):
        (answer,) = session.run(None, {"image": np.repeat(pixels.astype(np.float32), count, 0)})
        np.testing.assert_allclose(answer, np.repeat(probabilities, count, 0), atol=1e-5)


def test_a_loss_beyond_the_tolerance_is_refused(shot, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ai_edge_litert", reason="pip install '.[litert]'")
    runner = formats.litert_runner

    def exchanged(path):
        run, fast = runner(path)
        return (lambda image: run(image)[:, ::-1]), fast

    monkeypatch.setattr(formats, "litert_runner", exchanged)
    flags = ["--format", "litert", "--dtype", "float16", "--images", "16", "--tolerance", "0.1"]
    assert command(shot.folder, "--out", tmp_path / "litert", *flags) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "float16: top-1 falls by" in line and "on 16 images, more than the tolerance of 10.0%" in line
    assert not (tmp_path / "litert").exists()


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_operators_that_a_format_lacks_are_named(shot, tmp_path, monkeypatch, format):
    pytest.importorskip(NEEDS[format], reason=f"pip install '.[{format}]'")
    plain = formats.pixels_in

    def odd(model, job, batch):
        serve = plain(model, job, batch)

        @tf.function(input_signature=serve.input_signature)
        def bessel(image):
            return {"probabilities": tf.math.bessel_i0e(serve(image)["probabilities"])}

        return bessel

    monkeypatch.setattr(formats, "pixels_in", odd)
    with pytest.raises(InputError, match=r"(LiteRT|ONNX) has no operator for .*BesselI0e"):
        export_run(str(shot.folder), out=str(tmp_path / "x"), format=format, images=4)
    assert not (tmp_path / "x").exists()


def test_missing_packages_are_named(shot, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(formats.NEEDS, "onnx", ("no_such_package",))
    assert command(shot.folder, "--out", tmp_path / "x", "--format", "onnx") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "format onnx needs no_such_package: pip install no_such_package" in line
