"""The names of keras.applications. Where it names no layer, `conv2d:3` is the fourth of the layers so called."""

from collections.abc import Mapping
from typing import Any

from kcnn.weights.maps import Names, Template

UNNAMED = "/conv2d:{r} /batch_normalization:{r}"


def shifted(at: Mapping[str, Any]) -> str:
    """keras.applications' ResNet V2 has the strides in the last block of a stage, which for us begins the next one."""
    s, b, depths = at["s"], at["b"], at["depths"]
    if s == 1:
        return f"conv2_block{b}_"
    return f"conv{s}_block{depths[s - 2] + (s == 2)}_" if b == 1 else f"conv{s + 1}_block{b - 1}_"


BOTTLENECK = {
    "stem1_conv": "conv1_conv conv1_bn",
    "reduce": "1_conv 1_bn",
    "conv": "2_conv 2_bn",
    "expand": "3_conv 3_bn",
    "shortcut": "0_conv 0_bn",
}
MOBILENET = {"expand": "expand expand_BN", "depthwise": "depthwise depthwise_BN", "project": "project project_BN"}
SMALL_BN = {key: value.replace("BN", "bn") for key, value in MOBILENET.items()}

EFFICIENTNET = {
    "stem1_conv": "stem_conv stem_bn",
    "expand": "expand_conv expand_bn",
    "depthwise": "dwconv bn",
    "se_squeeze": "se_reduce",
    "se_excite": "se_expand",
    "project": "project_conv project_bn",
    "head1_conv": "top_conv top_bn",
}
SEPARABLE = r"sum(?P<i>\d)_(?P<side>[ab])_(?P<what>depthwise|pointwise)(?P<j>\d)"


def cell(at: Mapping[str, Any]) -> str:
    """What NASNet calls a cell: stem_1 and stem_2, reduce_4 and reduce_8, and by its number all others."""
    s, n = at["s"], at["n"]
    if not s:
        return f"stem_{at['stem'] - 1}"
    number = n - max(1, s - 1)
    return f"reduce_{number}" if s > 1 and at["b"] == 1 else f"{number}"


def reduces(at: Mapping[str, Any]) -> str:
    return "normal" if at["s"] == 1 or at["b"] > 1 else "reduction"


def separable(at: Mapping[str, Any]) -> str:
    side = {"a": "left", "b": "right"}[at["side"]]
    i = 4 if reduces(at) == "reduction" and at["i"] == 5 else at["i"]
    end = f"{reduces(at)}_{side}{i}_{cell(at)}"
    return f"separable_conv_{at['j']}_{end}.{at['what']} separable_conv_{at['j']}_bn_{end}"


STEM = r"(?:stem(?P<stem>\d)_cell_)?"
NASNET: dict[str, Template] = {
    "stem1_conv": "stem_conv1 stem_bn1",
    f"{STEM}h": lambda at: f"{reduces(at)}_conv_1_{cell(at)} {reduces(at)}_bn_1_{cell(at)}",
    rf"{STEM}p(?P<i>[12])": lambda at: f"adjust_conv_{at['i']}_{cell(at)}",
    f"{STEM}p": lambda at: f"adjust_conv_projection_{cell(at)} adjust_bn_{cell(at)}",
    f"{STEM}p_bn": lambda at: f"adjust_bn_{cell(at)}",
    STEM + SEPARABLE: separable,
}

