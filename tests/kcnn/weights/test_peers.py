"""Our networks with the weights of timm, torchvision and keras.applications give the logits that those give, and
PyTorch's networks with our weights give ours."""

import gc
import importlib.util

import keras
import peers
import pytest
import rows

import kcnn

SAME = 1e-4  # of the largest logit
TORCH = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm and PyTorch are not installed")


def in_sets(table, quick, slow, name):
    """Rows as parameters: a few quick ones, one a family for CI, and all of them."""
    marks = [() if row[1] in quick else pytest.mark.slow if row[1] in slow else pytest.mark.exhaustive for row in table]
    return [pytest.param(*row, marks=mark, id=name(row)) for row, mark in zip(table, marks, strict=True)]


@pytest.fixture(autouse=True)
def one_at_a_time():
    """The largest have 600 MB of weights, in each library."""
    yield
    keras.backend.clear_session()
    gc.collect()


def sides(arch):
    """An odd and an even number of pixels; both are more than those for which a stem shrinks."""
    return (224, 225) if arch.startswith(("vgg", "alexnet")) else (129, 160) if "inception" in arch else (97, 128)


@TORCH
@pytest.mark.parametrize(
    ("arch", "source", "width"), in_sets(rows.ALL, rows.QUICK, rows.SLOW, lambda row: row[1].replace("/", "-"))
)
def test_logits_of_pytorch_and_back(arch, source, width, tmp_path, record_property):
    library, name = source.split("/")
    model = peers.torch_model(library, name)
    record_property("family", f"{kcnn.get(arch).family} {library}")
    with peers.saved(model, tmp_path / f"{name}.safetensors") as path:
        for side in sides(arch):
            ours, taken = peers.taken(arch, path, model, side, width=width)
            record_property("theirs to ours", taken)
            assert taken < SAME
        given = peers.given(arch, path, model, ours, side)
        record_property("ours to theirs", given)
        assert given < SAME


TORCH_PADS, TF_PADS = {"padding": "symmetric"}, {"padding": "same"}
TORCH_EPSILON, TF_EPSILON = {"bn_epsilon": 1e-5}, {"bn_epsilon": 1e-3}
WRONG = [
    ("mobilenet-v3-small", "timm/tf_mobilenetv3_small_100", TORCH_PADS),
    ("mobilenet-v3-small", "timm/tf_mobilenetv3_small_100", TORCH_EPSILON),
    ("mobilenet-v3-small", "timm/mobilenetv3_small_100", TF_PADS),
    ("mobilenet-v3-small", "timm/mobilenetv3_small_100", TF_EPSILON),
    ("mobilenet-v3-small", "torchvision/mobilenet_v3_small", TORCH_EPSILON),
    ("mobilenet-v2", "timm/mobilenetv2_100", TF_PADS),
    ("mobilenet-v2", "timm/mobilenetv2_100", TF_EPSILON),
    ("mnasnet-1.0", "timm/mnasnet_100", TF_PADS),
    ("efficientnet-b0", "timm/efficientnet_b0", TF_EPSILON),
    ("resnet-18", "timm/resnet18", TF_PADS),
    ("resnet-18", "timm/resnet18", TF_EPSILON),
    ("regnety-200mf", "timm/regnety_002", TF_PADS),
    ("regnety-200mf", "timm/regnety_002", TF_EPSILON),
    ("inception-v3", "timm/inception_v3", {"count_zeros": False}),
    ("googlenet", "torchvision/googlenet", TORCH_EPSILON),
    ("alexnet", "torchvision/alexnet", {"mean": (127.5,) * 3}),
    ("squeezenet-1.1", "torchvision/squeezenet1_1", {"mean": (127.5,) * 3}),
    ("shufflenet-v2-0.5", "torchvision/shufflenet_v2_x0_5", TF_PADS),
    ("se-resnet-50", "timm/seresnet50", TF_EPSILON),
    ("resnet-50-d", "timm/resnet50d", TF_PADS),
    ("ghostnet-0.5", "timm/ghostnet_050", TF_PADS),
    ("repvgg-a0", "timm/repvgg_a0", TF_EPSILON),
    ("efficientnet-v2-b0", "timm/tf_efficientnetv2_b0", TORCH_PADS),
    ("efficientnet-v2-s", "torchvision/efficientnet_v2_s", TORCH_EPSILON),
    ("mobilenet-v4-conv-small", "timm/mobilenetv4_conv_small", TF_PADS),
    ("convnext-tiny", "timm/convnext_tiny", {"activation": "silu"}),
    ("convnext-v2-atto", "timm/convnextv2_atto", {"bn_epsilon": 1e-1}),
    ("nasnet-large", "timm/nasnetalarge", TORCH_PADS),
]


@TORCH
@pytest.mark.parametrize(
    ("arch", "source", "wrong"),
    [pytest.param(*row, marks=() if "tf_" in row[1] else pytest.mark.slow, id=f"{row[1]}-{row[2]}") for row in WRONG],
)
def test_a_convention_left_wrong_is_seen(arch, source, wrong, tmp_path):
    model = peers.torch_model(*source.split("/"))
    with peers.saved(model, tmp_path / f"{source.split('/')[1]}.safetensors") as path:
        side = max(sides(arch))
        ours, style = peers.spoiled(arch, path, side, wrong)
    x = peers.pixels(side)
    assert peers.apart(ours(x, training=False).numpy(), peers.torch_logits(model, x, style)) > SAME


def keras_apart(arch, name, side, path):
    model = peers.keras_model(name, side)
    model.save_weights(path)
    ours, x = kcnn.build(arch, weights=str(path), resolution=side), peers.pixels(side)
    path.unlink()
    return peers.apart(ours(x, training=False).numpy(), peers.keras_logits(name, model, x))


@pytest.mark.parametrize(
    ("arch", "name"),
    in_sets(rows.KERAS, rows.KERAS_QUICK, rows.KERAS_SLOW, lambda row: row[1]),
)
def test_logits_of_keras_at_even_and_odd_sizes(arch, name, tmp_path, record_property):
    record_property("family", f"{kcnn.get(arch).family} keras")
    for side in (129, 160) if "Inception" in name else (97, 128):
        difference = keras_apart(arch, name, side, tmp_path / f"{name}.weights.h5")
        record_property("theirs to ours", difference)
        assert difference < SAME


@pytest.mark.exhaustive
@pytest.mark.parametrize(("arch", "name"), rows.KERAS)
def test_logits_of_keras_at_native_and_small_sizes(arch, name, tmp_path, record_property):
    record_property("family", f"{kcnn.get(arch).family} keras")
    for side in (80, kcnn.get(arch).resolution):
        difference = keras_apart(arch, name, side, tmp_path / f"{name}.weights.h5")
        record_property("theirs to ours", difference)
        assert difference < SAME
