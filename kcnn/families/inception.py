"""Inception-v3: Szegedy et al., 2015 (https://arxiv.org/abs/1512.00567), figures 5 to 7 and 10, in the authors' later
form; Inception-v4 and Inception-ResNet-v2: Szegedy et al., 2016 (https://arxiv.org/abs/1602.07261), figures 3 to 19.

Reductions are stages of their own, which no multiplier deepens.
"""

from typing import Any

from kcnn.arch import Arch, Aux, Each, Stage, Style, Width, block, stage

STYLE = Style(padding="same", bn_epsilon=1e-3, bn_momentum=0.99, mean=(127.5,) * 3, std=(127.5,) * 3)
VALID: dict[str, Any] = {"padding": "valid"}
HEAD = (block("average"), block("dropout"))


def reduction(width: Width, *paths: str) -> Stage:
    return stage("inception", 1, width, 2, deepen=False, paths=paths, **VALID)


def join(width: Width, *paths: str, stride: int = 1) -> Stage:
    return block("inception", width, stride, paths=paths, **VALID)


# 299x299 to 35x35
STEM = (
    block("conv", 32, 2, kernel=3, **VALID),
    block("conv", 32, kernel=3, **VALID),
    block("conv", 64, kernel=3),
    block("max_pool", stride=2, kernel=3, **VALID),
    block("conv", 80, kernel=1),
    block("conv", 192, kernel=3, **VALID),
    block("max_pool", stride=2, kernel=3, **VALID),
)
V4_STEM = (
    *STEM[:3],
    join(((), 96), "max/s", "3x3/s", stride=2),
    join(((64, 96), (64, 64, 64, 96)), "1x1 3x3/s", "1x1 1x7 7x1 3x3/s"),
    join((192, ()), "3x3/s", "max/s", stride=2),
)

V3_A = ("1x1", "1x1 5x5", "1x1 3x3 3x3", "avg 1x1")
V3_B = ("1x1", "1x1 1x7 7x1", "1x1 7x1 1x7 7x1 1x7", "avg 1x1")
V3_C = ("1x1", "1x1 1x3|3x1", "1x1 3x3 1x3|3x1", "avg 1x1")
V3_STAGES = (
    stage("inception", 3, Each((64, (48, 64), (64, 96, 96), pool) for pool in (32, 64, 64)), paths=V3_A),
    reduction((384, (64, 96, 96), ()), "3x3/s", "1x1 3x3 3x3/s", "max/s"),
    stage("inception", 4, Each((192, (w, w, 192), (w, w, w, w, 192), 192) for w in (128, 160, 160, 192)), paths=V3_B),
    reduction(((192, 320), (192, 192, 192, 192), ()), "1x1 3x3/s", "1x1 1x7 7x1 3x3/s", "max/s"),
    stage("inception", 2, (320, (384, (384, 384)), (448, 384, (384, 384)), 192), paths=V3_C),
)
V3_AUX = Aux(3, 1.0, 0.4, (block("tiles", stride=3), block("conv", 128, kernel=1), block("reach", 768), *HEAD[:1]))

V4_A = ("1x1", "1x1 3x3", "1x1 3x3 3x3", "avg 1x1")
V4_C = ("1x1", "1x1 1x3|3x1", "1x1 3x1 1x3 1x3|3x1", "avg 1x1")
V4_STAGES = (
    stage("inception", 4, (96, (64, 96), (64, 96, 96), 96), paths=V4_A),
    reduction((384, (192, 224, 256), ()), "3x3/s", "1x1 3x3 3x3/s", "max/s"),
    stage("inception", 7, (384, (192, 224, 256), (192, 192, 224, 224, 256), 128), paths=V3_B),
    reduction(((192, 192), (256, 256, 320, 320), ()), "1x1 3x3/s", "1x1 1x7 7x1 3x3/s", "max/s"),
    stage("inception", 3, (256, (384, (256, 256)), (384, 448, 512, (256, 256)), 256), paths=V4_C),
)

C8: dict[str, Any] = {"paths": ("1x1", "1x1 1x3 3x1")}
RESNET_STAGES = (
    stage("inception", 1, (96, (48, 64), (64, 96, 96), 64), deepen=False, paths=V3_A),
    stage("inception_residual", 10, (32, (32, 32), (32, 48, 64)), paths=V4_A[:3], share=0.17),
    reduction((384, (256, 256, 384), ()), "3x3/s", "1x1 3x3 3x3/s", "max/s"),
    stage("inception_residual", 20, (192, (128, 160, 192)), paths=V3_B[:2], share=0.1),
    reduction(((256, 384), (256, 288), (256, 288, 320), ()), "1x1 3x3/s", "1x1 3x3/s", "1x1 3x3 3x3/s", "max/s"),
    stage("inception_residual", 9, (192, (192, 224, 256)), **C8, share=0.2),
    stage("inception_residual", 1, (192, (192, 224, 256)), deepen=False, **C8, share=1.0, act=False),
)

ARCHS = (
    Arch("inception-v3", "inception-v3", 299, STEM, V3_STAGES, HEAD, STYLE, dropout=0.2, aux=(V3_AUX,)),
    Arch("inception-v4", "inception-v4", 299, V4_STEM, V4_STAGES, HEAD, STYLE, dropout=0.2),
    Arch("inception-resnet-v2", "inception-resnet-v2", 299, STEM, RESNET_STAGES, (block("conv", 1536, kernel=1), *HEAD),
         STYLE, dropout=0.2),
)  # fmt: skip
