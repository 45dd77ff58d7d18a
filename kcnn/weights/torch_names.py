"""The names of timm and torchvision: both name tensors as PyTorch does, and often alike."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kcnn.weights.maps import Names, Template

PATH = r"path(?P<p>\d)_(?P<j>\d)(?P<letter>[ab]?)"
BRANCH: dict[str, Template] = {PATH: lambda at: f"branch{at['p'] - 1}{at['tail']}"}
PAIR = "{}.conv {}.bn"


def path(number: int, stages: str = "") -> str:
    """Returns the pattern of a path's steps, in these stages or all."""
    return (f"stage[{stages}]_" if stages else "") + rf"path{number}_(?P<j>\d)(?P<letter>[ab]?)"


RESNET = Names(
    {
        "stem1_conv": "conv1 bn1",
        r"conv(?P<i>\d)": "conv{i} bn{i}",
        "reduce": "conv1 bn1",
        "conv": "conv2 bn2",
        "expand": "conv3 bn3",
        "shortcut": "downsample.0 downsample.1",
    },
    block="layer{s}.{b:-1}.",
)
RESNET_V2 = Names(
    {
        "stem1_conv": "stem.conv",
        "pre_bn": "norm1",
        "reduce": "conv1 norm2",
        "conv": "conv2 norm3",
        "expand": "conv3",
        "shortcut": "downsample.conv",
        "head1_norm_bn": "norm",
    },
    block="stages.{s:-1}.blocks.{b:-1}.",
    logits="head.fc",
)
DENSENET = Names(
    {
        "stem1_conv": "features.conv0 features.norm0",
        "transition_pre_bn": "/features.transition{s:-1}.norm",
        "transition": "/features.transition{s:-1}.conv",
        "pre_bn": "norm1",
        "reduce": "conv1 norm2",
        "conv": "conv2",
        "head1_norm_bn": "features.norm5",
    },
    block="features.denseblock{s}.denselayer{b}.",
    logits="classifier",
)


def vgg(normed: bool, first: str, second: str, logits: str) -> Names:
    """A convolution, its norm and its activation are modules in a row, and so are the pools between stages."""

    def features(at: Mapping[str, Any]) -> str:
        index = (3 if normed else 2) * (at["n"] - 1) + at["s"] - 1
        return f"/features.{index} /features.{index + 1}"

    return Names({"conv": features, "head3_dense_layer": first, "head5_dense_layer": second}, logits=logits)


INCEPTION_V3 = Names(
    {
        "stem1_conv": "Conv2d_1a_3x3",
        "stem2_conv": "Conv2d_2a_3x3",
        "stem3_conv": "Conv2d_2b_3x3",
        "stem5_conv": "Conv2d_3b_1x1",
        "stem6_conv": "Conv2d_4a_3x3",
        path(1, "135"): "branch1x1",
        path(4): "branch_pool",
        path(2, "1"): "branch5x5_{j}",
        path(3, "1"): "branch3x3dbl_{j}",
        path(1, "2"): "branch3x3",
        path(2, "2"): "branch3x3dbl_{j}",
        path(2, "3"): "branch7x7_{j}",
        path(3, "3"): "branch7x7dbl_{j}",
        path(1, "4"): "branch3x3_{j}",
        path(2, "4"): "branch7x7x3_{j}",
        path(2, "5"): "branch3x3_{j}{letter}",
        path(3, "5"): "branch3x3dbl_{j}{letter}",
    },
    block=("Mixed_5{b:b}.", "Mixed_6a.", "Mixed_6{b:b}.", "Mixed_7a.", "Mixed_7{b:b}."),
    pair=PAIR,
)
INCEPTION_V4 = Names(
    {
        r"stem(?P<i>[123])_conv": "features.{i:-1}",
        "stem4_inception_path2_1": "features.3.conv",
        r"stem5_inception_path(?P<p>\d)_(?P<j>\d)": "features.4.branch{p:-1}.{j:-1}",
        "stem6_inception_path1_1": "features.5.conv",
        path(1, "5"): "branch0",
        path(4, "5"): "branch3.1",
        f"stage5_{PATH}": "branch{p:-1}_{j:-1}{letter}",
    }
    | BRANCH,
    block="features.{n:+5}.",
    pair=PAIR,
    logits="last_linear",
)
INCEPTION_RESNET_V2 = Names(
    {
        "stem1_conv": "conv2d_1a",
        "stem2_conv": "conv2d_2a",
        "stem3_conv": "conv2d_2b",
        "stem5_conv": "conv2d_3b",
        "stem6_conv": "conv2d_4a",
        "expand": "conv2d",
        "head1_conv": "conv2d_7b",
    }
    | BRANCH,
    block=(
        "mixed_5b.",
        "repeat.{b:-1}.",
        "mixed_6a.",
        "repeat_1.{b:-1}.",
        "mixed_7a.",
        "repeat_2.{b:-1}.",
        "block8.",
    ),
    pair=PAIR,
    logits="classif",
)
GOOGLENET = Names(
    {
        "stem1_conv": "conv1",
        "stem3_conv": "conv2",
        "stem4_conv": "conv3",
        PATH: lambda at: f"branch{at['p']}{at['tail']}",
    },
    block="inception{s:+2}{b:a}.",
    pair=PAIR,
)
XCEPTION = Names(
    {
        "stem1_conv": "conv1 bn1",
        "stem2_conv": "conv2 bn2",
        r"stage1_sep(?P<i>\d)_depthwise": "rep.{i:*3-3}.conv1",
        r"stage1_sep(?P<i>\d)_pointwise": "rep.{i:*3-3}.pointwise rep.{i:*3-2}",
        r"sep(?P<i>\d)_depthwise": "rep.{i:*3-2}.conv1",
        r"sep(?P<i>\d)_pointwise": "rep.{i:*3-2}.pointwise rep.{i:*3-1}",
        "shortcut": "skip skipbn",
        r"head(?P<i>\d)_separable_layer_depthwise": "conv{i:+2}.conv1",
        r"head(?P<i>\d)_separable_layer_pointwise": "conv{i:+2}.pointwise bn{i:+2}",
    },
    block="block{n}.",
)
INVERTED = Names(
    {
        "stem1_conv": "conv_stem bn1",
        "stage1_project": "conv_pw bn{c:+1}",
        "expand": "conv_pw bn{c:+1}",
        "depthwise": "conv_dw bn{c:+1}",
        "se_squeeze": "se.conv_reduce",
        "se_excite": "se.conv_expand",
        "project": "conv_pwl bn{c:+1}",
        "pointwise": "conv_pw bn{c:+1}",
        "head1_conv": "conv_head bn2",
    },
    block="blocks.{s:-1}.{b:-1}.",
    logits="classifier",
)
MOBILENET_V3 = replace(
    INVERTED,
    rules={**INVERTED.rules} | {"head1_conv": "blocks.{S}.0.conv blocks.{S}.0.bn1", "head3_dense_layer": "conv_head"},
)
REGNET = Names(
    {
        "stem1_conv": "stem.conv stem.bn",
        "reduce": "conv1",
        "conv": "conv2",
        "expand": "conv3",
        "shortcut": "downsample",
        "se_squeeze": "se.fc1",
        "se_excite": "se.fc2",
    },
    block="s{s}.b{b}.",
    pair=PAIR,
    logits="head.fc",
)

