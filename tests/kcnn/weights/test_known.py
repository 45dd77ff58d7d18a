"""What known.txt and the conventions say of others' weights is what the libraries' own metadata say."""

import functools
import importlib.util

import numpy as np
import peers
import pytest
import rows

import kcnn
from kcnn.weights import known
from kcnn.weights.conventions import conventions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm and PyTorch are not installed"),
]

TURNED = ("googlenet", "inception_v3")  # torchvision's turn the input of its other networks into -1 to 1 themselves


@functools.cache
def on_paper(library, name):
    """A network of PyTorch without numbers in its tensors."""
    torch, timm, torchvision = peers.import_torch()
    with torch.device("meta"):
        if library == "timm":
            return timm.create_model(name)
        return torchvision.models.get_model(name, **({"init_weights": False} if name in TURNED else {}))


def test_timm_has_these_tags_licences_and_sizes():
    _, timm, _ = peers.import_torch()
    for row in known.rows():
        if row.source.startswith("timm/"):
            name, _, tag = row.source.removeprefix("timm/").partition(".")
            config = timm.get_pretrained_cfg(f"{name}.{tag}", allow_unregistered=False)
            assert config is not None and config.tag == tag, row.source
            assert row.licence == (config.license or ""), row.source
            assert row.default == (timm.get_pretrained_cfg(name).tag == tag), row.source
            state = on_paper("timm", name).state_dict()
            size = sum(4 * v.numel() for key, v in state.items() if not key.endswith("num_batches_tracked"))
            assert row.size == round(size / 2**20), row.source


def test_top1_of_torchvisions_weights_is_near_its_own_figure():
    _, _, torchvision = peers.import_torch()
    for row in known.rows():
        tag = row.source.partition(".")[2]
        if tag in ("tv_in1k", "tv2_in1k"):
            # torchvision calls timm's regnety_016 regnet_y_1_6gf.
            names = [s.split("/")[1] for n, s, _ in rows.ALL if n == row.network and s.startswith("torchvision/")]
            weights = torchvision.models.get_model_weights(names[0])
            which = weights.IMAGENET1K_V2 if tag == "tv2_in1k" else weights.IMAGENET1K_V1
            own = which.meta["_metrics"]["ImageNet-1K"]["acc@1"]
            assert row.top1 == pytest.approx(own, abs=0.5), row.source


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_conventions_are_those_of_the_library_s_networks_and_configurations(library):
    torch, timm, torchvision = peers.import_torch()
    wrong = []
    for network, source, _ in rows.ALL:
        theirs, name = source.split("/")
        # torchvision's RegNets compute their rows from tensors, which need numbers: the comparison of logits has them.
        if theirs != library or name.startswith("regnet_"):
            continue
        if library == "timm":
            config = timm.get_pretrained_cfg(name).to_dict()
        else:
            asked = torchvision.models.get_model_weights(name).DEFAULT.transforms()
            config = {"mean": (0.5,) * 3, "std": (0.5,) * 3} if name in TURNED else vars(asked)
        found = conventions(library, kcnn.get(network).family, name, config if library == "timm" else None)
        style = found.apply(kcnn.get(network)).style
        epsilons = {m.eps for m in on_paper(library, name).modules() if isinstance(m, torch.nn.BatchNorm2d)}
        if epsilons and epsilons != {style.bn_epsilon}:
            wrong.append((source, "epsilon", epsilons, style.bn_epsilon))
        for key in ("mean", "std"):
            if not np.allclose(getattr(style, key), 255 * np.array(config[key]), atol=0.01):
                wrong.append((source, key, config[key], getattr(style, key)))
        if library == "timm" and (found.crop, found.interpolation) != (config["crop_pct"], config["interpolation"]):
            wrong.append((source, found.crop, found.interpolation))
    assert not wrong
