"""Outlines against Keras: the same facts of every network, the same refusals, and no import of Keras."""

import subprocess
import sys
from pathlib import Path

import keras
import pytest

import kcnn
from kcnn import layers
from kcnn.analysis.graph import follow, walk
from kcnn.arch import Style
from kcnn.blocks import outline
from kcnn.builder import Ends, abstract, assemble

ROOT = Path(kcnn.__file__).parents[1]
FAMILIES = {kcnn.get(name).family: name for name in reversed(kcnn.names())}  # the first name of each
SCALINGS = ({}, {"width": 1.3, "depth": 1.3}, {"width": 0.3, "resolution": 32}, {"channels": 1, "stem": "small"})


def check(name, classes=10, **scaling):
    with abstract():
        built = kcnn.facts(kcnn.build(name, classes, **scaling))
    drawn = kcnn.facts(name, classes, **scaling)
    assert drawn == built  # with every layer and the wiring
    assert drawn.to_dict() == built.to_dict() and drawn.layer_dicts() == built.layer_dicts()
    for settings in ((32,), (8, "mixed_bfloat16", True, 2), (8, "float32", False)):
        assert drawn.memory_parts(*settings) == built.memory_parts(*settings)


@pytest.mark.parametrize("name", FAMILIES.values())
def test_facts_are_those_of_keras_s_graph(name):
    check(name, depth=0.34)


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
@pytest.mark.parametrize("name", ["inception-v3", "mobilenet-v3-small", "regnety-200mf"])
def test_facts_are_those_of_keras_s_graph_when_scaled(name, scaling):
    check(name, **scaling)


@pytest.mark.exhaustive
@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
@pytest.mark.parametrize("name", kcnn.names())
def test_facts_of_every_network_are_those_of_keras_s_graph(name, scaling):
    check(name, **scaling)


@pytest.mark.parametrize("name", ["googlenet", "inception-v3"])
def test_auxiliary_heads_are_drawn_in_keras_s_order(name):
    arch = kcnn.get(name)
    with abstract():
        built = walk(kcnn.build(arch, 10, aux=True))
    assert follow(assemble(outline, arch, Ends.of(arch, 10, 3, aux=True))) == built


def test_a_style_of_an_older_file_says_whether_it_normalizes():
    assert [Style(norm=told).norm for told in (True, False)] == ["batch", None]
    with pytest.raises(ValueError, match="norm 'instance': batch, layer or none is needed"):
        Style(norm="instance")


def test_there_is_a_stand_in_for_every_layer():
    assert all(callable(getattr(outline, name)) for name in layers.__all__)


SIZE = (8, 8, 6)
REFUSED = {
    "no filters": ("Conv2D", (0, 3), {}, SIZE),
    "half a filter": ("Conv2D", (4.5, 3), {}, SIZE),
    "half a kernel": ("Conv2D", (4, 1.5), {}, SIZE),
    "no stride": ("Conv2D", (4, 3, 0), {}, SIZE),
    "a third axis": ("Conv2D", (4, (3, 3, 3)), {}, SIZE),
    "padding": ("Conv2D", (4, 3, 1, "symmetric"), {}, SIZE),
    "a kernel larger than the image": ("Conv2D", (4, 9, 1, "valid"), {}, SIZE),
    "groups and filters": ("Conv2D", (4, 3), {"groups": 3}, SIZE),
    "groups and channels": ("Conv2D", (4, 3), {"groups": 4}, SIZE),
    "a vector": ("Conv2D", (4, 3), {}, (8,)),
    "a depthwise kernel larger than the image": ("DepthwiseConv2D", (9, 1, "valid"), {}, SIZE),
    "a window larger than the image": ("MaxPooling2D", (9, 1, "valid"), {}, SIZE),
    "no window": ("AveragePooling2D", (0, 1, "same"), {}, SIZE),
    "no units": ("Dense", (0,), {}, (8,)),
    "no places": ("GlobalAveragePooling2D", (), {}, (8,)),
    "no such activation": ("Activation", ("silly",), {}, SIZE),
    "too high a rate": ("Dropout", (1.5,), {}, SIZE),
    "a sum of unlike channels": ("Add", (), {}, [SIZE, (8, 8, 5)]),
    "a product of unlike places": ("Multiply", (), {}, [SIZE, (4, 4, 6)]),
    "unlike places in a row": ("Concatenate", (), {}, [SIZE, (4, 4, 6)]),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("source", [layers, outline], ids=["Keras", "outline"])
def test_what_keras_refuses_is_refused(source, case):
    kind, args, options, shape = case
    shapes = shape if isinstance(shape, list) else [shape]
    with abstract(), pytest.raises(ValueError):
        inputs = [source.Input(s, name=f"input{i}") for i, s in enumerate(shapes)]
        getattr(source, kind)(*args, **options, name="layer")(inputs if len(inputs) > 1 else inputs[0])


def test_the_activations_are_those_of_keras():
    known = {name for name, value in vars(keras.activations).items() if callable(value)}
    assert known - {"get", "serialize", "deserialize"} <= set(outline.ACTIVATIONS)
    assert all(callable(keras.activations.get(name)) for name in outline.ACTIVATIONS)


LIGHT = """
import sys
import kcnn
import kcnn.notation, kcnn.scaling

found = kcnn.scaling.fit("resnet-18", {"macs": 1e9}, "width")
assert kcnn.facts("resnet-18", width=found.width).macs == found.costs["macs"]
print(*sorted({"keras", "tensorflow", "numpy"}.intersection(sys.modules)))
"""


def test_facts_and_budgets_need_neither_keras_nor_numpy():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""