TIMM = {
    **dict.fromkeys(("resnet", "wide-resnet", "resnext"), RESNET),
    "resnet-v2": RESNET_V2,
    "densenet": DENSENET,
    "vgg": vgg(False, "pre_logits.fc1", "pre_logits.fc2", "head.fc"),
    "vgg-bn": vgg(True, "pre_logits.fc1", "pre_logits.fc2", "head.fc"),
    "inception-v3": INCEPTION_V3,
    "inception-v4": INCEPTION_V4,
    "inception-resnet-v2": INCEPTION_RESNET_V2,
    "xception": XCEPTION,
    **dict.fromkeys(("mobilenet-v1", "mobilenet-v2", "mnasnet", "efficientnet", "efficientnet-lite"), INVERTED),
    "mobilenet-v3": MOBILENET_V3,
    **dict.fromkeys(("regnetx", "regnety"), REGNET),
}

ROWS = {
    "expand": "{k}.0 {k}.1",
    "depthwise": "{k}.0 {k}.1",
    "project": "{k}.0 {k}.1",
    "se_squeeze": "{k}.fc1",
    "se_excite": "{k}.fc2",
}
TV_STEM = {"stem1_conv": "features.0.0 features.0.1"}
TV_EFFICIENTNET = Names(
    TV_STEM | ROWS | {"head1_conv": "features.{S:+1}.0 features.{S:+1}.1"},
    block="features.{s}.{b:-1}.block.",
    logits="classifier.1",
)
TV_MOBILENET_V2 = Names(
    TV_STEM | ROWS | {"project": "{k} {k:+1}"} | {"head1_conv": "features.{N:+1}.0 features.{N:+1}.1"},
    block="features.{n}.conv.",
    logits="classifier.1",
)
TV_MOBILENET_V3 = Names(
    TV_STEM | ROWS | {"head1_conv": "features.{N:+1}.0 features.{N:+1}.1", "head3_dense_layer": "classifier.0"},
    block="features.{n}.block.",
    logits="classifier.3",
)
TV_MNASNET = Names(
    {
        "stem1_conv": "layers.0 layers.1",
        "stage1_(depthwise|project)": "/layers.{c:*3+3} /layers.{c:*3+4}",
        "expand|depthwise|project": "{c:*3} {c:*3+1}",
        "head1_conv": "layers.{S:+7} layers.{S:+8}",
    },
    block="layers.{s:+6}.{b:-1}.layers.",
    logits="classifier.1",
)
TV_REGNET = Names(
    {
        "stem1_conv": "stem.0 stem.1",
        "reduce": "f.a.0 f.a.1",
        "conv": "f.b.0 f.b.1",
        "se_squeeze": "f.se.fc1",
        "se_excite": "f.se.fc2",
        "expand": "f.c.0 f.c.1",
        "shortcut": "proj.0 proj.1",
    },
    block="trunk_output.block{s}.block{s}-{b:-1}.",
)

TORCHVISION = {
    **dict.fromkeys(("resnet", "wide-resnet", "resnext"), RESNET),
    "densenet": DENSENET,
    "vgg": vgg(False, "classifier.0", "classifier.3", "classifier.6"),
    "vgg-bn": vgg(True, "classifier.0", "classifier.3", "classifier.6"),
    "inception-v3": INCEPTION_V3,
    "googlenet": GOOGLENET,
    "mobilenet-v2": TV_MOBILENET_V2,
    "mobilenet-v3": TV_MOBILENET_V3,
    "mnasnet": TV_MNASNET,
    "efficientnet": TV_EFFICIENTNET,
    **dict.fromkeys(("regnetx", "regnety"), TV_REGNET),
}
