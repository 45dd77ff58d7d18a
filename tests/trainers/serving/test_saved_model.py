"""A SavedModel answers as the network does, or is not there."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

import kcnn.export
from kcnn.errors import InputError
from trainers.data import decode, eval_batches, open_data
from trainers.runs.checkpoints import load_run
from trainers.serving import model_card, saved_model
from trainers.serving.exports import export_run
from trainers.serving.signatures import NAMES

ROOT = Path(__file__).parents[3]


def run(*argv):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as left:
        kcnn.export.main([str(a) for a in argv])
    return left.value.code


def signature(path, name="serving_default"):
    archive = tf.saved_model.load(str(path))
    return archive, archive.signatures[name]  # which lives no longer than its archive


@pytest.fixture(scope="module")
def pictures(photos):
    """Encoded validation images, in the order of their split."""
    split = open_data(str(photos)).val
    return tf.constant([split.load(record["image"]).numpy() for record in split.once()])


@pytest.fixture(scope="module")
def evaluated(shot, photos):
    """The probabilities of `kcnn evaluate`'s own batches."""
    model, config, _ = load_run(shot.folder)
    batches = eval_batches(open_data(str(photos)).val, batch=8, resolution=config.resolution, crop=config.eval_crop)
    return np.concatenate([tf.nn.softmax(model(tf.cast(b["image"], tf.float32), training=False)) for b in batches])


# What is there.


def test_versions_count_up(exported):
    folder, reports = exported
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]
    assert [report["path"] for report in reports] == [str(folder / "1"), str(folder / "2")]
    for path, report in zip(sorted(folder.iterdir()), reports, strict=True):
        assert report["max_difference"] <= 1e-5 and report["classes"] == 2 and report["images"] == 16
        assert report["bytes"] == sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        assert all(report[f"images_per_second_batch_{batch}"] > 0 for batch in (1, 8, 32))
    assert reports[0]["folded"] > 0 and reports[0]["kept"] == 0
    assert reports[1]["folded"] == 0 and reports[1]["kept"] == reports[0]["folded"]


def test_signatures_have_names(exported):
    first, second = (tf.saved_model.load(str(exported[0] / version)) for version in "12")
    assert set(first.signatures) == set(NAMES) and set(second.signatures) == {"serving_default", "image"}
    expected = {
        "serving_default": ("image_bytes", tf.string, 1), "predict": ("image_bytes", tf.string, 1),
        "features": ("image_bytes", tf.string, 1), "classify": ("inputs", tf.string, 1),
        "image": ("image", tf.float32, 4), "image_uint8": ("image", tf.uint8, 4),
    }  # fmt: skip
    for name, call in first.signatures.items():
        ((key, spec),) = call.structured_input_signature[1].items()
        assert (key, spec.dtype, spec.shape.rank) == expected[name]
        assert spec.shape[0] is None
    outputs = {
        name: (spec.dtype, spec.shape.as_list())
        for name, spec in first.signatures["serving_default"].structured_outputs.items()
    }
    assert outputs == {
        "probabilities": (tf.float32, [None, 2]),
        "classes": (tf.int64, [None, 2]),
        "labels": (tf.string, [None, 2]),
        "scores": (tf.float32, [None, 2]),
    }
    assert second.signatures["image"].structured_outputs["labels"].shape.as_list() == [None, 1]
    assert first.signatures["features"].structured_outputs["features"].shape.as_list() == [None, 64]


