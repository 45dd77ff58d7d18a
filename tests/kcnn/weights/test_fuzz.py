"""Weights with a few bytes changed end in weights that are as long and as many as before, or in one line."""

import random
import resource
import sys

import keras
import numpy as np
import pytest

import kcnn
from kcnn.builder import abstract
from kcnn.weights import find
from kcnn.weights.loading import Report

MUTATIONS = 300
ALLOWED = 400 * 2**20  # bytes, of a file of less than 1 MB


def mutated(data, draws):
    """The bytes with one to three things wrong; most of them in the header, where they do the most."""
    data = bytearray(data)
    for _ in range(draws.randint(1, 3)):
        place = draws.randrange(min(len(data), 12_000)) if draws.random() < 0.8 else draws.randrange(len(data))
        match draws.randrange(6):
            case 0:
                data[place] ^= 1 << draws.randrange(8)
            case 1:
                data[place : place + draws.randint(1, 8)] = draws.randbytes(draws.randint(0, 8))
            case 2:
                del data[place : place + draws.choice((1, 7, 1000))]
            case 3:  # a number of the header
                digits = [i for i in range(8, min(len(data), 12_000)) if 48 <= data[i] <= 57]
                if digits:
                    data[draws.choice(digits)] = draws.choice(b"0123456789-.e")
            case 4:
                data[:8] = draws.choice((0, 1, len(data), 2**31, 2**62, 2**64 - 1)).to_bytes(8, "little")
            case 5:
                del data[draws.randrange(len(data)) :]
        if not data:
            break
    return bytes(data)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize("kind", ["safetensors", "keras"])
def test_changed_bytes_are_told_in_a_line_or_harmless(kind, tmp_path):
    from safetensors.numpy import save_file

    from kcnn.weights.loading import TORCH
    from kcnn.weights.maps import translate
    from kcnn.weights.timm_names import RESNET

    built = kcnn.build("resnet-18", 3, width=0.125, resolution=32)
    names = translate([layer.name for layer in built.layers if layer.weights], RESNET)
    path = tmp_path / f"a.{kind}"
    if kind == "keras":
        built.save(path)
    else:
        turned = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
        save_file({
            f"{names[layer.name]}.{TORCH[v.name]}": np.ascontiguousarray(v.numpy().transpose(turned[len(v.shape)]))
            for layer in built.layers for v in layer.weights
        }, path)  # fmt: skip
    good, draws = path.read_bytes(), random.Random(14)
    with abstract():
        model = kcnn.build("resnet-18", 3, width=0.125, resolution=32)
    before, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(good, draws))
        try:
            values = [(v, value.array()) for v, value in find(str(path), kcnn.get("resnet-18")).values(model, Report())]
        except kcnn.InputError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1000
        else:
            assert all(array.shape == tuple(v.shape) and np.isfinite(array).all() for v, array in values)
    assert refused > MUTATIONS // 3
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < ALLOWED
    keras.backend.clear_session()
