"""EfficientNet: Tan and Le, 2019 (https://arxiv.org/abs/1905.11946), Table 1, scaled by the authors' coefficients.

EfficientNet-Lite (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite) has no
squeeze-and-excite, ReLU6, and neither its stem and head widened nor its first and last stage deepened.
"""

from dataclasses import replace

from kcnn.arch import Arch, Style, block, scale, stage

STYLE = Style(padding="same", bn_epsilon=1e-3, bn_momentum=0.99, activation="silu")
LITE_STYLE = replace(STYLE, activation="relu6", mean=(127.0,) * 3, std=(128.0,) * 3)
#        expand, kernel, width, depth, stride
ROWS = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
B0 = Arch("efficientnet-b0", "efficientnet", 224,
          (block("conv", 32, 2, kernel=3),),
          tuple(stage("inverted", n, c, s, expand=t, kernel=k, se=0.25) for t, k, c, n, s in ROWS),
          (block("conv", 1280, kernel=1), block("average"), block("dropout")),
          STYLE, dropout=0.2, drop_path=0.2)  # fmt: skip
LITE0 = replace(
    B0,
    family="efficientnet-lite",
    stem=(block("conv", 32, 2, kernel=3, widen="fixed"),),
    stages=tuple(
        stage("inverted", n, c, s, expand=t, kernel=k, deepen=0 < i < len(ROWS) - 1)
        for i, (t, k, c, n, s) in enumerate(ROWS)
    ),
    head=(block("conv", 1280, kernel=1, widen="fixed"), block("average"), block("dropout")),
    style=LITE_STYLE,
)
#              width, depth, resolution, dropout
COEFFICIENTS = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
    "lite0": (1.0, 1.0, 224, 0.2),
    "lite1": (1.0, 1.1, 240, 0.2),
    "lite2": (1.1, 1.2, 260, 0.3),
    "lite3": (1.2, 1.4, 280, 0.3),
    "lite4": (1.4, 1.8, 300, 0.3),
}


def efficientnet(size: str) -> Arch:
    width, depth, resolution, dropout = COEFFICIENTS[size]
    base = LITE0 if size.startswith("lite") else B0
    scaled = scale(base, width, depth, resolution / base.resolution)
    return replace(scaled, name=f"efficientnet-{size}", dropout=dropout)


ARCHS = tuple(efficientnet(size) for size in COEFFICIENTS)
