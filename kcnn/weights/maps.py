"""How another library names the layers of a network: a small table of rules a family, from our names to theirs."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

NAME = re.compile(r"(stem|stage|head)(\d+)_(?:block(\d+)_)?(.+)")


NORMS = ("_bn", "_ln")


class Count(int):
    """A number from 1 in a template: {b} is 2, {b:-1} is 1, {b:*3+1} is 7, {b:a} is "b"."""

    def __format__(self, spec: str) -> str:
        if re.fullmatch("[a-z]", spec):
            return chr(ord(spec) + self - 1)
        times, plus = re.fullmatch(r"(?:\*(\d+))?([+-]\d+)?", spec).groups()  # type: ignore[union-attr]
        return str(int(self) * int(times or 1) + int(plus or 0))


Template = str | Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Names:
    """The rules of one family in one library.

    rules: from the label of a layer in its block (or the whole name of one in stem or head), a regular expression, to
    their name of the convolution and, after a space, of its normalization. "stage1_" in front makes a rule for one
    stage. block: what stands in front of all names of a block, unless they begin with "/". pair: their names of a
    convolution and its norm, where a rule gives one name for both. prefix: a pattern of what all their names begin with
    where that differs by the size of the network; the rules are without it.
    Templates hold the stage s and the block b of a layer, the block's running number n, all from 1; the number of
    stages S and of blocks N; the place of a convolution in its block, c, and with a squeeze-and-excite counted as one,
    k, both from 0; the rank r of a convolution in the network, from 0; the groups of the expression; and `tail`, which
    is ".0" for the first step of a path and empty where that is its only one; `joined`, whether a cell's second input
    is made of two halves.
    """

    rules: Mapping[str, Template]
    block: Template | tuple[str, ...] = ""
    pair: str = ""
    logits: str = "fc"
    prefix: str = ""


@dataclass
class Place:
    """Where a layer stands: what templates can tell of it."""

    label: str
    fields: dict[str, Any] = field(default_factory=dict)


def translate(layers: Iterable[str], names: Names) -> dict[str, str]:
    """Returns their name of each of our layers with weights; the layers come as the network calls them.

    A layer that no rule speaks of is left out.
    """
    found = {}
    places = placed(list(layers))
    for name, place in places.items():
        if name == "logits":
            found[name] = names.logits
        elif (theirs := one(place, names, bare(name) != name, any(name + n in places for n in NORMS))) is not None:
            found[name] = theirs
    return found


def one(place: Place, names: Names, is_norm: bool, normed: bool) -> str | None:
    """Returns their name of one layer, or None where no rule speaks of it."""
    label = place.label
    for key, index in ((label, 0), (bare(label), 1)) if is_norm else ((label, 0),):
        for whole in (f"stage{place.fields['s']}_{key}", key):
            for pattern, template in names.rules.items():
                if match := re.fullmatch(pattern, whole):
                    groups: dict[str, Any] = {
                        k: Count(v) if v.isdigit() else v for k, v in match.groupdict().items() if v is not None
                    }
                    fields = place.fields | groups
                    if "j" in groups:
                        fields["tail"] = "" if groups["j"] == 1 and fields["single"] else f".{groups['j'] - 1}"
                    text = filled(template, fields)
                    if (index or normed) and " " not in text and names.pair:
                        text = names.pair.format(text, text)
                    words = text.split()
                    if index >= len(words):
                        return None
                    return words[index][1:] if words[index][0] == "/" else front(names, fields) + words[index]
    return None


def filled(template: Template, fields: Mapping[str, Any]) -> str:
    return template(fields) if callable(template) else template.format_map(fields)


def front(names: Names, fields: Mapping[str, Any]) -> str:
    """Returns what stands in front of the names of a block; nothing in stem and head."""
    if not fields["b"]:
        return ""
    block = names.block
    return filled(block[fields["s"] - 1] if isinstance(block, tuple) else block, fields)


def placed(layers: list[str]) -> dict[str, Place]:
    """Returns the place of each layer by name."""
    parsed = {name: match.groups() for name in layers if (match := NAME.fullmatch(name))}
    blocks = sorted({(int(s), int(b)) for where, s, b, _ in parsed.values() if where == "stage"})
    depths = [sum(s == stage for s, _ in blocks) for stage in range(1, max((s for s, _ in blocks), default=0) + 1)]
    normed = (n for n in layers if any(n + norm in parsed for norm in NORMS))
    ranks = {name: r for r, name in enumerate(sorted(normed, key=natural))}
    labels: dict[tuple[str, str, str], list[str]] = {}
    for where, s, b, label in parsed.values():
        labels.setdefault((where, s, b), []).append(label)
    places = {"logits": Place("logits")} if "logits" in layers else {}
    for name, (where, s, b, label) in parsed.items():
        mine, base = labels[where, s, b], bare(label)
        convs = list(dict.fromkeys(bare(x) for x in mine if not x.startswith("se_")))
        units = list(dict.fromkeys("se" if x.startswith("se_") else bare(x) for x in mine))
        path = base.rpartition("_")[0]
        fields: dict[str, Any] = {
            "s": Count(s) if b else Count(0),
            "b": Count(b or 0),
            "n": Count(blocks.index((int(s), int(b))) + 1 if b else 0),
            "S": Count(len(depths)),
            "N": Count(len(blocks)),
            "c": Count(convs.index(base) if base in convs else 0),
            "k": Count(units.index("se" if base.startswith("se_") else base)),
            "r": Count(ranks.get(bare(name), 0)),
            "joined": "p1" in mine,
            "single": f"{path}_2" not in mine and f"{path}_2a" not in mine,
            "depths": depths,
        }
        places[name] = Place(label if b else f"{where}{s}_{label}", fields)
    return places


def bare(name: str) -> str:
    """Returns the name of the layer that a normalization follows, and any other name as it is."""
    return name.removesuffix("_bn").removesuffix("_ln")


def natural(name: str) -> list[tuple[int, int, str]]:
    """Returns what sorts layers as they are made: the stem, stage 2 before stage 10, the head."""
    order = {"stem": 0, "stage": 1, "head": 2}
    parts = re.findall(r"\d+|[^\d]+", name)
    return [(order.get(p, 1), int(p), "") if p.isdigit() else (order.get(p, 1), 0, p) for p in parts]
