"""Blocks of found networks: a cell has two inputs, what the block before it made and what that one had read."""

from kcnn.blocks.scope import Scope, Tensor


def cell(
    b: Scope,
    x: Tensor,
    *,
    pairs: tuple[tuple[str, ...], tuple[str, ...]],
    joined: tuple[str, str],
    alone: bool = False,
    skip: bool = False,
    zeros: tuple[str, ...] = (),
) -> Tensor:
    """Joins sums of two operations each, as in the paper's figures: "h:5x5 p:3x3" adds two separable convolutions.

    h is x, p what the block before has read, both as norm(1x1(act)) of the block's width; a number is an earlier sum.
    An operation is HxW, twice norm(separable convolution(act)), avg or max, 3x3 pools, or none; on h and p it has the
    block's stride. `pairs` and `joined` have a normal cell's first, then those of a cell with a stride.
    alone: whether p is x. skip: whether p is passed over behind a reduction, for what that one had as p. zeros: the
    pools, avg or max, for which zeros pad an image when they have the stride, as in other libraries.
    NASNet: Zoph et al., 2018 (https://arxiv.org/abs/1707.07012), Figure 4.
    """
    reduces = b.stride > 1
    past = x if alone else b.past[0]
    if skip and past.shape[1] != x.shape[1]:
        past = b.past[1]
    states = {"h": project(b, x, "h"), "p": past if alone and reduces else fit(b, past, x)}
    for i, pair in enumerate(pairs[reduces], 1):
        sides = [
            operate(b, states, step, f"sum{i}_{side}", zeros) for step, side in zip(pair.split(), "ab", strict=True)
        ]
        states[str(i)] = b.layers.Add(name=b.at(f"sum{i}"))(sides)
    return b.join([states[name] for name in joined[reduces].split()])


def operate(b: Scope, states: dict[str, Tensor], step: str, label: str, zeros: tuple[str, ...]) -> Tensor:
    """Returns what a step such as "h:5x5" makes of its state."""
    name, _, kind = step.partition(":")
    x, stride = states[name], 1 if name.isdigit() else b.stride
    if not kind:
        return x
    if kind in ("max", "avg"):
        padding = "same"
        if kind in zeros and stride > 1:
            around = tuple((n % 2, 1) for n in x.shape[1:3])
            x, padding = b.layers.ZeroPadding2D(around, name=b.at(f"{label}_pad"))(x), "valid"
        x = (b.max_pool if kind == "max" else b.mean_pool)(x, 3, stride, padding, label)
    else:
        for i in (1, 2):
            x = b.act(x, f"{label}_in{i}")
            x = b.bare.depthwise(x, int(kind[0]), stride if i == 1 else 1, f"{label}_depthwise{i}")
            x = b.linear.conv(x, b.width, 1, 1, f"{label}_pointwise{i}")
    return b.layers.DropPath(b.drop, name=b.at(f"{label}_drop"))(x) if b.drop else x


def project(b: Scope, x: Tensor, label: str) -> Tensor:
    """norm(1x1(act(x)))."""
    return b.linear.conv(b.act(x, f"{label}_in"), b.width, 1, 1, label)


def fit(b: Scope, p: Tensor, x: Tensor) -> Tensor:
    """p in the block's width and in the size of x: every second place of it, joined with every second one between."""
    if p.shape[1] == x.shape[1]:
        return p if p.shape[-1] == b.width else project(b, p, "p")
    p = b.act(p, "p_in")
    between = b.layers.ZeroPadding2D(((0, 1), (0, 1)), name=b.at("p2_pad"))(p)
    between = b.layers.Cropping2D(((1, 0), (1, 0)), name=b.at("p2_crop"))(between)
    halves = [
        b.bare.conv(b.max_pool(part, 1, 2, "valid", f"p{i}_places"), width, 1, 1, f"p{i}")
        for i, part, width in ((1, p, b.width // 2), (2, between, b.width - b.width // 2))
    ]
    return b.linear.norm_act(b.join(halves, "p_join"), "p")
