"""VGG: Simonyan and Zisserman, 2014 (https://arxiv.org/abs/1409.1556), Table 1."""

from kcnn.arch import Arch, Style, block, stage

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
HEAD = (
    block("max_pool", stride=2, kernel=2),
    block("flatten"),
    block("dense_layer", 4096),
    block("dropout"),
    block("dense_layer", 4096),
    block("dropout"),
)


def vgg(layers: int, norm: bool) -> Arch:
    stages = tuple(
        stage("plain", d, w, min(i, 1) + 1) for i, (d, w) in enumerate(zip(DEPTHS[layers], WIDTHS, strict=True))
    )
    name = f"vgg-{layers}{'-bn' if norm else ''}"
    return Arch(name, "vgg", 224, (), stages, HEAD, Style(norm="batch" if norm else None, bias=True), dropout=0.5)


ARCHS = tuple(vgg(layers, norm) for layers in DEPTHS for norm in (False, True))
