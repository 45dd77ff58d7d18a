"""The names of timm, and those that torchvision shares with it: both name tensors as PyTorch does, and often alike."""

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

SE_RESNET = replace(RESNET, rules={**RESNET.rules} | {"se_squeeze": "se.fc1", "se_excite": "se.fc2"})
RESNET_D = replace(
    RESNET,
    rules={**RESNET.rules}
    | {
        "stem1_conv": "conv1.0 conv1.1",
        "stem2_conv": "conv1.3 conv1.4",
        "stem3_conv": "conv1.6 bn1",
        "shortcut": "downsample.1 downsample.2",
    },
)
GHOSTNET = Names(
    {
        "stem1_conv": "conv_stem bn1",
        r"ghost(?P<i>\d)": "ghost{i}.primary_conv.0 ghost{i}.primary_conv.1",
        r"ghost(?P<i>\d)_cheap": "ghost{i}.cheap_operation.0 ghost{i}.cheap_operation.1",
        "depthwise": "conv_dw bn_dw",
        "se_squeeze": "se.conv_reduce",
        "se_excite": "se.conv_expand",
        "shortcut_depthwise": "shortcut.0 shortcut.1",
        "shortcut": "shortcut.2 shortcut.3",
        "head1_conv": "blocks.{S}.0.conv blocks.{S}.0.bn1",
        "head3_conv": "conv_head",
    },
    block="blocks.{s:-1}.{b:-1}.",
    logits="classifier",
)
REPVGG = Names(
    {
        "stem1_rep_conv": "stem.conv_kxk",
        "stem1_rep_point": "stem.conv_1x1",
        "conv": "conv_kxk",
        "point": "conv_1x1",
        "identity_bn": "/stages.{s:-1}.{b:-1}.identity",
    },
    block="stages.{s:-1}.{b:-1}.",
    pair="{}.conv {}.bn",
    logits="head.fc",
)
EFFICIENTNET_V2 = replace(
    INVERTED, rules={**INVERTED.rules} | {"stage1_project": "conv bn1", "stage[23]_expand": "conv_exp bn1"}
)
MOBILENET_V4 = Names(
    {
        "stem1_conv": "conv_stem bn1",
        "conv": "conv bn1",
        "stage1_expand": "conv_exp bn1",
        "stage1_project": "conv_pwl bn2",
        "start": "dw_start.conv dw_start.bn",
        "expand": "pw_exp.conv pw_exp.bn",
        "depthwise": "dw_mid.conv dw_mid.bn",
        "project": "pw_proj.conv pw_proj.bn",
        "head1_conv": "blocks.{S}.0.conv blocks.{S}.0.bn1",
        "head3_conv": "conv_head norm_head",
    },
    block="blocks.{s:-1}.{b:-1}.",
    logits="classifier",
)
CONVNEXT = Names(
    {
        "stem1_conv": "stem.0 stem.1",
        "down_pre_ln": "/stages.{s:-1}.downsample.0",
        "down": "/stages.{s:-1}.downsample.1",
        "depthwise": "conv_dw norm",
        "expand": "mlp.fc1",
        "response": "mlp.grn",
        "project": "mlp.fc2",
        "scale": "gamma",
        "head2_norm_ln": "head.norm",
    },
    block="stages.{s:-1}.blocks.{b:-1}.",
    logits="head.fc",
)


def nasnet_cell(at: Mapping[str, Any]) -> str:
    """Reductions, which begin all stages but the first, are counted on their own."""
    s, b = at["s"], at["b"]
    return f"reduction_cell_{s - 2}." if s > 1 and b == 1 else f"cell_{at['n'] - s}."


SEPARABLE = r"sum(?P<i>\d)_(?P<side>[ab])_"


def separable(at: Mapping[str, Any]) -> str:
    side, j = {"a": "left", "b": "right"}[at["side"]], at["j"]
    what = "depthwise" if at["what"] == "depthwise" else "pointwise"
    branch = f"{'cell_stem_' + str(at['stem'] - 2) + '.' if 'stem' in at else ''}comb_iter_{at['i'] - 1}_{side}"
    return f"{branch}.separable_{j}.{what}_conv2d {branch}.bn_sep_{j}"


NASNET = Names(
    {
        "stem1_conv": "conv0.conv conv0.bn",
        r"stem(?P<i>\d)_cell_h": "cell_stem_{i:-2}.conv_1x1.conv cell_stem_{i:-2}.conv_1x1.bn",
        r"stem(?P<i>\d)_cell_p(?P<k>[12])": "cell_stem_{i:-2}.path_{k}.conv",
        r"stem(?P<i>\d)_cell_p_bn": "cell_stem_{i:-2}.final_path_bn",
        rf"stem(?P<stem>\d)_cell_{SEPARABLE}(?P<what>depthwise|pointwise)(?P<j>\d)": separable,
        "h": "conv_1x1.conv conv_1x1.bn",
        "p": "conv_prev_1x1.conv conv_prev_1x1.bn",
        r"p(?P<i>[12])": "path_{i}.conv",
        "p_bn": lambda at: "final_path_bn" if at["joined"] else "conv_prev_1x1.bn",
        rf"{SEPARABLE}(?P<what>depthwise|pointwise)(?P<j>\d)": separable,
    },
    block=nasnet_cell,
    logits="last_linear",
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
    "mobilenet-v4": MOBILENET_V4,
    **dict.fromkeys(("regnetx", "regnety"), REGNET),
    "se-resnet": SE_RESNET,
    "resnet-d": RESNET_D,
    "ghostnet": GHOSTNET,
    "repvgg": REPVGG,
    "efficientnet-v2": EFFICIENTNET_V2,
    **dict.fromkeys(("convnext", "convnext-v2"), CONVNEXT),
    "nasnet": NASNET,
}
