"""The studies, a row each: the claim, its paper, what is compared, and the contrasts that it says are above 0.

A network that is to be compared at equal cost is brought to the multiply-adds of the first one (`at_cost`); the page
tells what came of it. `quick` asks for the smallest networks that still mean the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kcnn.arch import Arch
from tuning.studies.arms import Arm, at_cost, multiply_adds, stack
from tuning.studies.verdicts import Contrast

Arms = dict[str, Arm]
RATE = 3e-3  # of AdamW at a batch of 32


@dataclass(frozen=True)
class Study:
    """claim: in words for a newcomer. arms: what is compared, at a resolution, with the smallest networks or not.
    equal: what all arms have the same of, to 15 %; () where the claim is about networks of different costs. flags: of
    all runs. removal: whether blocks are removed from the trained networks. flow: whether the page tells how gradients
    come back at the start. weights: whether it is about the network and the weights that the user names."""

    claim: str
    paper: str
    arms: Callable[[int, bool], Arms]
    contrasts: Callable[[bool], tuple[Contrast, ...]]
    equal: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    removal: bool = False
    flow: bool = False
    weights: bool = False


def difference(what: str, better: str, worse: str, figure: str = "val_accuracy", margin: float = 0.0) -> Contrast:
    """Of `better` minus `worse`."""
    return Contrast(what, {better: 1.0, worse: -1.0}, figure, margin)


def always(*contrasts: Contrast) -> Callable[[bool], tuple[Contrast, ...]]:
    return lambda quick: contrasts


def like(first: Arch, resolution: int) -> Callable[[Callable[[float], Arch]], Arm]:
    """A function that brings networks to the multiply-adds of the first one."""
    macs = multiply_adds(first, resolution)
    return lambda make: Arm(at_cost(make, macs, resolution))


# Depth and shortcuts


def depths(quick: bool) -> tuple[int, int, int]:
    return (1, 2, 5) if quick else (1, 3, 7)


def depth(resolution: int, quick: bool) -> Arms:
    kinds = {"plain": False, "residual": True}
    return {
        f"{kind} {6 * n + 2}": Arm(stack("basic", n, 8, identity=identity))
        for kind, identity in kinds.items() for n in depths(quick)
    }  # fmt: skip


def deeper(quick: bool) -> tuple[Contrast, ...]:
    _, middle, deep = (6 * n + 2 for n in depths(quick))
    plain, residual = ({f"{kind} {deep}": 1.0, f"{kind} {middle}": -1.0} for kind in ("plain", "residual"))
    return (
        Contrast(f"a plain network of {deep} layers fits its training images worse than one of {middle}", plain,
                 "train_loss"),
        Contrast("depth costs a plain network more than a residual one", plain | {k: -v for k, v in residual.items()},
                 "train_loss"),
    )  # fmt: skip


def paths(resolution: int, quick: bool) -> Arms:
    n = 3 if quick else 5
    return {
        "residual": Arm(stack("basic", n, 8)),
        "dense": Arm(stack("dense", n, 8, first=16)),
        "plain": Arm(stack("basic", n, 8, identity=False)),
    }


# Blocks


def bottleneck(resolution: int, quick: bool) -> Arms:
    width, n = (16, 1) if quick else (24, 2)

    def at(ratio: float) -> Callable[[float], Arch]:
        return lambda w: stack("bottleneck", n, w, ratio=1 / ratio, group_width=4, multiple=max(4, int(4 * ratio)))

    same = like(at(1)(width), resolution)
    return {"1": Arm(at(1)(width)), **{f"{ratio:g}": same(at(ratio)) for ratio in (0.5, 2, 4)}}


def linear(resolution: int, quick: bool) -> Arms:
    n = 1 if quick else 2
    return {
        "linear": Arm(stack("inverted", n, 8, expand=6)),
        "with a ReLU": Arm(stack("inverted", n, 8, expand=6, linear=False)),
    }


def inverted(resolution: int, quick: bool) -> Arms:
    n = 1 if quick else 2
    base = stack("inverted", n, 8, expand=6)
    return {"inverted": Arm(base), "classic": like(base, resolution)(lambda w: stack("bottleneck", n, w))}


def separable(resolution: int, quick: bool) -> Arms:
    width, n = (16, 1) if quick else (16, 2)
    full = stack("conv", n, width, kernel=3)
    return {
        "full": Arm(full),
        "separable, as wide": Arm(stack("separable", n, width)),
        "separable, as costly": like(full, resolution)(lambda w: stack("separable", n, w)),
    }


def cardinality(resolution: int, quick: bool) -> Arms:
    n = 1 if quick else 2
    base = stack("bottleneck", n, 32, ratio=0.5)
    return {
        "1 group": Arm(base),
        "8 groups": like(base, resolution)(lambda w: stack("bottleneck", n, w, ratio=0.5, groups=8, multiple=16)),
    }


def dense(resolution: int, quick: bool) -> Arms:
    n = 3 if quick else 5
    base = stack("dense", n, 8, first=16)
    same = like(base, resolution)
    return {"joined": Arm(base), "in a row": same(lambda w: stack("conv", n, w, kernel=3))}


def inception(resolution: int, quick: bool) -> Arms:
    n = 1 if quick else 2
    share = (0.25, (0.25, 0.5), (0.0625, 0.125), 0.125)  # of the widths: GoogLeNet's third module, roughly

    def widths(w: int) -> tuple[Any, ...]:
        return tuple(
            tuple(round(w * p) for p in part) if isinstance(part, tuple) else round(w * part) for part in share
        )

    def module(w: float) -> Arch:
        base = stack("inception", n, w, multiple=16, paths=("1x1", "1x1 3x3", "1x1 5x5", "max 1x1"))
        return replace(base, stages=tuple(replace(row, width=widths(row.width)) for row in base.stages))

    base = module(32)
    return {"branches": Arm(base), "one path": like(base, resolution)(lambda w: stack("conv", n, w, kernel=3))}


def squeeze_excite(resolution: int, quick: bool) -> Arms:
    n = 1 if quick else 2
    return {
        name: Arm(stack("bottleneck", n, 16, ratio=1.0, group_width=8, se=se)) for name, se in (("x", 0.0), ("y", 0.25))
    }


# Scaling


def multipliers(resolution: int, quick: bool) -> Arms:
    n, width = (2, 16) if quick else (4, 24)
    half = 0.5 * multiply_adds(stack("separable", n, width), resolution)
    shallow = at_cost(lambda k: stack("separable", max(1, round(k)), width), half, resolution, most=n)
    return {
        "shallower": Arm(shallow),
        "thinner": like(shallow, resolution)(lambda w: stack("separable", n, w, multiple=4)),
        "smaller images": Arm(stack("separable", n, width), {"resolution": round(resolution * 0.5**0.5)}),
    }


def compound(resolution: int, quick: bool) -> Arms:
    times = 2 if quick else 4
    width, n = 8, 1
    macs = times * multiply_adds(stack("inverted", n, width), resolution)
    side = round(resolution * times**0.5)
    return {
        "all together": Arm(
            at_cost(lambda w: stack("inverted", 2, w, multiple=4), macs, round(resolution * times**0.15)),
            {"resolution": round(resolution * times**0.15)},
        ),
        "wider": Arm(at_cost(lambda w: stack("inverted", n, w, multiple=2), macs, resolution)),
        "deeper": Arm(at_cost(lambda k: stack("inverted", max(1, round(k)), width), macs, resolution, most=16)),
        "larger images": Arm(stack("inverted", n, width), {"resolution": side}),
    }


# Training


def normalization(resolution: int, quick: bool) -> Arms:
    n = 1 if quick else 2
    return {
        f"{name}, {what}": Arm(stack("conv", n, 16, kernel=3, norm=norm), {"lr": lr})
        for name, norm in (("normalized", True), ("without", False))
        for what, lr in (("low rate", RATE / 10), ("high rate", RATE * 10))
    }


def regularized(usual: Mapping[str, Any], more: Mapping[str, Any]) -> Callable[[int, bool], Arms]:
    """The same network with and without something."""

    def arms(resolution: int, quick: bool) -> Arms:
        base = stack("basic", 1, 8 if quick else 16)
        return {"without": Arm(base, usual), "with": Arm(base, more)}

    return arms


def images_a_class(quick: bool) -> tuple[int, ...]:
    return (4, 16) if quick else (4, 16, 64)


def transfer(resolution: int, quick: bool) -> Arms:
    """All see as many images in all, so that all take as many steps."""
    seen = 256 if quick else 512
    return {
        f"{name}, {count}": Arm(None, {"images_per_class": count, "epochs": seen // count, **flags})
        for count in images_a_class(quick)
        for name, flags in (("weights", {"lr": RATE / 3}), ("random", {"weights": None, "lr": RATE}))
    }


def fewer(quick: bool) -> tuple[Contrast, ...]:
    few, *_, many = images_a_class(quick)
    gain = {f"weights, {few}": 1.0, f"random, {few}": -1.0}
    return (
        Contrast(f"with {few} images a class a network that starts from the weights is better", gain),
        Contrast(f"the weights help more with {few} images a class than with {many}",
                 gain | {f"weights, {many}": -1.0, f"random, {many}": 1.0}),
    )  # fmt: skip


HE = "He et al., 2015 (https://arxiv.org/abs/1512.03385)"
HOWARD = "Howard et al., 2017 (https://arxiv.org/abs/1704.04861)"
SANDLER = "Sandler et al., 2018 (https://arxiv.org/abs/1801.04381)"

STUDIES: dict[str, Study] = {
    "depth": Study(
        "A plain network learns worse when it gets too deep, even on the images that it is trained on; with shortcuts "
        "around its blocks it does not.",
        f"{HE}, figure 6", depth, deeper, flow=True,
    ),
    "residual-paths": Study(
        "A trained residual network still works when one of its blocks is taken out, as it is many short networks in "
        "one; a plain network does not.",
        "Veit et al., 2016 (https://arxiv.org/abs/1605.06431), figure 3", paths,
        always(
            difference("a residual network without a block keeps more of its accuracy than a plain one", "residual",
                       "plain", "kept"),
            difference("so does a densely connected one", "dense", "plain", "kept"),
        ),
        removal=True,
    ),
    "bottleneck": Study(
        "Blocks should not squeeze their channels: at equal cost a bottleneck ratio of 1 is best.",
        "Radosavovic et al., 2020 (https://arxiv.org/abs/2003.13678), section 4", bottleneck,
        always(*(difference(f"ratio 1 is better than {r}", "1", r) for r in ("0.5", "2", "4"))), equal=("macs",),
    ),
    "linear-bottleneck": Study(
        "A ReLU on a narrow layer destroys information, so that layer should be linear.",
        f"{SANDLER}, figure 6", linear,
        always(difference("linear projections are better than activated ones", "linear", "with a ReLU")),
        equal=("macs",),
    ),
    "inverted": Study(
        "Shortcuts between narrow layers, with wide ones in between, are better than the other way round at equal "
        "cost.",
        f"{SANDLER}, section 3.3", inverted,
        always(difference("inverted blocks are better than classic bottlenecks", "inverted", "classic")),
        equal=("macs",),
    ),
    "separable": Study(
        "A convolution in two steps, each channel alone and then all of one place, is worth more than a full one of "
        "the same cost, and as wide it loses little.",
        f"{HOWARD}, table 4", separable,
        always(
            difference("at equal cost separable convolutions are better", "separable, as costly", "full"),
            difference("as wide, they lose less than 3 points", "separable, as wide", "full", margin=0.03),
        ),
    ),
    "multipliers": Study(
        "To halve a network's cost, make it thinner rather than shallower.",
        f"{HOWARD}, table 5", multipliers,
        always(difference("the thinner network is better than the shallower", "thinner", "shallower")), equal=("macs",),
    ),
    "compound": Study(
        "To make a network larger, scale width, depth and image size together rather than one alone.",
        "Tan and Le, 2019 (https://arxiv.org/abs/1905.11946), figure 8", compound,
        always(*(difference(f"all together is better than {alone}", "all together", alone)
                 for alone in ("wider", "deeper", "larger images"))), equal=("macs",),
    ),
    "cardinality": Study(
        "At equal cost, more groups in a block's convolution are better than more channels.",
        "Xie et al., 2017 (https://arxiv.org/abs/1611.05431), table 3", cardinality,
        always(difference("8 groups are better than 1", "8 groups", "1 group")), equal=("macs",),
    ),
    "dense": Study(
        "Layers that see all features before them need fewer of their own: dense connections are better at equal cost.",
        "Huang et al., 2017 (https://arxiv.org/abs/1608.06993), figure 3", dense,
        always(difference("joined layers are better than layers in a row", "joined", "in a row")), equal=("macs",),
    ),
    "inception": Study(
        "Branches with kernels of several sizes are better than one path of the same cost.",
        "Szegedy et al., 2014 (https://arxiv.org/abs/1409.4842), section 4", inception,
        always(difference("branches are better than one path", "branches", "one path")), equal=("macs",),
    ),
    "squeeze-excite": Study(
        "Weighing the channels by what the whole image shows makes a network better at hardly any cost.",
        "Hu et al., 2018 (https://arxiv.org/abs/1709.01507), table 2", squeeze_excite,
        always(difference("with squeeze-and-excite it is better than without", "y", "x")), equal=("macs",),
    ),
    "normalization": Study(
        "Batch normalization allows higher learning rates.",
        "Ioffe and Szegedy, 2015 (https://arxiv.org/abs/1502.03167), section 4.2", normalization,
        always(
            difference("at a high rate the normalized network is better", "normalized, high rate",
                       "without, high rate"),
            Contrast("a high rate costs a network without normalization more than a normalized one",
                     {"normalized, high rate": 1.0, "normalized, low rate": -1.0, "without, high rate": -1.0,
                      "without, low rate": 1.0}),
        ),
    ),
    "dropout": Study(
        "Dropout narrows the gap between training and validation images.",
        "Srivastava et al., 2014 (https://jmlr.org/papers/v15/srivastava14a.html), section 6", 
        regularized({}, {"drop": 0.5}),
        always(difference("without dropout the gap in loss is larger", "without", "with", "gap")), flags={"epochs": 12},
    ),
    "augmentation": Study(
        "Random crops make a network better on images that it has not seen.",
        "Krizhevsky et al., 2012 (https://doi.org/10.1145/3065386), section 4.1",
        regularized({"crop_scale": 1.0}, {"crop_scale": 0.6}),
        always(difference("with random crops validation accuracy is higher", "with", "without")), flags={"epochs": 12},
    ),
    "label-smoothing": Study(
        "Labels that are a little less than certain make a network better.",
        "Szegedy et al., 2016 (https://arxiv.org/abs/1512.00567), section 7",
        regularized({}, {"label_smoothing": 0.1}),
        always(difference("with smoothed labels validation accuracy is higher", "with", "without")),
    ),
    "ema": Study(
        "An average of the weights of many steps is better than the last weights.",
        "Polyak and Juditsky, 1992 (https://doi.org/10.1137/0330046); Tan and Le, 2019, section 5",
        regularized({}, {"ema": 0.99}),
        always(difference("averaged weights have a higher validation accuracy", "with", "without")),
        flags={"schedule": "constant"},
    ),
    "transfer": Study(
        "Weights that were learned on other images make a network better, and the more so the fewer images it has.",
        "Kornblith et al., 2019 (https://arxiv.org/abs/1805.08974)",
        transfer, fewer, weights=True,
    ),
}  # fmt: skip
