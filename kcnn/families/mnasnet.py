"""MnasNet: Tan et al., 2019 (https://arxiv.org/abs/1807.11626): B1, which the authors released as MnasNet-1.0.

In the authors' networks of other widths the head keeps its 1280 channels.
"""

from kcnn.arch import Arch, Style, block, stage

STYLE = Style(padding="same", bn_epsilon=1e-3, bn_momentum=0.99)
#        expand, kernel, width, depth, stride
ROWS = (
    (1, 3, 16, 1, 1),
    (3, 3, 24, 3, 2),
    (3, 5, 40, 3, 2),
    (6, 5, 80, 3, 2),
    (6, 3, 96, 2, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
ARCHS = (
    Arch("mnasnet-1.0", "mnasnet", 224,
         (block("conv", 32, 2, kernel=3),),
         tuple(stage("inverted", n, c, s, expand=t, kernel=k) for t, k, c, n, s in ROWS),
         (block("conv", 1280, kernel=1, widen="fixed"), block("average"), block("dropout")),
         STYLE, dropout=0.2),
)  # fmt: skip
