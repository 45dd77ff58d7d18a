"""The names of torchvision, where they are not those of timm."""

from kcnn.weights.maps import Names
from kcnn.weights.timm_names import DENSENET, GOOGLENET, INCEPTION_V3, RESNET, vgg

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

TV_ALEXNET = Names(
    {
        "stem1_conv": "features.0",
        "stage1_conv": "features.3",
        "stage2_conv": "features.{b:*2+4}",
        "head4_dense_layer": "classifier.1",
        "head6_dense_layer": "classifier.4",
    },
    logits="classifier.6",
)
TV_SQUEEZENET = Names(
    {"stem1_conv": "features.0", "path1_1": "squeeze", "path1_2a": "expand1x1", "path1_2b": "expand3x3"},
    block=lambda at: f"features.{at['n'] + at['s'] + 1}.",
    logits="classifier.1",
)
TV_SHUFFLENET = Names(
    {
        "stem1_conv": "conv1.0 conv1.1",
        "left_depthwise": "branch1.0 branch1.1",
        "left": "branch1.2 branch1.3",
        "reduce": "branch2.0 branch2.1",
        "depthwise": "branch2.3 branch2.4",
        "expand": "branch2.5 branch2.6",
        "head1_conv": "conv5.0 conv5.1",
    },
    block="stage{s:+1}.{b:-1}.",
)
TV_CONVNEXT = Names(
    {
        "stem1_conv": "features.0.0 features.0.1",
        "down_pre_ln": "/features.{s:*2-2}.0",
        "down": "/features.{s:*2-2}.1",
        "depthwise": "block.0 block.2",
        "expand": "block.3",
        "project": "block.5",
        "scale": "layer_scale",
        "head2_norm_ln": "classifier.0",
    },
    block="features.{s:*2-1}.{b:-1}.",
    logits="classifier.2",
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
    **dict.fromkeys(("efficientnet", "efficientnet-v2"), TV_EFFICIENTNET),
    "alexnet": TV_ALEXNET,
    "squeezenet": TV_SQUEEZENET,
    "shufflenet-v2": TV_SHUFFLENET,
    "convnext": TV_CONVNEXT,
    **dict.fromkeys(("regnetx", "regnety"), TV_REGNET),
}
