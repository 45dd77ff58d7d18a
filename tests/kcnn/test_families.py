"""Every family against independent implementations: counts to the unit, outputs, gradients, saving."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kcnn
import kcnn.layers
from kcnn.arch import Each, Stage
from kcnn.builder import abstract
from kcnn.families import FAMILIES
from kcnn.families.anynet import anynet
from kcnn.families.densenet import densenet
from kcnn.families.regnet import Row, regnet
from kcnn.families.resnet import resnext

ROOT = Path(__file__).parents[2]
# Measured on other libraries; a `note` says what was left out to compare, null what their variant has otherwise.
REFERENCE = json.loads((Path(__file__).parent / "architectures.json").read_text())
REGNET_SIZES = (
    *("200mf", "400mf", "600mf", "800mf", "1.6gf", "3.2gf", "4.0gf", "6.4gf", "8.0gf"),
    *("12gf", "16gf", "32gf"),
)
# The names that other people's files and commands hold: none of them may ever go.
PROMISED = [
    *(f"vgg-{n}{bn}" for n in (11, 13, 16, 19) for bn in ("", "-bn")),
    *("googlenet", "inception-v3", "inception-v4", "inception-resnet-v2", "xception"),
    *(f"resnet-{n}" for n in (18, 34, 50, 101, 152)),
    *(f"resnet-{n}-{v}" for n in (50, 101, 152) for v in ("v1", "v2")),
    *("plain-18", "plain-34", "wide-resnet-50-2", "wide-resnet-101-2"),
    *("resnext-50-32x4d", "resnext-101-32x8d", "resnext-101-64x4d"),
    *(f"densenet-{n}" for n in (121, 161, 169, 201, 264)),
    *("mobilenet-v1", "mobilenet-v2", "mobilenet-v2-110d", "mobilenet-v2-120d"),
    *("mobilenet-v3-small", "mobilenet-v3-large", "mnasnet-1.0"),
    *(f"efficientnet-b{n}" for n in range(8)),
    *(f"efficientnet-lite{n}" for n in range(5)),
    *(f"regnet{kind}-{size}" for kind in "xy" for size in REGNET_SIZES),
]
# One small network a family; the last stage of each, too, has a block without a stride.
USUAL = {"width": 0.25, "depth": 0.3}
SMALL = {kcnn.get(name).family: (name, USUAL) for name in reversed(kcnn.names())} | {
    "vgg": ("vgg-11-bn", {"width": 0.125}),
    "googlenet": ("googlenet", {"width": 0.25}),
    "inception-v3": ("inception-v3", {"width": 0.125, "depth": 0.5}),
    "inception-resnet-v2": ("inception-resnet-v2", {"width": 0.125, "depth": 0.1}),
    "resnet": ("resnet-18", {"width": 0.125}),
    "plain": ("plain-18", {"width": 0.125}),
    "mobilenet-v3": ("mobilenet-v3-small", {"width": 0.5}),
    "repvgg": ("repvgg-a0", {"width": 0.25, "depth": 2}),  # its last stage has one block
}
SMALL = dict(SMALL.values())
FIRST_OF_FAMILY = set({kcnn.get(name).family: name for name in reversed(kcnn.names())}.values())


def minimal(arch: kcnn.Arch) -> kcnn.Arch:
    """MobileNet-v3 of plain operations: 3x3, ReLU, no squeeze-and-excite."""

    def strip(s: Stage) -> Stage:
        return replace(s, options={k: v for k, v in s.options.items() if k == "expand"})

    return replace(arch, stages=tuple(strip(s) for s in arch.stages), style=replace(arch.style, activation="relu"))


VARIANTS = {
    "mobilenet-v3-large-minimalistic": lambda: minimal(kcnn.get("mobilenet-v3-large")),
    "mobilenet-v3-small-minimalistic": lambda: minimal(kcnn.get("mobilenet-v3-small")),
    "resnext-101-32x4d": lambda: resnext(101, 32, 4),
    "densenet-264-k48": lambda: densenet(264, (6, 12, 64, 48), 48),
}


def named(name: str) -> kcnn.Arch:
    return VARIANTS[name]() if name in VARIANTS else kcnn.get(name)


def assert_counts(row: dict[str, Any], facts: kcnn.Facts) -> None:
    got = {"params": facts.params, "macs": facts.macs, "acts": facts.activations}
    assert got == {what: row[what] if row[what] is not None else got[what] for what in got}


def test_every_canonical_name_is_there():
    assert set(PROMISED) <= set(kcnn.names())
    assert {kcnn.get(name).name for name in kcnn.names()} == set(kcnn.names())
    assert len(kcnn.names()) == sum(len(f.ARCHS) for f in FAMILIES)


def counted(row):
    return f"{row['arch']}-w{row['width']}-{row['resolution']}-{row['source'].split()[0]}{'-aux' * ('aux' in row)}"


@pytest.mark.parametrize("row", [row for row in REFERENCE if "aux" not in row], ids=counted)
def test_counts_equal_the_reference(row):
    """Of the outline, which blocks/test_outline.py compares with Keras's graph."""
    assert_counts(row, kcnn.facts(named(row["arch"]), width=row["width"], resolution=row["resolution"]))


