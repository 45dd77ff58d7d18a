"""GoogLeNet: Szegedy et al., 2015 (https://arxiv.org/abs/1409.4842), Table 1: with 5x5 paths and no batch norm.

Padding, local response normalization and the mean, which the table leaves open, are those of Caffe's bvlc_googlenet.
Caffe does not divide by a deviation; without batch norm, He's initialization needs it.
"""

from kcnn.arch import Arch, Aux, Each, Style, block, stage

STYLE = Style(norm=None, mean=(123.0, 117.0, 104.0), std=(58.0, 57.0, 57.0))
PATHS = ("1x1", "1x1 3x3", "1x1 5x5", "max 1x1")
STEM = (
    block("conv", 64, 2, kernel=7),
    block("max_pool", stride=2, kernel=3, padding="same"),
    block("local_norm"),
    block("conv", 64, kernel=1),
    block("conv", 192, kernel=3),
    block("local_norm"),
    block("max_pool", stride=2, kernel=3, padding="same"),
)
#            1x1,  3x3,       5x5,    pool
ROWS = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}
STAGES = tuple(
    stage("inception", len(names), Each(ROWS[name] for name in names), stride, paths=PATHS)
    for names, stride in ((("3a", "3b"), 1), (("4a", "4b", "4c", "4d", "4e"), 2), (("5a", "5b"), 2))
)
HEAD = (block("average"), block("dropout"))
AUX_HEAD = (
    block("tiles", stride=3),
    block("conv", 128, kernel=1),
    block("flatten"),
    block("dense_layer", 1024),
    block("dropout", rate=0.7),
)
AUX = (Aux(2, 1 / 5, 0.3, AUX_HEAD), Aux(2, 4 / 5, 0.3, AUX_HEAD))  # after 4a and 4d

ARCHS = (Arch("googlenet", "googlenet", 224, STEM, STAGES, HEAD, STYLE, dropout=0.4, aux=AUX),)
