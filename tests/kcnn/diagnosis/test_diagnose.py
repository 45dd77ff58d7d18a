"""kcnn.diagnose: planted faults come first, and sound networks have none of them."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

import kcnn
import kcnn.diagnosing
from kcnn.diagnosis.advice import MOST
from trainers.lab.subject import photographs


def seen(side, count=32):
    return list(photographs(side, count, 16))


def first(model, side=64):
    found = kcnn.diagnose(model, seen(side)).findings
    return found[0].what if found else ""


def test_a_thin_stage_is_named():
    arch = kcnn.scale(kcnn.get("resnet-18"), width=0.5)
    stages = [replace(s, width=4) if k == 1 else s for k, s in enumerate(arch.stages)]
    assert first(kcnn.build(replace(arch, stages=tuple(stages)), 10, resolution=96), 96).startswith("stage2 has 4 chan")


def test_a_dead_layer_is_named():
    model = kcnn.build("vgg-11-bn", 10, width=0.125, resolution=224)
    layer = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization) and "stage3" in x.name)
    layer.beta.assign(np.full(layer.beta.shape, -1e3))
    found = kcnn.diagnose(model, seen(224, 16)).findings[0]
    assert found.what.endswith("never move") and "stage3" in found.what and found.change


def test_a_stem_without_a_stride_is_named():
    model = kcnn.build("resnet-18", 10, width=0.125, resolution=224, stem="small")
    found = kcnn.diagnose(model, seen(224, 16)).findings[0]
    assert "at the input's own resolution" in found.what and "--stem standard" in found.change


def with_activated_projections():
    """MobileNet-v2 with a ReLU6 on its projections: the network that its authors compare with."""
    plain = kcnn.build("mobilenet-v2", 10, width=0.5, resolution=96)

    def call(layer, *args, **kwargs):
        y = layer(*args, **kwargs)
        return keras.layers.ReLU(6.0, name=f"{layer.name}_act")(y) if layer.name.endswith("project_bn") else y

    return keras.models.clone_model(plain, call_function=call, clone_function=lambda layer: layer)


@pytest.mark.slow
def test_a_relu_on_projections_is_named_with_what_it_loses():
    found = kcnn.diagnose(with_activated_projections(), seen(96))
    assert "inverted blocks have relu6 on their projection" in found.findings[0].what
    sound = kcnn.diagnose(kcnn.build("mobilenet-v2", 10, width=0.5, resolution=96), seen(96))
    lost = [s.relu_loses for s in sound.representation.spans if s.where == "narrow"]
    assert max(lost) > 0.05 and not any(s.activated for s in sound.representation.spans if s.where == "narrow")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet-18", "mobilenet-v2", "densenet-121"])
def test_sound_networks_have_no_such_fault(name):
    depth = 0.25 if name == "densenet-121" else 1
    found = kcnn.diagnose(kcnn.build(name, 10, width=0.5, depth=depth, resolution=96), seen(96)).findings
    assert not [f.what for f in found if "never move" in f.what or "channels" in f.what or "own resol" in f.what]


def test_there_are_never_too_many_and_they_are_json():
    model = kcnn.build("plain-34", 10, width=0.0625, resolution=96)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(np.full(layer.beta.shape, -1e3))
    found = kcnn.diagnose(model, seen(96, 16))
    assert len(found.findings) < MOST and "other layers have lost half of theirs" in found.findings[0].evidence
    told = json.loads(json.dumps(found.to_dict()))
    assert told["findings"][0]["weight"] == 0.95 and len(told["architecture"]["blocks"]) == len(
        found.architecture.blocks
    )


@pytest.mark.parametrize("shape", [(4, 32, 32, 3), (4, 64, 64, 1), (4, 64, 64)])
def test_images_of_another_shape_are_one_line(shape):
    model = kcnn.build("resnet-18", 10, width=0.125, depth=0.25, resolution=64)
    with pytest.raises(kcnn.InputError, match=r"images of shape .*takes \(64, 64, 3\)"):
        kcnn.diagnose(model, np.zeros(shape))


def command(*words):
    with pytest.raises(SystemExit) as left:
        kcnn.diagnosing.main([str(w) for w in words])
    return left.value.code


@pytest.mark.slow
def test_the_command_on_a_name(here, capsys):
    flags = ["--width", "0.25", "--resolution", "64", "--images", "16", "--json"]
    assert command("mobilenet-v2", *flags) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    told, page = json.loads(last), (here / "diagnosis.html").read_text("utf-8")
    assert lines[0] == "mobilenet-v2-w0.25, 16 cuts of two photographs" and told["page"] == "diagnosis.html"
    assert "stage7" in page and "linear CKA" in page and "<script>" in page
    assert told["architecture"]["longest"] == 53


@pytest.mark.parametrize("words, message", [
    (["nothing-50"], "nothing-50"),
    (["resnet-18", "--images", "0"], "images 0"),
    (["resnet-18", "--data", "./nowhere"], "./nowhere"),
    (["resnet-18", "--width", "100"], "width"),
])  # fmt: skip
def test_bad_input_is_one_line(here, capsys, words, message):
    assert command(*words) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and message in err[0] and not list(here.iterdir())
