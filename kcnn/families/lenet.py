"""LeNet-5: LeCun et al., 1998 (https://doi.org/10.1109/5.726791), Figure 2, as it is built today.

Means are taken without weights, each map of the second convolution sees all of the first one's, and the classifier
is a linear one: on 32x32 pixels of one channel and ten classes these are 61,706 parameters (the paper's, with sparse
connections, were 60,000). On 28x28 pixels, without the paper's margin, 44,426. Pixels go in as -0.1 to 1.175.
"""

from kcnn.arch import Arch, Style, block, stage

STYLE = Style(padding="valid", norm=None, activation="tanh", mean=(20.0,) * 3, std=(200.0,) * 3)
MEAN = block("tiles", stride=2, kernel=2)
ARCHS = (
    Arch("lenet-5", "lenet", 32, (block("conv", 6, kernel=5), MEAN), (stage("plain", 1, 16, kernel=5),),
         (MEAN, block("flatten"), block("dense_layer", 120), block("dense_layer", 84)), STYLE, small=0),
)  # fmt: skip
