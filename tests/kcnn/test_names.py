"""Checkpoints hang on the names of layers and the shapes of weights: none of any network may ever change.

layers.json holds what they are. `python tests/kcnn/test_names.py` adds those of new networks, and changes no other.
"""

import hashlib
import json
from pathlib import Path

import pytest

import kcnn
from kcnn.builder import abstract

FILE = Path(__file__).with_name("layers.json")
QUICK = ("googlenet", "resnet-18", "mobilenet-v3-small", "regnety-200mf")


def of_graph(name):
    """Names, shapes, parameters and wiring of all layers."""
    calls = kcnn.facts(name).layers
    return digest([[c.name, c.shape, c.params, c.params_nontrainable, c.inputs, c.outputs] for c in calls])


def of_weights(name):
    with abstract():
        model = kcnn.build(name, aux=True)
    return digest([[v.path, list(v.shape)] for v in model.weights])


def digest(rows):
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def known():
    return json.loads(FILE.read_text())


def test_every_network_is_known():
    assert sorted(known()) == sorted(kcnn.names())


def test_layers_are_what_they_were():
    assert [name for name in kcnn.names() if of_graph(name) != known()[name][0]] == []


# The slow set has the first network of each family.
FIRST = {kcnn.get(name).family: name for name in reversed(kcnn.names())}.values()


@pytest.mark.parametrize("name", [
    n if n in QUICK else pytest.param(n, marks=pytest.mark.slow if n in FIRST else pytest.mark.exhaustive)
    for n in kcnn.names()
])  # fmt: skip
def test_weights_are_what_they_were(name):
    assert of_weights(name) == known()[name][1]


if __name__ == "__main__":
    found = {name: [of_graph(name), of_weights(name)] for name in kcnn.names()} | (known() if FILE.exists() else {})
    FILE.write_text("{\n" + ",\n".join(f'"{name}": {json.dumps(found[name])}' for name in kcnn.names()) + "\n}\n")