KERAS = {
    "vgg": Names(
        {"conv": "block{s}_conv{b}", "head3_dense_layer": "fc1", "head5_dense_layer": "fc2"}, logits="predictions"
    ),
    "resnet-v1": Names(BOTTLENECK, block="conv{s:+1}_block{b}_", logits="predictions"),
    "resnet-v2": Names(
        BOTTLENECK | {"pre_bn": "preact_bn", "head1_norm_bn": "post_bn"}, block=shifted, logits="predictions"
    ),
    "densenet": Names(
        {
            "stem1_conv": "conv1_conv conv1_bn",
            "transition_pre_bn": "/pool{s}_bn",
            "transition": "/pool{s}_conv",
            "pre_bn": "0_bn",
            "reduce": "1_conv 1_bn",
            "conv": "2_conv",
            "head1_norm_bn": "bn",
        },
        block="conv{s:+1}_block{b}_",
        logits="predictions",
    ),
    "mobilenet-v1": Names(
        {
            "stem1_conv": "conv1 conv1_bn",
            "depthwise": "conv_dw_{n} conv_dw_{n}_bn",
            "pointwise": "conv_pw_{n} conv_pw_{n}_bn",
        },
        logits="conv_preds",
    ),
    "mobilenet-v2": Names(
        {
            "stem1_conv": "Conv1 bn_Conv1",
            "stage1_(?P<what>depthwise|project)": "/expanded_conv_{what} /expanded_conv_{what}_BN",
            "head1_conv": "Conv_1 Conv_1_bn",
        }
        | MOBILENET,
        block="block_{n:-1}_",
        logits="predictions",
    ),
    "mobilenet-v3": Names(
        {
            "stem1_conv": "conv conv_bn",
            "se_squeeze": "squeeze_excite_conv",
            "se_excite": "squeeze_excite_conv_1",
            "head1_conv": "conv_1 conv_1_bn",
            "head3_dense_layer": "conv_2",
        }
        | SMALL_BN,
        block=lambda at: f"expanded_conv_{at['n'] - 1}_" if at["n"] > 1 else "expanded_conv_",
        logits="logits",
    ),
    "efficientnet": Names(EFFICIENTNET, block="block{s}{b:a}_", logits="predictions"),
    "efficientnet-v2": Names(EFFICIENTNET | {"depthwise": "dwconv2 bn"}, block="block{s}{b:a}_", logits="predictions"),
    "convnext": Names(
        {
            "stem1_conv": "stem_conv stem_layernorm",
            "down_pre_ln": "/downsampling_layernorm_{s:-2}",
            "down": "/downsampling_conv_{s:-2}",
            "depthwise": "depthwise_conv layernorm",
            "expand": "pointwise_conv_1",
            "project": "pointwise_conv_2",
            "scale": "layer_scale",
            "head2_norm_ln": "head_layernorm",
        },
        block="stage_{s:-1}_block_{b:-1}_",
        logits="head_dense",
        prefix=r"convnext_[a-z]+_(?=stem|stage|downsampling|head)",
    ),
    "nasnet": Names(NASNET, logits="predictions"),
    "xception": Names(
        {
            r"stem(?P<i>\d)_conv": "block1_conv{i} block1_conv{i}_bn",
            r"sep(?P<i>\d)_depthwise": "sepconv{i}.depthwise",
            r"sep(?P<i>\d)_pointwise": "sepconv{i}.pointwise sepconv{i}_bn",
            "stage5_shortcut": "/conv2d:3 /batch_normalization:3",
            "shortcut": "/conv2d:{s:-1} /batch_normalization:{s:-1}",
            r"head(?P<i>\d)_separable_layer_depthwise": "block{N:+2}_sepconv{i}.depthwise",
            r"head(?P<i>\d)_separable_layer_pointwise": "block{N:+2}_sepconv{i}.pointwise block{N:+2}_sepconv{i}_bn",
        },
        block="block{n:+1}_",
        logits="predictions",
    ),
    "inception-v3": Names({r"stem\d_conv": UNNAMED, r"path\d_\d[ab]?": UNNAMED}, logits="predictions"),
    "inception-resnet-v2": Names(
        {
            r"stem\d_conv": UNNAMED,
            r"path\d_\d[ab]?": UNNAMED,
            "stage2_expand": "/block35_{b}_conv",
            "stage4_expand": "/block17_{b}_conv",
            "stage6_expand": "/block8_{b}_conv",
            "stage7_expand": "/block8_10_conv",
            "head1_conv": "conv_7b conv_7b_bn",
        },
        logits="predictions",
    ),
}
