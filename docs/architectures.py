"""Writes docs/architectures.md: all networks with their facts, and a block of each family, drawn from its graph.

python docs/architectures.py            writes the file
python docs/architectures.py --check    leaves with 1 if it is not current
"""

import json
import sys
from pathlib import Path

import kcnn
from kcnn.analysis.graph import LayerFacts
from kcnn.builder import abstract, build
from kcnn.families import FAMILIES

HERE = Path(__file__).parent
PAGE = HERE / "architectures.md"
REFERENCE = HERE.parent / "tests" / "kcnn" / "architectures.json"
HEAD = """# Architectures

All networks, by family. Written by `python docs/architectures.py`: do not edit.

Parameters are the trainable ones; multiply-adds those of convolutions and dense layers, biases not counted, for one
image of the given size; activations the output elements of all convolutions; the receptive field is theoretical, in
pixels. Top-1 is the accuracy on ImageNet that the source printed, in percent: nothing was trained here.

| network | pixels | parameters, M | multiply-adds, M | activations, M | receptive field | top-1 | source |
|---|--:|--:|--:|--:|--:|--:|---|
"""


def page() -> str:
    rows, drawings, drawn = [], [], set()
    archs = [arch for family in FAMILIES for arch in family.ARCHS]
    for arch in archs:
        rows.append(row(arch))
        if arch.family not in drawn:
            drawn.add(arch.family)
            drawings.append(drawing(arch))
    blocks = "\n## A block of each family\n\nNorm and activation stand with the layer that they follow.\n"
    return HEAD + "\n".join(rows) + "\n" + blocks + "".join(drawings)


def row(arch: kcnn.Arch) -> str:
    facts = kcnn.facts(arch)
    millions = " | ".join(f"{x / 1e6:,.2f}" for x in (facts.params, facts.macs, facts.activations))
    top1, source = published().get((arch.name, arch.resolution), ("", ""))
    return f"| {arch.name} | {arch.resolution} | {millions} | {facts.receptive_field} | {top1} | {source} |"


def published() -> dict[tuple[str, int], tuple[float, str]]:
    found = json.loads(REFERENCE.read_text())
    return {
        (r["arch"], r["resolution"]): (r["top1"], r["top1_source"]) for r in found if "top1" in r and r["width"] == 1
    }


def drawing(arch: kcnn.Arch) -> str:
    """A block without a stride, from the first stage that has one, as a mermaid graph."""
    place = next(((i, 2) for i, s in enumerate(arch.stages, 1) if s.depth > 1), (1, 1))
    name = "stage{}_block{}".format(*place)
    with abstract():
        model = build(arch)
    calls = [c for c in kcnn.facts(model).layers if c.name.startswith(f"{name}_")]
    node: dict[int, str] = {}  # of each tensor in the block
    labels: dict[str, list[str]] = {"input": ["from before"]}
    edges = []
    for call in calls:
        sources = list(dict.fromkeys(node.get(n, "input") for n in call.inputs))
        follows = call.kind in ("BatchNormalization", "Activation") and sources != ["input"]
        if follows:
            labels[sources[0]].append(words(model, call))
        elif call.kind == "ZeroPadding2D":
            pass
        else:
            labels[call.name] = [words(model, call)]
            edges += [(source, call.name) for source in sources]
            sources = [call.name]
        node.update(dict.fromkeys(call.outputs, sources[0]))
    ids = {label: f"n{k}" for k, label in enumerate(labels)}
    lines = [f'    {ids[key]}["{", ".join(label)}"]' for key, label in labels.items()]
    lines += [f"    {ids[a]} --> {ids[b]}" for a, b in edges]
    return f"\n### {arch.family}\n\n`{name}` of {arch.name}\n\n```mermaid\ngraph TD\n" + "\n".join(lines) + "\n```\n"


def words(model: "kcnn.builder.keras.Model", call: LayerFacts) -> str:
    """What a layer does, in a few words."""
    layer = model.get_layer(call.name)
    size = "x".join(map(str, getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", ())))
    groups = f" in {layer.groups} groups" if getattr(layer, "groups", 1) > 1 else ""
    return {
        "Conv2D": f"{size} conv{groups} to {call.shape[-1]}",
        "DepthwiseConv2D": f"{size} depthwise of {call.shape[-1]}",
        "BatchNormalization": "norm",
        "Activation": getattr(getattr(layer, "activation", None), "__name__", "").replace("_", " "),
        "MaxPooling2D": f"{size} max",
        "AveragePooling2D": f"{size} mean",
        "GlobalAveragePooling2D": "mean of all places",
        "Add": "+",
        "Multiply": "times",
        "Concatenate": f"join to {call.shape[-1]}",
        "Rescaling": f"times {getattr(layer, 'scale', 1)}",
        "DropPath": "drop path",
    }.get(call.kind, call.kind)


def main() -> None:
    text = page()
    if "--check" in sys.argv:
        current = PAGE.exists() and PAGE.read_text() == text
        print(f"{PAGE} is {'current' if current else 'out of date: python docs/architectures.py writes it'}")
        sys.exit(not current)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
