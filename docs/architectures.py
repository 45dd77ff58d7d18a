"""Writes the gallery: docs/architectures.md, all networks with their facts and a block of each family, drawn from its
graph; and kcnn/families/costs.csv, the same rows as `kcnn info --list` shows them.

python docs/architectures.py            writes both files
python docs/architectures.py --check    leaves with 1 if one of them is not current
"""

import csv
import io
import json
import sys
from pathlib import Path

import kcnn
from kcnn.builder import draw
from kcnn.drawing import block_of
from kcnn.families import FAMILIES, costs

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


def files() -> dict[Path, str]:
    """The text of each file."""
    archs = [arch for family in FAMILIES for arch in family.ARCHS]
    rows = [row(arch) for arch in archs]
    first = {arch.family: arch for arch in reversed(archs)}  # of each family
    drawings = [drawing(arch) for arch in archs if first[arch.family] is arch]
    blocks = "\n## A block of each family\n\nNorm and activation stand with the layer that they follow.\n"
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([costs.Cost._fields, *rows])
    page = HEAD + "\n".join(map(line, rows)) + "\n" + blocks + "".join(drawings)
    return {PAGE: page, costs.FILE: table.getvalue()}


def row(arch: kcnn.Arch) -> costs.Cost:
    facts = kcnn.facts(arch)
    top1, source = published().get((arch.name, arch.resolution), (None, ""))
    return costs.Cost(
        arch.name, arch.family, arch.resolution, facts.params, facts.macs, facts.activations, facts.receptive_field,
        top1, source,
    )  # fmt: skip


def line(cost: costs.Cost) -> str:
    millions = " | ".join(f"{x / 1e6:,.2f}" for x in (cost.params, cost.macs, cost.activations))
    top1 = "" if cost.top1 is None else cost.top1
    return f"| {cost.name} | {cost.resolution} | {millions} | {cost.receptive_field} | {top1} | {cost.source} |"


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
    stale = []
    for file, text in files().items():
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(file.name)
            if "--check" not in sys.argv:
                file.write_text(text, encoding="utf-8")
    if "--check" in sys.argv:
        said = " and ".join(stale)
        print(f"out of date: {said}; python docs/architectures.py writes it" if stale else "the gallery is current")
        sys.exit(bool(stale))


if __name__ == "__main__":
    main()
