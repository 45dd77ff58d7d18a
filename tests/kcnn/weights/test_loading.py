"""What loading takes: memory, and nothing that the weights of a file replace anyway."""

import json
import math
import struct
import subprocess
import sys

import keras
import numpy as np
import pytest

import kcnn
from kcnn.builder import abstract
from kcnn.weights.loading import TORCH, Value
from kcnn.weights.maps import translate
from kcnn.weights.torchvision_names import TORCHVISION

PEAK = """
import resource, sys
import kcnn

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

kcnn.build("resnet-18", 10, width=0.125, resolution=32)
before = peak()
model = kcnn.build(sys.argv[1], weights=sys.argv[2])
print(peak() - before, 4 * model.count_params(), float(sum(abs(v.numpy()).max() for v in model.weights)))
"""


def zeros(path, name, family):
    """Writes a safetensors file of the network's shapes under torchvision's names, all zeros, of which the disk keeps
    nothing."""
    with abstract():
        model = kcnn.build(name)
    names = translate([layer.name for layer in model.layers if layer.weights], TORCHVISION[family])
    header, end = {}, 0
    for layer in model.layers:
        for v in layer.weights:
            shape = [v.shape[-1], v.shape[-2], *v.shape[:-2]] if len(v.shape) > 1 else list(v.shape)
            begin, end = end, end + 4 * math.prod(shape)
            entry = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
            header[f"{names[layer.name]}.{TORCH[v.name]}"] = entry
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_loading_takes_less_than_twice_the_weights(tmp_path):
    """Of VGG, three quarters of which are one tensor, in a process of its own."""
    path = tmp_path / "vgg11.safetensors"
    zeros(path, "vgg-11", "vgg")
    words = [sys.executable, "-c", PEAK, "vgg-11", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    taken, weights, largest = map(float, done.stdout.split())
    assert weights > 5e8 and largest == 0.0
    assert taken < 2 * weights


def test_a_large_tensor_is_read_in_parts(tmp_path, monkeypatch):
    """They make the same weights, whichever way its axes are turned."""
    from safetensors.numpy import save_file

    model = kcnn.build("vgg-11", 3, width=0.0625, resolution=224)
    names = translate([layer.name for layer in model.layers if layer.weights], TORCHVISION["vgg"])
    arrays = {}
    for layer in model.layers:
        for v in layer.weights:
            array = v.numpy()
            if layer.name == "head3_dense_layer" and array.ndim == 2:  # PyTorch has the channels first
                array = array.reshape(7, 7, -1, array.shape[1]).transpose(2, 0, 1, 3).reshape(array.shape)
            arrays[f"{names[layer.name]}.{TORCH[v.name]}"] = np.ascontiguousarray(array.transpose(
                (3, 2, 0, 1) if array.ndim == 4 else (1, 0) if array.ndim == 2 else (0,)))  # fmt: skip
    save_file(arrays, tmp_path / "a.safetensors")
    model.save_weights(tmp_path / "a.weights.h5")
    monkeypatch.setattr("kcnn.weights.loading.PART", 5000)
    counts = []
    whole = Value.begin
    monkeypatch.setattr(Value, "begin", lambda self, v: counts.append(whole(self, v)))
    for file in ("a.safetensors", "a.weights.h5"):
        again = kcnn.build("vgg-11", 3, width=0.0625, resolution=224, weights=str(tmp_path / file))
        for v, old in zip(again.weights, model.weights, strict=True):
            np.testing.assert_array_equal(v.numpy(), old.numpy(), err_msg=f"{file} {v.path}")
    assert len(counts) == 2 * len(model.weights)


def test_no_initializer_runs_where_weights_come(tmp_path, monkeypatch):
    model = kcnn.build("resnet-18", 3, width=0.125, resolution=32)
    model.save_weights(tmp_path / "a.weights.h5")
    drawn = []
    for kind in (keras.initializers.RandomNormal, keras.initializers.VarianceScaling):
        monkeypatch.setattr(kind, "__call__", lambda self, shape, dtype=None: drawn.append(shape) or np.zeros(shape))
    kcnn.build("resnet-18", 3, width=0.125, resolution=32, stem="small", weights=str(tmp_path / "a.weights.h5"))
    assert not drawn
    kcnn.build("resnet-18", 5, width=0.125, resolution=32, stem="small", weights=str(tmp_path / "a.weights.h5"))
    assert drawn == [(64, 5)]  # the classifier's kernel
