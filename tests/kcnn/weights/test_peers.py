"""Our networks with the weights of timm, torchvision and keras.applications give the logits that those give."""

import importlib.util
from dataclasses import replace

import peers
import pytest

import kcnn
from kcnn.weights import find

SAME = 1e-4  # of the largest logit
TORCH = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm and PyTorch are not installed")
QUICK = [("resnet-18", "timm/resnet18"), ("mobilenet-v3-small", "timm/tf_mobilenetv3_small_100"),
         ("regnety-200mf", "timm/regnety_002")]  # fmt: skip
SLOW = [
    ("resnet-50", "torchvision/resnet50"), ("resnet-50-v2", "timm/resnetv2_50"), ("densenet-121", "timm/densenet121"),
    ("regnety-400mf", "torchvision/regnet_y_400mf"), ("mobilenet-v1", "timm/mobilenetv1_100"),
    ("mobilenet-v2", "timm/mobilenetv2_100"), ("mobilenet-v2", "torchvision/mobilenet_v2"),
    ("mobilenet-v2-110d", "timm/mobilenetv2_110d"), ("mobilenet-v3-small", "timm/mobilenetv3_small_100"),
    ("mobilenet-v3-small", "torchvision/mobilenet_v3_small"), ("mobilenet-v3-large", "timm/mobilenetv3_large_100"),
    ("mnasnet-1.0", "timm/mnasnet_100"), ("mnasnet-1.0", "torchvision/mnasnet1_0"),
    ("efficientnet-b0", "timm/efficientnet_b0"), ("efficientnet-b0", "timm/tf_efficientnet_b0"),
    ("efficientnet-b0", "torchvision/efficientnet_b0"), ("efficientnet-lite0", "timm/tf_efficientnet_lite0"),
    ("inception-v3", "timm/inception_v3"), ("inception-v3", "torchvision/inception_v3"),
    ("inception-v4", "timm/inception_v4"), ("inception-resnet-v2", "timm/inception_resnet_v2"),
    ("xception", "timm/legacy_xception"), ("googlenet", "torchvision/googlenet"),
    ("wide-resnet-50-2", "timm/wide_resnet50_2"), ("resnext-50-32x4d", "torchvision/resnext50_32x4d"),
    ("regnetx-200mf", "timm/regnetx_002"), ("regnety-3.2gf", "timm/regnety_032"),
]  # fmt: skip
KERAS_QUICK = [("mobilenet-v1", "MobileNet"), ("mobilenet-v2", "MobileNetV2")]
KERAS_SLOW = [
    ("resnet-50-v1", "ResNet50"), ("resnet-50-v2", "ResNet50V2"), ("densenet-121", "DenseNet121"),
    ("mobilenet-v3-small", "MobileNetV3Small"), ("mobilenet-v3-large", "MobileNetV3Large"),
    ("efficientnet-b0", "EfficientNetB0"), ("xception", "Xception"), ("inception-v3", "InceptionV3"),
    ("inception-resnet-v2", "InceptionResNetV2"),
]  # fmt: skip


def torch_case(arch, source, tmp_path):
    library, name = source.split("/")
    model = peers.torch_model(library, name)
    return model, peers.save_torch(model, tmp_path / f"{name}.safetensors")


@TORCH
@pytest.mark.parametrize(("arch", "source"), QUICK + [pytest.param(*row, marks=pytest.mark.slow) for row in SLOW])
def test_logits_of_pytorch_at_even_and_odd_sizes(arch, source, tmp_path):
    model, path = torch_case(arch, source, tmp_path)
    for side in (129, 160) if "inception" in arch else (97, 128):
        assert peers.difference(arch, path, model, side) < SAME


@TORCH
@pytest.mark.slow
@pytest.mark.parametrize("source", ["timm/vgg11", "timm/vgg11_bn", "torchvision/vgg11", "torchvision/vgg11_bn"])
def test_logits_of_vgg_at_225_pixels(source, tmp_path):
    arch = "vgg-11-bn" if source.endswith("bn") else "vgg-11"
    model, path = torch_case(arch, source, tmp_path)
    assert peers.difference(arch, path, model, 225) < SAME


@TORCH
@pytest.mark.parametrize("wrong", [{"padding": "symmetric"}, {"bn_epsilon": 1e-2}])
def test_a_wrong_convention_is_seen(wrong, tmp_path):
    model, path = torch_case("mobilenet-v3-small", "timm/tf_mobilenetv3_small_100", tmp_path)
    arch = kcnn.get("mobilenet-v3-small")
    found = find(path, arch)
    right = found.apply(arch)
    spoiled = replace(right, style=replace(right.style, **wrong))
    ours = kcnn.build(spoiled, resolution=128, stem="standard")
    found.fill(ours)
    x = peers.pixels(128)
    assert peers.apart(ours(x, training=False).numpy(), peers.torch_logits(model, x, right.style)) > 10 * SAME


@pytest.mark.parametrize(
    ("arch", "name"), KERAS_QUICK + [pytest.param(*row, marks=pytest.mark.slow) for row in KERAS_SLOW]
)
def test_logits_of_keras_at_even_and_odd_sizes(arch, name, tmp_path):
    for side in (129, 160) if "Inception" in name else (97, 128):
        model = peers.keras_model(name, side)
        model.save_weights(path := tmp_path / f"{name}.weights.h5")
        ours, x = kcnn.build(arch, weights=str(path), resolution=side), peers.pixels(side)
        assert peers.apart(ours(x, training=False).numpy(), peers.keras_logits(name, model, x)) < SAME
