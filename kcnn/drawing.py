"""The blocks of a network as a picture: one of each kind, drawn from the outline that its facts are read off."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kcnn.arch import Arch
from kcnn.blocks.outline import Tensor
from kcnn.builder import draw as outlined
from kcnn.families import get

BOX, LINE, GAP, ROOM = 168, 15, 22, 24  # widths, heights and distances, in pixels
STYLE = (
    "text{font:12px system-ui,sans-serif;text-anchor:middle;fill:#222}.title{font-weight:600}"
    "rect{fill:#eef3fb;stroke:#5b7db1}.in{fill:#fff;stroke:#999}.join{fill:#fdf0dc;stroke:#c8862b}"
    "path{fill:none;stroke:#666;stroke-width:1.3}"
)
JOINS = ("Add", "Multiply", "Concatenate")
# What is written into the step that it follows.
FOLLOWING = ("BatchNormalization", "LayerNormalization", "GlobalResponseNormalization", "LayerScale", "Activation",
             "DropPath", "Rescaling")  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A block's steps. title: of which stages it is, and how many blocks they have, a line each. nodes: for each step
    the lines that tell it, with what follows on it alone (normalization, activation); the first is what comes from
    before. edges: from which step to which. joins: the steps that bring paths together."""

    title: tuple[str, ...]
    nodes: tuple[tuple[str, ...], ...]
    edges: tuple[tuple[int, int], ...]
    joins: frozenset[int]


class Drawing(str):
    """An SVG, which a notebook shows and `write` or `Path.write_text` keeps."""

    def _repr_svg_(self) -> str:
        return str(self)


def draw(arch: Arch | str, classes: int = 1000) -> Drawing:
    """The blocks of a network as an SVG picture: of each stage its second block, or its only one, where it is no
    repetition of the stage before. Raises InputError for an unknown name."""
    arch = get(arch) if isinstance(arch, str) else arch
    return Drawing(svg(arch.name, distinct(arch, classes)))


def distinct(arch: Arch, classes: int = 1000) -> list[Block]:
    """One block of each kind, in the order of the stages. Blocks that differ in their widths alone are of one kind."""
    tensors = outlined(arch, classes).tensors
    found: dict[Any, tuple[Block, dict[int, int]]] = {}  # with the depths of its stages
    for i, stage in enumerate(arch.stages, 1):
        block = block_of(tensors, f"stage{i}_block{min(2, stage.depth)}_")
        if block:
            plain = tuple(tuple(re.sub(r"\b\d+\b(?!x)", "", line) for line in node) for node in block.nodes)
            found.setdefault((plain, block.edges), (block, {}))[1][i] = stage.depth
    return [replace(block, title=titled(depths)) for block, depths in found.values()]


def titled(depths: dict[int, int]) -> tuple[str, str]:
    """ "stages 2, 3" and "4, 6 blocks", of the blocks by stage."""
    several = f"stage{'s' * (len(depths) > 1)} {', '.join(map(str, depths))}"
    return several, f"{', '.join(map(str, depths.values()))} block{'s' * (set(depths.values()) != {1})}"


def block_of(tensors: Sequence[Tensor], prefix: str) -> Block | None:
    """The block whose layers' names begin so."""
    node: dict[Tensor, int] = {}  # the step that each tensor in the block comes out of
    labels: list[list[str]] = [["from before"]]
    edges: list[tuple[int, int]] = []
    joins: set[int] = set()
    for x in tensors:
        if x.layer is None or not x.layer.name.startswith(prefix):
            continue
        sources = list(dict.fromkeys(node.get(y, 0) for y in x.inputs))
        kind, said = type(x.layer).__name__, words(x)
        follows = kind in FOLLOWING and sources != [0]
        if kind == "ZeroPadding2D" or not said:
            node[x] = sources[0]
        elif follows:
            labels[sources[0]].append(said)
            node[x] = sources[0]
        else:
            labels.append([said])
            node[x] = len(labels) - 1
            edges += [(source, node[x]) for source in sources]
            joins |= {node[x]} if kind in JOINS else set()
    return Block((), tuple(map(tuple, labels)), tuple(edges), frozenset(joins)) if edges else None