# `kcnn.facts` of an architecture counts no auxiliary heads, so those are counted here alone.
BUILT = [
    pytest.param(
        row,
        id=counted(row),
        marks=[] if "aux" in row else pytest.mark.slow if row["arch"] in FIRST_OF_FAMILY else pytest.mark.exhaustive,
    )
    for row in REFERENCE
]


@pytest.mark.parametrize("row", BUILT)
def test_counts_of_what_is_built_equal_the_reference(row):
    with abstract():
        model = kcnn.build(named(row["arch"]), width=row["width"], resolution=row["resolution"], aux="aux" in row)
    assert_counts(row, kcnn.facts(model))


def test_the_reference_leaves_out_only_what_follows_from_another_row():
    """v1's stride changes no parameter; a plain network is a residual one without its projections. LeNet-5 has a test
    of its own."""
    missing = set(kcnn.names()) - {row["arch"] for row in REFERENCE}
    assert missing == {"resnet-152-v1", "plain-18", "plain-34", "lenet-5"}
    assert kcnn.facts("resnet-152-v1").params == kcnn.facts("resnet-152").params
    for n in (18, 34):
        residual, control = kcnn.facts(f"resnet-{n}"), kcnn.facts(f"plain-{n}")
        ends = [(64, 128, 28), (128, 256, 14), (256, 512, 7)]
        assert residual.params - control.params == sum(i * o + 2 * o for i, o, _ in ends)
        assert residual.macs - control.macs == sum(i * o * r * r for i, o, r in ends)
        assert residual.activations - control.activations == sum(o * r * r for _, o, r in ends)


def test_lenet_5_has_the_parameters_that_its_figure_gives():
    """Of each layer: kernels and biases, on one channel, with and without the margin around the digits."""
    convolutions = (25 * 1 + 1) * 6 + (25 * 6 + 1) * 16
    for pixels, places in ((32, 5), (28, 4)):
        dense = (places**2 * 16 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10
        assert kcnn.facts("lenet-5", 10, channels=1, resolution=pixels).params == convolutions + dense
    assert convolutions + dense == 44_426


# Between them they have every layer, and every way in which tensors meet.
MEET = ("googlenet", "densenet-121", "resnet-50-v2", "mobilenet-v3-small", "regnety-200mf", "shufflenet-v2-0.5",
        "repvgg-a0", "convnext-base", "convnext-v2-atto")  # fmt: skip


@pytest.mark.parametrize("name", [n if n in MEET else pytest.param(n, marks=pytest.mark.slow) for n in SMALL])
def test_every_weight_receives_a_gradient(name):
    """Training mode, drop path and dropout at their places, auxiliary heads where there are any."""
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    aux = bool(kcnn.get(name).aux)
    model = kcnn.build(name, 5, **SMALL[name], resolution=64, drop_path=0.01, dropout=0.01, aux=aux)
    images = np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3)).astype("float32")
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = sum(keras.ops.sum(keras.ops.logsumexp(y, -1) - y[:, 0]) for y in (outputs if aux else [outputs]))
    assert np.isfinite(float(loss))
    gradients = tape.gradient(loss, model.trainable_variables)
    dead = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None or not np.any(g)]
    assert dead == []


# Between them they have every layer and block that must come back.
QUICK = ("googlenet", "inception-resnet-v2", "resnet-50-v2", "shufflenet-v2-0.5", "convnext-base", "convnext-v2-atto",
         "mobilenet-v3-small")  # fmt: skip
SLOW = ("densenet-121", "xception", "efficientnet-b0", "regnety-200mf", "nasnet-large", "repvgg-a0")


def mark(name):
    return () if name in QUICK else pytest.mark.slow if name in SLOW else pytest.mark.exhaustive


@pytest.mark.parametrize("name", [pytest.param(n, marks=mark(n)) for n in SMALL])
def test_a_saved_model_gives_equal_outputs(name, tmp_path):
    model = kcnn.build(name, 5, **SMALL[name], resolution=32)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(images), again(images))


