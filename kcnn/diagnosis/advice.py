"""The few findings that matter: each has its evidence, and the change that is worth a try.

Rules are data: what a rule looks at, from where on it speaks, and what it says. A rule that does not hold says nothing,
and "nothing stands out" is an answer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kcnn.analysis import Facts
from kcnn.diagnosis.architecture import Architecture
from kcnn.diagnosis.representation import Representation

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 7
DEAD = 0.5  # of a layer's units: more are a fault and no chance
THIN = 0.25  # of the channels of the stages on both sides
EARLY = 0.2  # of all multiply-adds, at the input's own resolution; VGG, which has no stem, comes to 0.13
LARGE = 96  # pixels of an image that a stem usually halves at once
SAME = 0.9999  # of CKA: a block that changes nothing; blocks of random weights come to 0.999


@dataclass(frozen=True)
class Finding:
    """weight: how much it matters, from 0 to 1; findings come in this order."""

    weight: float
    what: str
    evidence: str
    change: str


def findings(facts: Facts, built: Architecture, seen: Representation) -> tuple[Finding, ...]:
    """Returns what stands out, the most important first, and never more than MOST."""
    found = [finding for rule in RULES for finding in rule(facts, built, seen)]
    return tuple(sorted(found, key=lambda f: -f.weight)[:MOST])


def dead_layers(facts: Facts, built: Architecture, seen: Representation) -> Iterator[Finding]:
    dead = sorted((u for u in seen.units if u.dead >= DEAD * u.units and u.units > 1), key=lambda u: -u.dead / u.units)
    for u in dead[:1]:
        more = f"; {len(dead) - 1} other layers have lost half of theirs or more" if dead[1:] else ""
        yield Finding(
            0.5 + 0.45 * u.dead / u.units,
            f"{u.dead} of the {u.units} units of {u.layer} never move",
            f"their value is the same at every place of all {seen.images:,} images{more}",
            "a lower --lr with --warmup-epochs, --clip-norm 1, or an activation without a dead side, such as silu",
        )


def thin_stages(facts: Facts, built: Architecture, seen: Representation) -> Iterator[Finding]:
    ends = [s for s in seen.spans if s.where == "end" and s.stage != "stem"]
    for k, s in enumerate(ends):
        around = [e.channels for e in ends[max(0, k - 1) : k] + ends[k + 1 : k + 2]]
        if around and s.channels <= THIN * min(around):
            yield Finding(
                0.9 * (1 - s.channels / min(around)),
                f"{s.stage} has {s.channels} channels, those beside it {' and '.join(map(str, around))}",
                f"its features fill {s.effective:.1f} of {s.channels} directions, and all later stages start from them",
                f"more width in {s.stage}: in its Arch, {min(around)} channels in the `width` of that row of `stages`",
            )


def activated_projections(facts: Facts, built: Architecture, seen: Representation) -> Iterator[Finding]:
    wrong = [b for b in built.blocks if b.kind == "inverted" and b.activated]
    if wrong:
        lost = [s.relu_loses for s in seen.spans if s.where == "narrow"]
        low, high = min(lost, default=0), max(lost, default=0)
        yield Finding(
            0.6,
            f"{len(wrong)} inverted blocks have {wrong[0].activated} on their projection, {wrong[0].name} the first",
            f"a ReLU on the narrowest layers of the stages loses {low:.1%} to {high:.1%} of their variance",
            "a linear projection: Sandler et al., 2018 (https://arxiv.org/abs/1801.04381), section 3.2",
        )


def large_maps(facts: Facts, built: Architecture, seen: Representation) -> Iterator[Finding]:
    early = sum(c.macs for c in facts.layers if c.stride == 1)
    if facts.resolution >= LARGE and facts.macs and early > EARLY * facts.macs:
        yield Finding(
            0.5 + 0.5 * early / facts.macs,
            f"{early / facts.macs:.0%} of the multiply-adds are at the input's own resolution",
            f"the first layers keep all {facts.resolution} x {facts.resolution} places",
            "a stem with a stride of 2 or 4 (--stem standard), or a lower --resolution",
        )


def idle_blocks(facts: Facts, built: Architecture, seen: Representation) -> Iterator[Finding]:
    idle = [pair for pair in seen.likeness if pair.cka >= SAME]
    if idle:
        yield Finding(
            0.3,
            f"{len(idle)} block{'s change' if len(idle) > 1 else ' changes'} nothing, {idle[0].after} the first",
            f"their outputs are as good as their inputs turned and scaled (linear CKA {idle[0].cka:.4f})",
            "less --depth, or training on: blocks may begin as identities",
        )


def short_sight(facts: Facts, built: Architecture, seen: Representation) -> Iterator[Finding]:
    field = facts.receptive_field
    if field is not None and field < facts.resolution:
        yield Finding(
            0.3 + 0.3 * (1 - field / facts.resolution),
            f"no place sees more than {field} of {facts.resolution} pixels",
            "the theoretical receptive field of the last map is smaller than the image",
            "more --depth, an earlier stride, or a lower --resolution",
        )


Rule = Callable[[Facts, Architecture, Representation], Iterator[Finding]]
RULES: "Sequence[Rule]" = (
    dead_layers, thin_stages, activated_projections, large_maps, idle_blocks, short_sight,
)  # fmt: skip


def told(found: tuple[Finding, ...]) -> list[dict[str, Any]]:
    return [{"what": f.what, "evidence": f.evidence, "change": f.change, "weight": round(f.weight, 3)} for f in found]
