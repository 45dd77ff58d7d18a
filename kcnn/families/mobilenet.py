"""MobileNet v1: Howard et al., 2017 (https://arxiv.org/abs/1704.04861), Table 1; v2: Sandler et al., 2018
(https://arxiv.org/abs/1801.04381), Table 2."""

from kcnn.arch import Arch, Style, piece, stage

STYLE = Style(padding="same", bn_epsilon=1e-3, bn_momentum=0.99, activation="relu6",
              mean=(127.5,) * 3, std=(127.5,) * 3)  # fmt: skip
STEM = (piece("conv", 32, 2, kernel=3),)
HEAD = (piece("average"), piece("dropout"))
#           depth, width, stride
V1_ROWS = ((1, 64, 1), (2, 128, 2), (2, 256, 2), (6, 512, 2), (2, 1024, 2))
#           expand, width, depth, stride
V2_ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

ARCHS = (
    Arch("mobilenet-v1", "mobilenet-v1", 224, STEM, tuple(stage("separable", *row) for row in V1_ROWS), HEAD, STYLE,
         dropout=0.001),
    Arch("mobilenet-v2", "mobilenet-v2", 224, STEM, tuple(stage("inverted", n, c, s, expand=t) for t, c, n, s in V2_ROWS),
         (piece("conv", 1280, kernel=1, widen="grow"), *HEAD), STYLE, dropout=0.2),
)  # fmt: skip
