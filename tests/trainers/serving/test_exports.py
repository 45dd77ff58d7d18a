"""Every family leaves in every format; every way of training leads to the same float32 graph; damage is refused."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
import kcnn.export
import trainers
from kcnn.builder import smallest
from trainers.config import TrainConfig
from trainers.network import network
from trainers.serving import exports
from trainers.serving.references import eval_pixels, made_up, make_reference
from trainers.serving.saved_model import ExportRequest
from trainers.settings import resolve

CLASSES = ("ant", "bee", "cat", "dog", "elk")
FAMILIES = sorted({*({kcnn.get(name).family: name for name in reversed(kcnn.names())}.values()), "vgg-11-bn"})
# (format, dtype, whether normalizations are folded): one row of each format, and the other rows.
THREE = [("litert", "int8", True), ("onnx", "float32", True), ("saved_model", "float32", True)]
OTHERS = [
    ("litert", "float32", True), ("litert", "float32", False), ("litert", "float16", True), ("onnx", "float32", False),
    ("saved_model", "float32", False), ("saved_model", "bfloat16", True),
]  # fmt: skip
# Between them: normalizations that cannot be folded, grouped convolutions, gates, and an int8 network that XNNPACK
# refuses.
IN_ALL = ("resnet-50-v2", "regnety-200mf")
# Between them: every kind of layer.
SLOW = (*IN_ALL, "googlenet", "mobilenet-v3-large", "xception", "vgg-11-bn", "efficientnet-v2-b0", "shufflenet-v2-0.5",
        "repvgg-a0", "convnext-base", "convnext-v2-atto", "nasnet-large")  # fmt: skip


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else pytest.mark.exhaustive) for n in FAMILIES]
)
def test_every_family_leaves_in_three_formats(name, tmp_path):
    leaves(name, THREE, tmp_path)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in IN_ALL else pytest.mark.exhaustive) for n in FAMILIES]
)
def test_a_family_leaves_in_the_other_formats(name, tmp_path):
    leaves(name, OTHERS, tmp_path)


def leaves(name, formats, tmp_path):
    """Exports a small network of the family, with statistics as of a long training, in each of the formats."""
    pytest.importorskip("ai_edge_litert", reason="pip install '.[litert]'")
    pytest.importorskip("onnxruntime", reason="pip install '.[onnx]'")
    keras.utils.set_random_seed(0)
    side = -(-max(32, smallest(kcnn.get(name))) // 8) * 8
    config = resolve(TrainConfig(arch=name, width=0.125, depth=0.2, resolution=side))
    model, draws = network(config, len(CLASSES)), np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.moving_mean.shape
            layer.set_weights(
                [
                    draws.uniform(0.5, 1.5, count),
                    draws.normal(0, 0.3, count),
                    draws.normal(0, 0.3, count),
                    draws.uniform(0.5, 1.5, count),
                ]
            )
    pictures, labels = made_up(4, config.resolution)
    reference = make_reference(model, config, pictures, labels)
    for format, dtype, fold_bn in formats:
        request = ExportRequest(
            model,
            config,
            CLASSES,
            reference,
            dtype=dtype,
            fold_bn=fold_bn,
            signatures=("image",),
            tolerance=1.0,
            calibration=eval_pixels(pictures, config),
            seconds=0.0,
        )
        report = exports.export(request, tmp_path / f"{format}-{dtype}", format)
        assert report["max_difference"] <= (1e-4 if dtype == "float32" else 0.2), (format, dtype, fold_bn, report)
        assert fold_bn or not report["folded"]


# Each precision, and each number of replicas, once beside the plain run.
@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures", "in_this_process")
@pytest.mark.parametrize("precision, replicas", [
    ("float32", 1), ("mixed_bfloat16", 2), ("mixed_float16", 1),
    *(pytest.param(*row, marks=pytest.mark.exhaustive) for row in (
        ("float32", 2), ("mixed_bfloat16", 1), ("mixed_float16", 2))),
])  # fmt: skip
def test_every_way_of_training_leads_to_the_same_graph(tiny, photos, tmp_path, precision, replicas):
    from tensorflow.core.protobuf import saved_model_pb2

    strategy = {"strategy": "mirrored", "replicas": 2} if replicas == 2 else {"strategy": "one-device"}
    flags = tiny | {"recipe": "default", "resolution": 32, "batch_size": 16, "epochs": 1, "ema": 0.5}
    run = trainers.fit(
        TrainConfig(**flags, **strategy, precision=precision, data=str(photos), run_dir=str(tmp_path / "r"))
    )
    for i, fold_bn in enumerate((True, False), 1):
        report = exports.export_run(str(run.folder), images=16, fold_bn=fold_bn, signatures=("image",), seconds=0.0)
        assert report["path"].endswith(f"saved_model/{i}") and report["max_difference"] <= 1e-5
        assert report["accuracy"] == report["accuracy_before"] == pytest.approx(run.figures["val_accuracy"], abs=0.07)
        saved = saved_model_pb2.SavedModel.FromString(
            (run.folder / "saved_model" / str(i) / "saved_model.pb").read_bytes()
        )
        nodes = [n for f in saved.meta_graphs[0].graph_def.library.function for n in f.node_def]
        types = {tf.dtypes.as_dtype(n.attr["T"].type) for n in nodes if n.op in ("Conv2D", "MatMul")}
        assert types == {tf.float32}
        assert not any("REPLICA" in n.name.upper() for n in nodes)


# What is refused, of the same run in a copy that may be changed.


def command(*argv):
    with pytest.raises(SystemExit) as left:
        kcnn.export.main([str(a) for a in argv])
    return left.value.code


@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx"])
def test_a_full_disk_leaves_no_export(run, capsys, files_of_at_most, everything, format):
    pytest.importorskip({"saved_model": "keras", "litert": "ai_edge_litert", "onnx": "onnxruntime"}[format])
    before = everything(run)
    with files_of_at_most(50_000):  # some of its files can be written
        assert command(run, "--format", format, "--images", "2", "--signatures", "image") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"cannot write to {run / format}: File too large" in line
    assert everything(run) == before and not (run / format).exists()


DAMAGED = [
    *(
        ("classes.json", text)
        for text in (
            "",
            "7",
            '"ab"',
            "{}",
            "[]",
            "[1, 2]",
            '["china"]',
            '["china", "china"]',
            '["china", null]',
            "[" * 100_000,
            '["china", "flower", "more"]',
            '["china", ""]',
            "\udcff",
        )
    ),
    *(
        ("config.yaml", text)
        for text in (
            "",
            "7",
            "- a",
            "arch: nonesuch",
            "arch: [1]",
            "resolution: -1",
            "resolution: many",
            "resolution: 1000000000",
            "width: .nan",
            "width: 1.0e+308",
            "eval_crop: 0",
            "eval_crop: 2.0",
            "a: &a [1]\nb: *a",
            "{" * 1000,
            "drop: .inf",
            "1: 2",
            "epochs: 2.7",
        )
    ),
    *(
        (name, text)
        for name in ("facts.json", "result.json", "evaluation.json")
        for text in ("", "7", "[]", "{", "null", "\udcff", "[" * 100_000)
    ),
]


@pytest.mark.parametrize("name, text", DAMAGED, ids=lambda value: value[:30])
def test_a_damaged_run_is_one_line(run, capsys, name, text):
    path = run / name
    changed = text.encode("utf-8", "surrogateescape")
    if name == "config.yaml" and ": " in text and path.exists():  # a setting of the run's, changed
        key = text.split(":")[0]
        kept = [line for line in path.read_text().splitlines() if not line.startswith(f"{key}:")]
        changed = "\n".join([*kept, text]).encode()
    path.write_bytes(changed)
    assert command(run, "--images", "2") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert len(line) < 1500 and not (run / "saved_model").exists()


def test_a_link_in_a_run_is_not_followed(run, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (run / "saved_model").symlink_to(tmp_path / "elsewhere")
    assert command(run) == 2
    assert f"{run / 'saved_model'} is a symbolic link" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_an_evaluation_found_goes_along(run):
    (run / "evaluation.json").write_text(
        json.dumps({"accuracy": 0.5, "images": 9, "split": "test", "confusion": [[1]]})
    )
    found = exports.about_run(run)
    assert found["metrics"]["evaluation"] == {"accuracy": 0.5, "images": 9, "split": "test"}
    assert found["run"] == "run" and found["facts"]["params"]