def words(x: Tensor) -> str:
    """What the layer of a tensor does, in a few words."""
    layer: Any = x.layer
    width = x.shape[-1]
    sides = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", ())
    size = "x".join(map(str, sides if isinstance(sides, tuple) else (sides, sides)))
    groups = f" in {layer.groups} groups" if getattr(layer, "groups", 1) > 1 else ""
    return {
        "Conv2D": f"{size} conv{groups} to {width}",
        "DepthwiseConv2D": f"{size} depthwise of {width}",
        "Dense": f"dense to {width}",
        "BatchNormalization": "norm",
        "LayerNormalization": "norm of each place",
        "GlobalResponseNormalization": "norm of responses",
        "LayerScale": "times one number a channel",
        "Slice": f"{width} of the channels",
        "Shuffle": "shuffle",
        "Cropping2D": "crop",
        "Activation": str(getattr(layer, "activation", "")).replace("_", " "),
        "MaxPooling2D": f"{size} max",
        "AveragePooling2D": f"{size} mean",
        "GlobalAveragePooling2D": "mean of all places",
        "Add": "+",
        "Multiply": "times",
        "Concatenate": f"join to {width}",
        "Rescaling": f"times {getattr(layer, 'scale', 1)}",
        "DropPath": "drop path",
        "Dropout": "",
    }.get(type(layer).__name__, type(layer).__name__)


def svg(name: str, blocks: Sequence[Block]) -> str:
    """The blocks side by side."""
    parts, left, height = [], float(ROOM), 0.0
    for block in blocks:
        drawn, width, tall = column(block, left)
        parts.append(drawn)
        left, height = left + width + ROOM, max(height, tall)
    label = html.escape(f"the blocks of {name}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left:g} {height + ROOM:g}" width="{left:g}" role="img" '
        f'aria-label="{label}"><style>{STYLE}</style><defs><marker id="to" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8" style="fill:#666"/></marker></defs>'
        f"{''.join(parts)}</svg>"
    )


def columns(block: Block) -> list[float]:
    """The column of each step: a path goes straight down, and what joins paths stands in their middle."""
    sources: dict[int, list[int]] = {}
    for a, b in block.edges:
        sources.setdefault(b, []).append(a)
    found, taken, count = [0.0] * len(block.nodes), {0}, 0
    for n in range(1, len(block.nodes)):
        if n in block.joins:
            found[n] = sum(found[a] for a in sources[n]) / len(sources[n])
        elif sources[n][0] in taken:
            found[n], count = float(count), count + 1
        else:
            found[n] = found[sources[n][0]]
            taken.add(sources[n][0])
    found[0] = max(0, count - 1) / 2
    ends = [found[a] for a in sources[max(sources)] if a]  # a shortcut from before the block stands in no column
    if max(sources) in block.joins and ends:
        found[max(sources)] = sum(ends) / len(ends)
    return found


def column(block: Block, left: float) -> tuple[str, float, float]:
    """A block as SVG, with its width and height. A step stands below all that lead to it."""
    level, across = [0] * len(block.nodes), columns(block)
    for a, b in block.edges:  # in the order of the steps
        level[b] = max(level[b], level[a] + 1)

    def blocked(a: int, b: int) -> bool:
        """Whether a step lies right below a, on the way down to b."""
        return any(level[a] < level[n] < level[b] and abs(across[n] - across[a]) < 0.9 for n in range(len(level)))

    skips = [edge for edge in block.edges if blocked(*edge)]
    width = (max(across) + 1) * (BOX + GAP) - GAP + (34 if skips else 0)
    y, boxes, place = 60.0, [], {}
    for k in range(max(level) + 1):
        row = [n for n, at in enumerate(level) if at == k]
        for n in row:
            x, own = left + BOX / 2 + across[n] * (BOX + GAP), len(block.nodes[n]) * LINE + 10
            place[n] = (x, y, own)
            kind = ' class="in"' if n == 0 else ' class="join"' if n in block.joins else ""
            boxes.append(f'<rect{kind} x="{x - BOX / 2:g}" y="{y:g}" width="{BOX}" height="{own}" rx="5"/>')
            for j, line in enumerate(block.nodes[n]):
                boxes.append(f'<text x="{x:g}" y="{y + 17 + j * LINE:g}">{html.escape(line)}</text>')
        y += max(len(block.nodes[n]) for n in row) * LINE + 10 + GAP
    lines = []
    for a, b in block.edges:
        (x0, y0, tall), (x1, y1, own) = place[a], place[b]
        if (a, b) in skips:  # around what lies between
            out, begin, end, x = max(x0, x1) + BOX / 2 + 30, y0 + tall / 2, y1 + own / 2, x1 + BOX / 2
            path = f"M{x0 + BOX / 2:g} {begin:g}C{out:g} {begin:g} {out:g} {end:g} {x:g} {end:g}"
        else:
            path = f"M{x0:g} {y0 + tall:g}V{max(y0 + tall, y1 - GAP):g}L{x1:g} {y1:g}"
        lines.append(f'<path d="{path}" marker-end="url(#to)"/>')
    x = left + (max(across) * (BOX + GAP) + BOX) / 2
    titles = [
        f'<text class="title" x="{x:g}" y="{24 + 16 * k}">{html.escape(t)}</text>' for k, t in enumerate(block.title)
    ]
    return "".join(titles + lines + boxes), width, y
