"""kcnn info: what networks cost, see and need."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from kcnn.analysis import Facts, facts
from kcnn.arch import GROWTH, Arch, compound
from kcnn.builder import Stem, resolve
from kcnn.errors import InputError, shown
from kcnn.families import get, natural
from kcnn.families.costs import costs
from kcnn.families.repvgg import merged
from kcnn.terminal import cli
from kcnn.terminal.tables import short, table
from kcnn.weights import known

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


def info(
    *arch: str,
    listed: Annotated[bool, Parameter("--list", negative="")] = False,
    weights: Annotated[bool, Parameter("--weights", negative="")] = False,
    width: float = 1.0,
    depth: float = 1.0,
    phi: float = 0.0,
    alpha: float = GROWTH["alpha"],
    beta: float = GROWTH["beta"],
    gamma: float = GROWTH["gamma"],
    resolution: int | None = None,
    classes: int = 1000,
    stem: Stem = "auto",
    batch_size: int = 32,
    precision: Precision = "float32",
    per_layer: Annotated[bool, Parameter(negative="")] = False,
    plot: Path | None = None,
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> Mapping[str, Any]:
    """Show what networks cost, see and need: one stage by stage, or several side by side.

    kcnn info resnet-50

    kcnn info resnet-50 efficientnet-b0 --batch-size 64

    kcnn info --list "mobilenet*"

    kcnn info --weights "resnet-*"

    Parameters
    ----------
    arch
        Names of networks, such as resnet-50; with --list, shell patterns of names (without any, all are listed).
    listed
        List networks by family, with what they cost at their own resolution and the top-1 published for them.
    weights
        List the public ImageNet weights that are known, with source, top-1, size and licence, of these networks or of
        all; `kcnn train --weights SOURCE` starts from them.
    width
        Multiply the widths (channels) of all stages by this.
    depth
        Multiply the depths (blocks) of all stages by this.
    phi
        Scale compoundly: depth by alpha^phi, width by beta^phi and resolution by gamma^phi.
    alpha
        The depth grows by this factor when phi grows by 1.
    beta
        The width grows by this factor when phi grows by 1.
    gamma
        The resolution grows by this factor when phi grows by 1.
    resolution
        The input is a square with this side, in pixels (default: the network's own).
    classes
        The network tells this many classes apart.
    stem
        "standard" is the paper's stem; "small" has no strides, for small images; "auto" takes the small one for
        images of 64 pixels and less.
    batch_size
        The memory is that of a step with this many images.
    precision
        The memory is that of this precision.
    per_layer
        Show every layer as well.
    plot
        Draw how multiply-adds, parameters and memory grow from the input on, as a picture, into this file.
    """
    if listed:
        return list_names(arch or ("*",), quiet=json)
    if weights:
        return list_weights(arch or ("*",), quiet=json)
    if not arch:
        raise InputError("no network given: name one, such as resnet-50, or --list them")
    scaling: dict[str, Any] = {"width": width, "depth": depth, "resolution": resolution, "stem": stem}
    archs = [compound(get(name), phi, alpha, beta, gamma) for name in arch]
    found = [facts(a, classes, **scaling) for a in archs]
    stems = [stem_of(a, **scaling) for a in archs]
    exports = [exported(a, classes, **scaling) for a in archs]
    memory = {
        phase: [f.memory_parts(batch_size, precision, training=phase == "training") for f in found]
        for phase in ("training", "inference")
    }
    if plot:
        draw(found, plot)
    if not json:
        step = f"a batch of {batch_size} in {precision}"
        if len(found) == 1:
            show(found[0], stems[0], {phase: m[0] for phase, m in memory.items()}, step)
            if e := exports[0]:
                print(
                    f"note: exported it has one convolution for the branches of a block: {e['params']:,} parameters, "
                    f"{e['macs']:,} multiply-adds, {e['activations']:,} activations"
                )
        else:
            compare(found, memory, step)
        if per_layer:
            for f in found:
                show_layers(f)
    rows = [
        f.to_dict()
        | {"stem": s, "batch_size": batch_size, "precision": precision}
        | {"memory": {phase: m[n] for phase, m in memory.items()}}
        | ({"exported": exports[n]} if exports[n] else {})
        | ({"layers": f.layer_dicts()} if per_layer else {})
        for n, (f, s) in enumerate(zip(found, stems, strict=True))
    ]
    return rows[0] if len(rows) == 1 else {"networks": rows}


def list_names(patterns: Sequence[str], quiet: bool) -> Mapping[str, Any]:
    """The networks that match, family by family, with costs as they were written down: nothing is built."""
    found = [c for c in costs().values() if any(fnmatch.fnmatch(c.name, pattern) for pattern in patterns)]
    if not found:
        raise InputError(f"no network matches {shown(' '.join(patterns))}")
    if not quiet:
        heads = ("name", "family", "pixels", "parameters", "multiply-adds", "activations", "top-1")
        table(
            heads,
            [
                (
                    c.name,
                    c.family,
                    f"{c.resolution}",
                    short(c.params),
                    short(c.macs),
                    short(c.activations),
                    percent(c.top1),
                )
                for c in found
            ],
        )
        print("top-1: published accuracy on ImageNet at these pixels; docs/architectures.md has the sources")
    return {"names": sorted((c.name for c in found), key=natural), "networks": [c._asdict() for c in found]}


def list_weights(patterns: Sequence[str], quiet: bool) -> Mapping[str, Any]:
    """The public weights of the networks that match, the best ones that are known first."""
    found = [row for row in known.rows() if any(fnmatch.fnmatch(row.network, pattern) for pattern in patterns)]
    if not found:
        raise InputError(f"no public weights are known for {shown(' '.join(patterns))}")
    if not quiet:
        cells = [(r.network, r.source, percent(r.top1), (r.size and f"{r.size} MB") or "", r.licence) for r in found]
        table(("network", "source", "top-1", "size", "licence"), cells)
        print("where these figures come from: kcnn/weights/known.txt; an empty cell is not known")
    return {"weights": [asdict(row) for row in found]}


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"


def exported(arch: Arch, classes: int, **scaling: Any) -> dict[str, int] | None:
    """The counts of the form that `kcnn export` writes, where branches become one convolution there."""
    plain = merged(arch)
    if plain == arch:
        return None
    f = facts(plain, classes, **scaling)
    return {"params": f.params, "macs": f.macs, "activations": f.activations}


def stem_of(arch: Arch, stem: Stem, **scaling: Any) -> str:
    """Which stem the network has, and why."""
    if resolve(arch, **scaling, stem=stem) == resolve(arch, **scaling, stem="standard"):
        return "standard stem"
    why = f"as the input has {arch.small} pixels or less" if stem == "auto" else "as asked for"
    return f"small stem: no strides, {why}"


def show(f: Facts, stem: str, memory: Mapping[str, Mapping[str, int]], step: str) -> None:
    rows = [
        (
            s.name,
            f"{s.resolution}",
            f"{s.width}",
            f"{s.blocks or ''}",
            short(s.params),
            short(s.macs),
            short(s.activations),
            pixels(s.receptive_field),
            pixels(s.stride),
            pixels(s.centre),
            short(s.kept, "B"),
            f"{s.intensity:.1f}",
        )
        for s in f.stages
    ]
    total = (
        "total",
        "",
        "",
        "",
        short(f.params),
        short(f.macs),
        short(f.activations),
        pixels(f.receptive_field),
        "",
        "",
        short(sum(s.kept for s in f.stages), "B"),
        f"{f.intensity:.1f}",
    )
    heads = ("stage", "pixels", "width", "blocks", "parameters", "multiply-adds", "activations", "sees", "stride",
             "centre", "kept", "macs/byte")  # fmt: skip
    print(f"{f.name}, images of {f.resolution} pixels, {stem}")
    print(f"{f.params:,} parameters, {f.macs:,} multiply-adds, {f.activations:,} activations")
    table(heads, [*rows, total])
    print("sees, stride, centre: pixels of the input; kept: for back-propagation, of one image in float32")
    for phase, parts in memory.items():
        detail = ", ".join(f"{what} {short(n, 'B')}" for what, n in parts.items() if n and what != "total")
        print(f"memory in {phase}, {step}: {short(parts['total'], 'B')} at the most ({detail})")
    for remark in f.remarks:
        print(f"note: {remark}")


def compare(found: Sequence[Facts], memory: Mapping[str, Sequence[Mapping[str, int]]], step: str) -> None:
    heads = ("network", "pixels", "parameters", "multiply-adds", "activations", "sees", "macs/byte", "training",
             "inference")  # fmt: skip
    rows = [
        (
            f.name,
            f"{f.resolution}",
            short(f.params),
            short(f.macs),
            short(f.activations),
            pixels(f.receptive_field),
            f"{f.intensity:.1f}",
            short(training["total"], "B"),
            short(inference["total"], "B"),
        )
        for f, training, inference in zip(found, memory["training"], memory["inference"], strict=True)
    ]
    table(heads, rows)
    print(f"training, inference: memory for {step}")


def show_layers(f: Facts) -> None:
    rows = [
        (
            c.name,
            c.kind,
            " x ".join(map(str, c.shape)),
            short(c.params),
            short(c.macs),
            short(c.activations),
            pixels(c.receptive_field),
            pixels(c.stride),
        )
        for c in f.layers
    ]
    print(f"\n{f.name}")
    table(("layer", "kind", "output", "parameters", "multiply-adds", "activations", "sees", "stride"), rows)


def pixels(n: float | None) -> str:
    return "" if n is None else f"{n:g}"


def draw(found: Sequence[Facts], file: Path) -> None:
    """Sums from the input on, over the layers that compute or hold something."""
    import matplotlib

    matplotlib.use("Agg")
    from itertools import accumulate

    from matplotlib import pyplot

    figure, panels = pyplot.subplots(3, 1, figsize=(8, 9), layout="constrained")
    sums = {
        "multiply-adds (G)": ("macs", 1e9),
        "parameters (M)": ("params", 1e6),
        "kept for back-propagation (MB an image)": ("kept", 1e6),
    }
    for panel, (title, (what, unit)) in zip(panels, sums.items(), strict=True):
        for f in found:
            values = [row[what] / unit for row in f.layer_dicts() if row["macs"] or row["params"] or row["kept"]]
            panel.plot(list(accumulate(values)), label=f.name)
        panel.set(title=f"{title}, summed from the input on", xlabel="layer", xmargin=0)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].legend()
    try:
        figure.savefig(file)
    except ValueError as error:  # an ending that names no format
        raise InputError(f"plot {str(file)!r}: {error}") from error
    finally:
        pyplot.close(figure)


def main(argv: list[str] | None = None) -> None:
    cli.command("info", argv)


if __name__ == "__main__":
    main()
