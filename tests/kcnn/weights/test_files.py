"""Files that are no weights, damaged or of another network: one line tells so, and nothing is loaded."""

import json
import struct

import numpy as np
import pytest

import kcnn
from kcnn.weights import known
from kcnn.weights.tensors import open_file


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(kind="F32", shape=(2,), begin=0, end=8):
    return {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}


BAD = {
    "empty": b"",
    "cut in its length": b"\x10\0",
    "header beyond the file": struct.pack("<Q", 2**62) + b"{}",
    "no JSON": safetensors(b"{{{{"),
    "cut in its data": safetensors({"a": entry()}, b"\0" * 4),
    "out of range": safetensors({"a": entry(begin=0, end=80)}, b"\0" * 8),
    "overlapping": safetensors({"a": entry(), "b": entry()}, b"\0" * 8),
    "of huge shape": safetensors({"a": entry(shape=(2**40, 2**40))}, b"\0" * 8),
    "of no tensor": safetensors({}),
    "of whole numbers": safetensors({"a": entry("I32")}, b"\0" * 8),
    "web page": b"<!DOCTYPE html><html></html>",
    "pickle": b"\x80\x02}q\0.",
    "pointer": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_refused_in_a_line(what, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(BAD[what])
    with pytest.raises(kcnn.InputError) as error:
        open_file(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".safetensors"])
def test_pickles_are_refused_with_the_way_out(suffix, tmp_path):
    """As PyTorch writes them now, a zip archive, and as it did, whatever they are called."""
    import zipfile

    path = tmp_path / f"weights{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\0.")
    for data in (path.read_bytes(), b"\x80\x02}q\0."):
        path.write_bytes(data)
        with pytest.raises(
            kcnn.InputError, match=r"pickle, which can run code.*safetensors\.torch\.save_file"
        ) as error:
            open_file(path)
        assert "\n" not in str(error.value)


def test_too_many_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kcnn.weights.tensors.MOST_TENSORS", 3)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors({f"t{i}": entry(begin=8 * i, end=8 * i + 8) for i in range(4)}, bytes(32)))
    with pytest.raises(kcnn.InputError, match="4 tensors, where 1 to 3 are possible"):
        open_file(path)


def test_weights_of_another_network_name_the_first_tensor(tmp_path):
    path = of_timm(tmp_path / "mine.safetensors", "mobilenet-v2")
    with pytest.raises(kcnn.InputError, match=r"has no conv1\.weight|none of its .* the first is") as error:
        kcnn.build("resnet-18", resolution=96, weights=path)
    assert "\n" not in str(error.value)


def test_a_damaged_hdf5_is_refused(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    with pytest.raises(kcnn.InputError, match="HDF5"):
        open_file(path)


@pytest.mark.parametrize("source", ["", 3, "nowhere.safetensors", "timm/resnet50", "torchvision/mobilenet_v2", "keras"])
def test_unfit_sources_are_refused(source):
    with pytest.raises(kcnn.InputError):
        kcnn.build("resnet-18", weights=source)


def ours(tmp_path, change=lambda arrays: None):
    """A file of resnet-18's weights by the names of PyTorch."""
    from safetensors.numpy import save_file

    from kcnn.weights.loading import TORCH
    from kcnn.weights.maps import translate
    from kcnn.weights.timm_names import RESNET

    model = kcnn.build("resnet-18", resolution=96)
    names = translate([layer.name for layer in model.layers if layer.weights], RESNET)
    arrays = {}
    for layer in model.layers:
        for v in layer.weights:
            array = v.numpy()
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            arrays[f"{names[layer.name]}.{TORCH[v.name]}"] = np.ascontiguousarray(array)
    change(arrays)
    path = tmp_path / "resnet18.safetensors"
    save_file(arrays, path)
    return model, str(path)


def test_weights_come_back(tmp_path, capsys):
    model, path = ours(tmp_path)
    again = kcnn.build("resnet-18", resolution=96, weights=path)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))
    assert "102 tensors loaded" in capsys.readouterr().err


