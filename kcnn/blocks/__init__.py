"""The vocabulary: a block is a function from a tensor (batch, height, width, channels) to the next one.

Every block is called as block(scope, x, **options). The scope makes the block's layers and knows its row: `b.width` is
the width, `b.stride` the stride. Stages repeat a block; stems and heads are blocks in a row.
"""

from collections.abc import Callable
from typing import Any

from kcnn.blocks.cells import cell
from kcnn.blocks.ends import (
    activation,
    average,
    conv,
    dense_layer,
    dropout,
    flatten,
    local_norm,
    max_pool,
    norm,
    reach,
    tiles,
)
from kcnn.blocks.inception import inception, inception_residual
from kcnn.blocks.mobile import extreme, fused, ghost, inverted, separable, separable_layer, shuffle
from kcnn.blocks.residual import basic, bottleneck, convnext, dense, plain, preact_bottleneck, rep

Block = Callable[..., Any]
BLOCKS: dict[str, Block] = {
    block.__name__: block
    for block in (
        *(plain, basic, bottleneck, preact_bottleneck, dense, rep, convnext),
        *(inverted, fused, separable, extreme, shuffle, ghost, inception, inception_residual, cell),
        *(conv, separable_layer, max_pool, norm, activation, local_norm, average, tiles, reach, flatten),
        *(dense_layer, dropout),
    )
}
