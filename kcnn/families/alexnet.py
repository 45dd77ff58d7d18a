"""AlexNet in one column: Krizhevsky, 2014 (https://arxiv.org/abs/1404.5997), without local response normalization.

The rows are torchvision's. The network of 2012 had two columns on two GPUs, and 96 and 256 channels in the first two
convolutions.
"""

from kcnn.arch import Arch, Each, Style, block, stage

ARCHS = (
    Arch("alexnet", "alexnet", 224,
         (block("conv", 64, 4, kernel=11, padding=2),),
         (stage("plain", 1, 192, 2, kernel=5, pool=3), stage("plain", 3, Each((384, 256, 256)), 2, pool=3)),
         (block("max_pool", stride=2, padding="valid"), block("flatten"), block("dropout"), block("dense_layer", 4096),
          block("dropout"), block("dense_layer", 4096)),
         Style(norm=None), dropout=0.5),
)  # fmt: skip