def test_nothing_of_its_training_is_left(exported):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((exported[0] / "1" / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    functions = [f for f in graph.library.function if not f.signature.name.startswith("__inference__traced_")]
    nodes = [*graph.node, *(node for f in functions for node in f.node_def)]  # without those that save and restore
    assert not {node.op for node in nodes} & {"FusedBatchNormV3", "PyFunc", "EagerPyFunc", "CollectiveReduceV2"}
    assert not any(node.device for f in functions for node in f.node_def)
    assert not any(f.attr[key].b for f in functions for key in ("_XlaMustCompile", "_XlaCompile"))
    assert not any(
        tf.dtypes.as_dtype(node.attr["T"].type) in (tf.bfloat16, tf.float16) for node in nodes if node.op == "Conv2D"
    )
    assert saved.meta_graphs[0].signature_def["classify"].method_name == "tensorflow/serving/classify"


def test_labels_and_the_card_lie_beside(exported, shot):
    folder = exported[0] / "1"
    assert (folder / "assets" / "labels.txt").read_text().splitlines() == ["china", "flower"]
    card = json.loads((folder / "model_card.json").read_text())
    assert (card["name"], card["checkpoint"]) == (shot.figures["arch"], "last")
    assert card["classes"] == ["china", "flower"]
    assert card["facts"]["params"] == shot.figures["params"] and card["architecture"]["width"] == 0.125
    assert card["metrics"]["training"]["val_accuracy"] == shot.figures["val_accuracy"]
    assert (card["preprocessing"]["resolution"], card["preprocessing"]["crop"]) == (32, 0.875)
    assert card["versions"]["tensorflow"] == tf.__version__
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"model_card.json"}
    assert card["files"].keys() == files
    assert all(card["files"][name] == model_card.sha256(folder / name) for name in files)


# What it answers.


@pytest.mark.parametrize("version", ["1", "2"])
def test_it_answers_as_evaluate_does(exported, evaluated, pictures, version):
    _, serve = signature(exported[0] / version)
    outputs = serve(image_bytes=pictures)
    np.testing.assert_allclose(outputs["probabilities"], evaluated, atol=1e-5)
    _, serve = signature(exported[0] / version, "image")
    images = tf.stack([tf.cast(decode(picture), tf.float32) for picture in pictures])
    assert images.shape[1:] == (160, 200, 3)
    np.testing.assert_allclose(serve(image=images)["probabilities"], evaluated, atol=1e-5)


def test_a_turned_photograph_is_served_as_it_is_looked_at(exported):
    exif, asked = Image.Exif(), []
    photo = Image.fromarray(load_sample_image("china.jpg")[:160, :200])
    exif[0x0112] = 6
    for picture, kind, more in ((photo, "JPEG", {"exif": exif}), (None, "PNG", {})):
        buffer = io.BytesIO()
        (picture or ImageOps.exif_transpose(Image.open(io.BytesIO(asked[0])))).save(buffer, kind, **more)
        asked.append(buffer.getvalue())
    _, serve = signature(exported[0] / "1")
    turned, upright = serve(image_bytes=tf.constant(asked))["probabilities"]
    np.testing.assert_allclose(turned, upright, atol=1e-6)


def test_all_signatures_agree(exported, pictures):
    archive = tf.saved_model.load(str(exported[0] / "1"))
    outputs = archive.signatures["serving_default"](image_bytes=pictures)
    names = np.array([b"china", b"flower"])
    np.testing.assert_array_equal(outputs["classes"], np.argsort(-outputs["probabilities"].numpy(), -1))
    np.testing.assert_array_equal(outputs["labels"], names[outputs["classes"]])
    np.testing.assert_array_equal(outputs["scores"], -np.sort(-outputs["probabilities"].numpy(), -1))
    feature = [tf.train.Feature(bytes_list=tf.train.BytesList(value=[p])) for p in pictures.numpy()]
    examples = [tf.train.Example(features=tf.train.Features(feature={"image_bytes": f})) for f in feature]
    classified = archive.signatures["classify"](inputs=tf.constant([e.SerializeToString() for e in examples]))
    np.testing.assert_array_equal(classified["classes"], outputs["labels"])
    np.testing.assert_allclose(classified["scores"], outputs["scores"], atol=1e-6)
    images = tf.stack([decode(picture) for picture in pictures])
    whole = archive.signatures["image_uint8"](image=images)
    np.testing.assert_allclose(whole["probabilities"], outputs["probabilities"], atol=1e-5)
    assert archive.signatures["features"](image_bytes=pictures)["features"].shape == (16, 64)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 7, 90), (2, 1, 1)])
def test_any_size_and_batch_is_served(exported, shape):
    _, serve = signature(exported[0] / "1", "image")
    outputs = serve(image=tf.random.stateless_uniform((*shape, 3), (0, 1), 0, 255))
    np.testing.assert_allclose(tf.reduce_sum(outputs["probabilities"], -1), np.ones(shape[0]), atol=1e-5)
    np.testing.assert_array_equal(outputs["classes"][:, 0], tf.argmax(outputs["probabilities"], -1))


def test_an_empty_request_is_refused(exported):
    archive = tf.saved_model.load(str(exported[0] / "1"))
    for name, empty in (
        ("image", {"image": tf.zeros((0, 8, 8, 3))}),
        ("predict", {"image_bytes": tf.zeros(0, tf.string)}),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="the request holds no picture"):
            archive.signatures[name](**empty)


