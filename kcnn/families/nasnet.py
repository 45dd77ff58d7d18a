"""NASNet-A: Zoph et al., 2018 (https://arxiv.org/abs/1707.07012), Figure 4 and appendix A; what these leave open is
as in the authors' code (https://github.com/tensorflow/models/tree/master/research/slim/nets/nasnet).
"""

from typing import Any

from kcnn.arch import Arch, Style, block, stage

STYLE = Style(padding="same", bn_epsilon=1e-3, bn_momentum=0.9997, mean=(127.5,) * 3, std=(127.5,) * 3)
CELL: dict[str, Any] = {
    "pairs": (
        ("h:5x5 p:3x3", "p:5x5 p:3x3", "h:avg p", "p:avg p:avg", "h:3x3 h"),
        ("h:5x5 p:7x7", "h:max p:7x7", "h:avg p:5x5", "1:avg 2", "1:3x3 h:max"),
    ),
    "joined": ("p 1 2 3 4 5", "2 3 4 5"),
}
HEAD = (block("activation"), block("average"), block("dropout"))


def nasnet(size: str, resolution: int, stem: int, width: int, depth: int, drop_path: float, **options: Any) -> Arch:
    """width: of the cells of the first stage. depth: normal cells of a stage; reductions begin the second and third."""
    rows = (
        block("conv", stem, 2, kernel=3, padding="valid", act=False),
        block("cell", width // 4, 2, alone=True, **CELL),
        block("cell", width // 2, 2, **CELL),
    )
    stages = (
        stage("cell", depth, width, **CELL),
        stage("cell", depth + 1, 2 * width, 2, **CELL, **options),
        stage("cell", depth + 1, 4 * width, 2, **CELL, **options),
    )
    return Arch(f"nasnet-{size}", "nasnet", resolution, rows, stages, HEAD, STYLE, dropout=0.5, drop_path=drop_path)


ARCHS = (nasnet("mobile", 224, 32, 44, 4, 0.0), nasnet("large", 331, 96, 168, 6, 0.3, skip=True))
