"""Writes docs/architectures.md: all networks with their facts, and a block of each family, drawn from its graph.

python docs/architectures.py            writes the file
python docs/architectures.py --check    leaves with 1 if it is not current
"""

import json
import sys
from pathlib import Path

import kcnn
from kcnn.builder import draw
from kcnn.drawing import block_of
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
    block = block_of(draw(arch).tensors, f"{name}_")
    assert block
    lines = [f'    n{k}["{", ".join(node)}"]' for k, node in enumerate(block.nodes)]
    lines += [f"    n{a} --> n{b}" for a, b in block.edges]
    return f"\n### {arch.family}\n\n`{name}` of {arch.name}\n\n```mermaid\ngraph TD\n" + "\n".join(lines) + "\n```\n"


def main() -> None:
    text = page()
    if "--check" in sys.argv:
        current = PAGE.exists() and PAGE.read_text() == text
        print(f"{PAGE} is {'current' if current else 'out of date: python docs/architectures.py writes it'}")
        sys.exit(not current)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