@pytest.mark.parametrize("name", ["googlenet", "inception-v3"])
def test_auxiliary_heads_come_on_demand_and_share_names(name):
    arch = kcnn.get(name)
    with abstract():
        plain, training = kcnn.build(arch, 7), kcnn.build(arch, 7, aux=True)
    assert training.output_names == ["logits", *(f"aux{k}" for k in range(1, len(arch.aux) + 1))]
    assert [tuple(y.shape) for y in training.outputs] == [(None, 7)] * (1 + len(arch.aux))
    names = [layer.name for layer in training.layers]
    assert {layer.name for layer in plain.layers} < set(names) and len(set(names)) == len(names)
    assert all(name.startswith("aux") for name in set(names) - {layer.name for layer in plain.layers})
    assert [a.weight for a in arch.aux] == {"googlenet": [0.3, 0.3], "inception-v3": [0.4]}[name]


def test_a_network_without_auxiliary_heads_lists_its_logits_alone():
    with abstract():
        assert kcnn.build("resnet-18", aux=True).output_names == ["logits"]


@pytest.mark.parametrize("name", ["googlenet", "inception-v3"])
@pytest.mark.parametrize("resolution", [32, 64, 96, 320])
def test_auxiliary_heads_fit_any_resolution(name, resolution):
    with abstract():
        assert len(kcnn.build(name, aux=True, resolution=resolution).outputs) > 1


def test_response_normalization_is_its_formula():
    x = np.random.default_rng(0).normal(size=(1, 2, 2, 9)).astype("float32") * 30
    squares = np.stack([(x[..., max(0, c - 2) : c + 3] ** 2).sum(-1) for c in range(9)], -1)
    layer = kcnn.layers.ResponseNormalization()
    np.testing.assert_allclose(layer(x), x / (1 + 1e-4 / 5 * squares) ** 0.75, rtol=1e-5)


# The gallery


def test_the_gallery_has_every_network_and_family():
    text = (ROOT / "docs" / "architectures.md").read_text()
    assert sorted(re.findall(r"^\| (\S+) \| \d", text, re.M)) == sorted(kcnn.names())
    assert set(re.findall(r"^### (\S+)", text, re.M)) == {kcnn.get(name).family for name in kcnn.names()}


@pytest.mark.slow
def test_the_gallery_is_current():
    command = [sys.executable, ROOT / "docs" / "architectures.py", "--check"]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


# RegNet and AnyNet


def test_regnet_follows_its_quantization():
    """RegNetX-200MF of the paper's table: depths 1, 1, 4, 7 and widths 24, 56, 152, 368."""
    stages = kcnn.get("regnetx-200mf").stages
    assert [s.depth for s in stages] == [1, 1, 4, 7]
    assert [s.width for s in stages] == [24, 56, 152, 368]
    assert [s.options["group_width"] for s in kcnn.get("regnetx-8.0gf").stages] == [80, 120, 120, 120]


def test_anynet_is_free_in_every_row():
    arch = anynet("mine", (1, 2, 1), (32, 64, 96), (1.0, 0.5, 2.0), (8, 16, 32), se=0.25)
    facts = kcnn.facts(arch, 10)
    assert [(s.width, s.blocks) for s in facts.stages if s.name.startswith("stage")] == [(32, 1), (64, 2), (96, 1)]
    conv = {c.name: c for c in facts.layers}["stage3_block1_conv"]
    assert conv.shape[-1] == 192 and conv.params == 3 * 3 * 32 * 192


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: anynet("x", (1, 2), (32,)), "2 depths, 1 widths, 2 ratios, 2 group widths: as many of each"),
        (lambda: anynet("x", (), ()), "as many of each"),
        (lambda: anynet("x", (1,), (36,), 1.0, 8), "group width 8 does not divide the inner width 36"),
        (lambda: anynet("x", (0,), (32,)), "depth 0, width 32"),
        (lambda: regnet("x", Row(13, 24, 36.44, 0.9, 8)), "wm 0.9"),
        (lambda: regnet("x", Row(0, 24, 36.44, 2.0, 8)), "depth 0"),
    ],
)
def test_impossible_rows_are_one_clear_line(make, says):
    with pytest.raises(kcnn.InputError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


def test_each_block_takes_its_own_row():
    assert [s.width[1] for s in kcnn.get("inception-v3").stages[2:3] if isinstance(s.width, Each)]
    model = kcnn.facts("mobilenet-v3-large")
    widths = {c.name: c.shape[-1] for c in model.layers}
    assert [widths[f"stage4_block{j}_expand"] for j in (1, 2, 3, 4)] == [240, 200, 184, 184]
