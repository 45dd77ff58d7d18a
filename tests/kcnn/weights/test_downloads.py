"""Downloads, without a network and with one that this machine plays."""

import importlib
import sys

import numpy as np
import pytest
from test_files import of_timm

import kcnn
from kcnn.weights import find

NOWHERE = "http://127.0.0.1:9"  # where nothing listens


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's client, with an empty cache and nobody to ask."""
    hub = pytest.importorskip("huggingface_hub")
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    return hub


@pytest.mark.usefixtures("cache")
def test_without_a_network_the_hub_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(kcnn.InputError, match=r"hub cannot be reached, and model\.safetensors of timm/") as error:
        kcnn.build("efficientnet-b0", weights="timm/efficientnet_b0")
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_a_closed_port_of_the_hub_is_one_line():
    """The client tries several times, and waits between them."""
    with pytest.raises(kcnn.InputError, match=r"hub cannot be reached|cannot be downloaded") as error:
        kcnn.build("efficientnet-b0", weights="timm/efficientnet_b0")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["efficientnet_b0.ra_in1k", "tf_efficientnet_b0.ns_jft_in1k"])
def test_what_the_hub_gives_is_loaded(name, cache, tmp_path, monkeypatch):
    """The configuration beside the weights decides, and so does the repository's name."""
    asked = []
    of_timm(tmp_path / "hub" / "model.safetensors")
    (tmp_path / "hub" / "config.json").write_text('{"pretrained_cfg": {"crop_pct": 0.9, "interpolation": "bicubic"}}')

    def download(repository, file):
        asked.append((repository, file))
        return str(tmp_path / "hub" / file)

    monkeypatch.setattr(cache, "hf_hub_download", download)
    arch = kcnn.get("efficientnet-b0")
    found = find(f"timm/{name}", arch)
    assert asked == [(f"timm/{name}", "model.safetensors"), (f"timm/{name}", "config.json")]
    assert found.apply(arch).style.padding == ("same" if name.startswith("tf_") else "symmetric")
    assert (found.conventions.crop, found.conventions.interpolation) == (0.9, "bicubic")
    assert len(found.classes) == 1000 and not found.notes
    model = kcnn.build("efficientnet-b0", width=0.25, weights=f"timm/{name}")
    assert not any(np.any(v.numpy()) for v in model.weights)


@pytest.mark.parametrize("error", [OSError("disk full\nno space"), ValueError("404 Client Error: Not Found")])
def test_what_the_hub_refuses_is_one_line(error, cache, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(cache, "hf_hub_download", fail)
    with pytest.raises(kcnn.InputError, match=f"cannot be downloaded .*{type(error).__name__}") as told:
        find("timm/efficientnet_b0", kcnn.get("efficientnet-b0"))
    assert "\n" not in str(told.value)


def test_without_the_hub_s_client_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(kcnn.InputError, match=r"pip install huggingface_hub"):
        find("timm/efficientnet_b0", kcnn.get("efficientnet-b0"))


def test_without_a_network_keras_is_one_line(tmp_path, monkeypatch):
    import keras.src.applications.mobilenet_v2 as theirs

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(theirs, "BASE_WEIGHT_PATH", f"{NOWHERE}/")
    with pytest.raises(kcnn.InputError, match="weights keras: MobileNetV2 cannot be downloaded") as error:
        find("keras", kcnn.get("mobilenet-v2"))
    assert "\n" not in str(error.value)
