"""MobileNet v1: Howard et al., 2017 (https://arxiv.org/abs/1704.04861), Table 1; v2: Sandler et al., 2018
(https://arxiv.org/abs/1801.04381), Table 2; v3: Howard et al., 2019 (https://arxiv.org/abs/1905.02244), Tables 1, 2.

v2-110d and v2-120d are wider and deeper networks of timm (https://github.com/huggingface/pytorch-image-models).
"""

from dataclasses import replace

from kcnn.arch import Arch, Each, Style, block, scale, stage

STYLE = Style(padding="same", bn_epsilon=1e-3, bn_momentum=0.99, activation="relu6",
              mean=(127.5,) * 3, std=(127.5,) * 3)  # fmt: skip
STEM = (block("conv", 32, 2, kernel=3),)
HEAD = (block("average"), block("dropout"))
#           depth, width, stride
V1_ROWS = ((1, 64, 1), (2, 128, 2), (2, 256, 2), (6, 512, 2), (2, 1024, 2))
#           expand, width, depth, stride
V2_ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
V2 = Arch("mobilenet-v2", "mobilenet-v2", 224, STEM,
          tuple(stage("inverted", n, c, s, expand=t) for t, c, n, s in V2_ROWS),
          (block("conv", 1280, kernel=1, widen="grow"), *HEAD), STYLE, dropout=0.2)  # fmt: skip
#            width, depth
V2_DEEPER = {"110d": (1.1, 1.2), "120d": (1.2, 1.4)}

# A width multiplier leaves v3's stem of 16 alone, as Keras's alpha does.
V3_STYLE = replace(STYLE, bn_momentum=0.999, activation="hard_silu")
V3_STEM = (block("conv", 16, 2, kernel=3, widen="fixed"),)
RELU, SE = {"act": "relu"}, {"se_expanded": 0.25, "gate": "hard_sigmoid"}
#    kernel, expand of each block, width, stride, activation and squeeze-and-excite
V3_LARGE: tuple = (
    (3, (1,), 16, 1, RELU),
    (3, (4, 3), 24, 2, RELU),
    (5, (3, 3, 3), 40, 2, RELU | SE),
    (3, (6, 2.5, 2.3, 2.3), 80, 2, {}),
    (3, (6, 6), 112, 1, SE),
    (5, (6, 6, 6), 160, 2, SE),
)
V3_SMALL: tuple = (
    (3, (1,), 16, 2, RELU | SE),
    (3, (72 / 16, 88 / 24), 24, 2, RELU),
    (5, (4, 6, 6), 40, 2, SE),
    (5, (3, 3), 48, 1, SE),
    (5, (6, 6, 6), 96, 2, SE),
)


def v3(size: str, rows: tuple, last: int, features: int) -> Arch:
    stages = tuple(stage("inverted", len(t), c, s, kernel=k, expand=Each(t), **options) for k, t, c, s, options in rows)
    head = (block("conv", last, kernel=1), block("average"), block("dense_layer", features, widen="grow"))
    return Arch(
        f"mobilenet-v3-{size}", "mobilenet-v3", 224, V3_STEM, stages, (*head, block("dropout")), V3_STYLE, dropout=0.2
    )


def deeper_v2(size: str) -> Arch:
    """The stem and the head keep their widths, the first and the last stage their depths."""
    first, *middle, last = V2.stages
    stages = (replace(first, deepen=False), *middle, replace(last, deepen=False))
    stem, head = ((replace(row, widen="fixed"), *rest) for row, *rest in (V2.stem, V2.head))
    arch = replace(V2, name=f"mobilenet-v2-{size}", stem=stem, stages=stages, head=head)
    return replace(scale(arch, *V2_DEEPER[size]), name=arch.name)


ARCHS = (
    Arch("mobilenet-v1", "mobilenet-v1", 224, STEM, tuple(stage("separable", *row) for row in V1_ROWS), HEAD, STYLE,
         dropout=0.001),
    V2,
    *(deeper_v2(size) for size in V2_DEEPER),
    v3("small", V3_SMALL, 576, 1024),
    v3("large", V3_LARGE, 960, 1280),
)  # fmt: skip
