"""Xception: Chollet, 2017 (https://arxiv.org/abs/1610.02357), Figure 5."""

from kcnn.arch import Arch, Style, block, stage

STYLE = Style(padding="same", bn_epsilon=1e-3, bn_momentum=0.99, mean=(127.5,) * 3, std=(127.5,) * 3)
STEM = (block("conv", 32, 2, kernel=3, padding="valid"), block("conv", 64, kernel=3, padding="valid"))
STAGES = (
    stage("extreme", 1, (128, 128), 2, deepen=False),
    stage("extreme", 1, (256, 256), 2, deepen=False),
    stage("extreme", 1, (728, 728), 2, deepen=False),
    stage("extreme", 8, (728, 728, 728)),
    stage("extreme", 1, (728, 1024), 2, deepen=False),
)
HEAD = (block("separable_layer", 1536), block("separable_layer", 2048), block("average"), block("dropout"))

ARCHS = (Arch("xception", "xception", 299, STEM, STAGES, HEAD, STYLE, dropout=0.5),)