@pytest.mark.parametrize(("channels", "sum_is"), [(1, 1), (4, 1)])
def test_other_channels_and_classes_are_told(channels, sum_is, tmp_path, capsys):
    model, path = ours(tmp_path)
    again = kcnn.build("resnet-18", classes=7, channels=channels, resolution=96, weights=path)
    said = capsys.readouterr().err
    assert "2 dropped (fc.weight, fc.bias), 2 new" in said and "kernel's 3 channels" in said
    old, new = (m.get_layer("stem1_conv").kernel.numpy() for m in (model, again))
    expected = old.sum(2) if channels == 1 else 0.75 * (old.sum(2) + old[:, :, 0])
    assert np.allclose(new.sum(2), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a.pop("layer1.0.conv1.weight"), "layer1.0.conv1.weight"),
        (lambda a: a.update(extra=np.ones(3, np.float32)), "extra"),
        (lambda a: a.update({"bn1.bias": np.ones(3, np.float32)}), "bn1.bias"),
        (lambda a: a["bn1.bias"].fill(np.nan), "finite"),
        (
            lambda a: a.update({"layer1.0.conv1.weight": np.ones((64, 64, 1, 1), np.float32)}),
            r"layer1\.0\.conv1\.weight is \(64, 64, 1, 1\).* resnet-18 needs \(3, 3, 64, 64\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, match, tmp_path):
    _, path = ours(tmp_path, change)
    with pytest.raises(kcnn.InputError, match=match):
        kcnn.build("resnet-18", resolution=96, weights=path)


def test_what_is_known_is_of_our_networks():
    assert all(row.network in kcnn.names() for row in known.rows())
    assert len(set(known.imagenet_classes())) == 1000
    spelled = {"regnety_032": "regnety-3.2gf", "regnet_y_1_6gf": "regnety-1.6gf", "ResNet50V2": "resnet-50-v2"}
    for name, network in spelled.items():
        assert kcnn.get(name).name == network
    with pytest.raises(kcnn.InputError, match="another network"):
        kcnn.get("regnet_x_400mf")


def of_timm(path, network="efficientnet-b0", metadata=None):
    """A file of a network's weights under the names of timm, all zeros."""
    from safetensors.numpy import save_file

    from kcnn.builder import abstract
    from kcnn.weights.loading import TORCH
    from kcnn.weights.maps import translate
    from kcnn.weights.timm_names import TIMM

    with abstract():
        model = kcnn.build(network, width=0.25)
    names = translate([layer.name for layer in model.layers if layer.weights], TIMM[kcnn.get(network).family])
    arrays = {}
    for layer in model.layers:
        for v in layer.weights:
            shape = tuple(v.shape)
            if len(shape) == 4:
                turn = (2, 3, 0, 1) if type(layer).__name__ == "DepthwiseConv2D" else (3, 2, 0, 1)
                shape = tuple(shape[i] for i in turn)
            arrays[f"{names[layer.name]}.{TORCH[v.name]}"] = np.zeros(shape[::-1] if len(shape) == 2 else shape, "f4")
    path.parent.mkdir(exist_ok=True)
    save_file(arrays, path, metadata)
    return str(path)


@pytest.mark.parametrize(
    ("file", "config", "metadata", "padding", "told"),
    [
        ("mine.safetensors", None, None, "symmetric", True),
        ("tf_efficientnet_b0.safetensors", None, None, "same", False),
        ("mine.safetensors", "tf_efficientnet_b0", None, "same", False),
        ("mine.safetensors", "efficientnet_b0", None, "symmetric", False),
        ("mine.safetensors", None, "tf_efficientnet_b0", "same", False),
    ],
)
def test_what_is_assumed_of_a_file_is_told(file, config, metadata, padding, told, tmp_path, capsys):
    from kcnn.weights import find

    path = of_timm(tmp_path / "here" / file, metadata={"architecture": metadata} if metadata else None)
    if config:
        (tmp_path / "here" / "config.json").write_text(json.dumps({"architecture": config}))
    assert find(path, kcnn.get("efficientnet-b0")).apply(kcnn.get("efficientnet-b0")).style.padding == padding
    kcnn.build("efficientnet-b0", width=0.25, weights=path)
    said = capsys.readouterr().err
    assert ("name the file tf_efficientnet_b0.safetensors" in said) == told and said.count("\n") == 1
