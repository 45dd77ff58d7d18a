"""Draws the pictures of docs/concepts.md into docs/pictures.

python docs/concepts.py               all that need no training
python docs/concepts.py STUDY-DIR...  those of finished studies, too: the folders that `kcnn study` wrote
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import kcnn
from kcnn.drawing import Drawing, distinct, svg

PLACE = Path(__file__).parent / "pictures"
# The network whose block shows an idea, and which of its kinds of blocks.
BLOCKS = {
    "skip": ("resnet-18", 0), "bottleneck": ("resnet-50", 0), "inverted": ("mobilenet-v2", 1),
    "inception": ("googlenet", 0), "separable": ("mobilenet-v1", 0), "grouped": ("resnext-50-32x4d", 0),
    "dense": ("densenet-121", 0),
}  # fmt: skip


def blocks() -> dict[str, Any]:
    return {
        name: Drawing(svg(arch, distinct(kcnn.get(arch))[which : which + 1])) for name, (arch, which) in BLOCKS.items()
    }


def compound() -> Figure:
    """Depth, width and resolution of EfficientNet b0 to b7, relative to b0, over their cost."""
    archs = [kcnn.get(f"efficientnet-b{i}") for i in range(8)]
    macs = [kcnn.facts(arch).macs for arch in archs]
    figure, axes = picture("multiply-adds", "relative to b0")
    for what, of in (
        ("depth (blocks)", lambda a: sum(s.depth for s in a.stages)),
        ("width (last stage)", lambda a: a.stages[-1].width),
        ("resolution (pixels)", lambda a: a.resolution),
    ):  # fmt: skip
        axes.plot(macs, [of(arch) / of(archs[0]) for arch in archs], "o-", label=what)
    axes.set_xscale("log")
    axes.legend()
    return figure


def space() -> Figure:
    """Widths of some RegNets over their blocks."""
    figure, axes = picture("block", "width (channels)")
    for name in ("regnety-400mf", "regnety-1.6gf", "regnety-8.0gf"):
        widths = [s.width for s in kcnn.get(name).stages for _ in range(s.depth)]
        axes.step(range(1, len(widths) + 1), widths, where="mid", label=name)
    axes.set_yscale("log", base=2)
    axes.legend(loc="lower right")
    return figure


def field() -> Figure:
    """The receptive field at the end of each stage."""
    figure, axes = picture("stage", "receptive field (pixels)")
    for name in ("vgg-16", "resnet-50", "mobilenet-v2", "densenet-121"):
        found = [s.receptive_field for s in kcnn.facts(name).stages if s.name.startswith("stage")]
        axes.plot(range(1, len(found) + 1), found, "o-", label=name)
    axes.axhline(224, color="grey", linewidth=0.8)
    axes.set_yscale("log", base=2)
    axes.legend()
    return figure


def roof() -> Figure:
    """Multiply-adds of each convolution against the bytes that it moves, of a batch of 16."""
    figure, axes = picture("bytes moved", "multiply-adds")
    for name in ("resnet-50", "mobilenet-v2"):
        facts = kcnn.facts(name)
        layers = [layer for layer in facts.layers if layer.macs]
        shapes = facts.graph.shapes
        tensors = [sum(math.prod(shapes[i]) for i in layer.inputs + layer.outputs) for layer in layers]
        moved = [4 * (16 * numbers + layer.params) for numbers, layer in zip(tensors, layers, strict=True)]
        axes.scatter(moved, [16 * layer.macs for layer in layers], s=14, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend()
    return figure


def gradient() -> Figure:
    """The norm of the loss's gradient at the end of each stage, at random weights, of plain-34 and resnet-34."""
    import keras
    import numpy as np

    from trainers.lab.gradients import gradients

    figure, axes = picture("stage", "norm of the gradient, relative to the last stage")
    images = np.random.default_rng(0).uniform(0, 255, (16, 64, 64, 3)).astype("float32")
    for name in ("plain-34", "resnet-34"):
        keras.utils.set_random_seed(0)
        found = gradients(kcnn.build(name, 10, resolution=64), [(images, np.arange(16) % 10)])
        norms = [value for stage, value in found.stages.items() if stage.startswith("stage")]
        axes.plot(range(1, len(norms) + 1), [n / norms[-1] for n in norms], "o-", label=name)
    axes.set_yscale("log")
    axes.legend()
    return figure


def picture(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def studied(folder: Path) -> dict[str, Figure]:
    from tuning.pages.study import picture as of_study

    result = json.loads((folder / "summary.json").read_text())
    return {result["study"]: of_study(result)}


def main() -> None:
    PLACE.mkdir(exist_ok=True)
    made = blocks() | {f.__name__: f() for f in (compound, space, field, roof, gradient)}
    for folder in map(Path, sys.argv[1:]):
        made |= studied(folder)
    for name, drawn in made.items():
        if isinstance(drawn, Drawing):
            (PLACE / f"{name}.svg").write_text(drawn)
        else:
            drawn.savefig(PLACE / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