@pytest.mark.slow
def test_tensorflow_s_own_command_runs_it_without_keras(exported, evaluated, pictures, tmp_path):
    """saved_model_cli, which loads with TensorFlow's C++ loader into a session, as a server does."""
    np.save(tmp_path / "bytes.npy", pictures.numpy().astype(bytes))
    np.save(tmp_path / "pixels.npy", np.stack([decode(p) for p in pictures]).astype(np.float32))
    code = f"""
import sys
sys.modules["keras"] = sys.modules["kcnn"] = sys.modules["trainers"] = None
from tensorflow.python.tools import saved_model_cli
for name, given in (("serving_default", "image_bytes=bytes.npy"), ("image", "image=pixels.npy")):
    sys.argv = ["saved_model_cli", "run", "--dir", {str(exported[0] / "1")!r}, "--tag_set", "serve",
                "--signature_def", name, "--inputs", given, "--outdir", name]
    try:
        saved_model_cli.main()
    except SystemExit as left:
        assert not left.code
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("serving_default", "image"):
        np.testing.assert_allclose(np.load(tmp_path / name / "probabilities.npy"), evaluated, atol=1e-5)
    labels = np.load(tmp_path / "serving_default" / "labels.npy", allow_pickle=True)
    assert set(labels.ravel()) == {b"china", b"flower"}


# What is refused.


def test_an_export_that_answers_differently_is_refused(shot, tmp_path, monkeypatch, in_this_process):
    def changed(model, norms):
        folded = fold(model, norms)
        folded.model.get_layer("logits").kernel.assign_add(np.full((64, 2), [0.0, 0.01]))
        return folded

    fold = saved_model.fold
    monkeypatch.setattr(saved_model, "fold", changed)
    with pytest.raises(InputError, match=r"probabilities differ by .* from the model's"):
        export_run(str(shot.folder), out=str(tmp_path / "saved_model"), images=4, signatures=("image",))
    assert not (tmp_path / "saved_model").exists()


def test_an_export_that_does_not_load_is_refused(shot, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import sys; sys.exit('no such op')")
    monkeypatch.setattr(saved_model, "RELOADED", tmp_path / "broken.py")
    with pytest.raises(InputError, match="the export does not load again: no such op"):
        export_run(str(shot.folder), out=str(tmp_path / "saved_model"), images=4, signatures=("image",))
    assert not (tmp_path / "saved_model").exists()


@pytest.mark.slow
def test_killed_in_the_middle_it_leaves_no_version(shot, tmp_path):
    folder = tmp_path / "saved_model"
    command = [sys.executable, "-m", "kcnn.export", str(shot.folder), "--out", str(folder), "--images", "4"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not list(folder.glob(".partial-*/model/saved_model.pb")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    (left,) = folder.iterdir()
    assert left.name.startswith(".partial-")
    report = export_run(str(shot.folder), out=str(folder), images=4)  # which takes away what is left
    assert report["path"] == str(folder / "1") and [p.name for p in folder.iterdir()] == ["1"]


@pytest.mark.slow
def test_lost_data_is_told_and_made_up_pictures_serve(shot, tmp_path, capsys, in_this_process):
    shutil.copytree(shot.folder, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("photos0", "gone").replace("/photos", "/gone"))
    report = export_run(str(tmp_path / "run"), images=4, seconds=0.0)
    assert report["accuracy"] is None and report["agreement"] == 1 and report["images"] == 4
    assert "made-up pictures are compared" in capsys.readouterr().err


def test_the_command_says_what_it_did(shot, tmp_path, capsys, in_this_process):
    flags = ["--out", tmp_path / "served", "--checkpoint", "best", "--images", "8", "--signatures", "image", "features"]
    assert run(shot.folder, *flags, "--dtype", "bfloat16", "--tolerance", "0.5", "--json") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert report["path"] == str(tmp_path / "served" / "1")
    assert report["signatures"] == ["serving_default", "image", "features"]
    assert 0 < report["max_difference"] < 0.05  # bfloat16 has 8 bits
    assert lines[0].startswith("exported") and str(tmp_path / "served" / "1") in lines[0] and "bfloat16" in lines[0]
    text = "\n".join(lines)
    assert "signatures      serving_default, image, features" in text and "batch 32:" in text and "top-1" in text


@pytest.mark.parametrize("argv, words", [
    (["nowhere"], "'nowhere' is no folder"),
    ([], "RUN"),
    (["nowhere", "--checkpoint", "worst"], "worst"),
    (["nowhere", "--dtype", "int8"], "dtype int8 for saved_model: one of float32, bfloat16"),
    (["nowhere", "--signatures", "regress"], "regress"),
    (["nowhere", "--format", "coreml"], "coreml"),
    (["nowhere", "--top", "0"], "top 0"),
    (["nowhere", "--images", "0"], "images 0"),
    (["nowhere", "--max-pixels", "0"], "max-pixels 0"),
    (["nowhere", "--max-pixels", "9" * 400], "max-pixels 99999"),
    (["nowhere", "--max-pixels", str(2**31)], "max-pixels 2147483648"),
    (["nowhere", "--tolerance", "nan"], "tolerance nan"),
    (["nowhere", "--out", ""], "out ''"),
    (["nowhere", "--tolerance", "2"], "tolerance 2.0"),
])  # fmt: skip
def test_bad_input_is_one_line(capsys, argv, words):
    assert run(*argv) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line
