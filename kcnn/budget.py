"""Scale a network to a budget of multiply-adds, parameters, activations or memory."""

from typing import Annotated, Any

from cyclopts import Parameter

from kcnn.families import get
from kcnn.scaling import Axis, Candidate, costs, fit, memory_at, quantity, short
from kcnn.terminal import cli

NAMES = {"params": "parameters", "macs": "multiply-adds", "activations": "activations", "memory": "training memory"}


def budget(
    *,
    arch: Annotated[str, Parameter(help="The network to scale (kcnn info --list names them).")],
    macs: Annotated[
        str | None, Parameter(help="Allow at most this many multiply-adds for an image, as 600M or 1.5G.")
    ] = None,
    params: Annotated[str | None, Parameter(help="Allow at most this many parameters, as 5M.")] = None,
    activations: Annotated[
        str | None, Parameter(help="Allow at most this many outputs of convolutions, as 10M.")
    ] = None,
    memory: Annotated[
        str | None, Parameter(help="Allow training at most this memory at a batch size, as 8GB@64.")
    ] = None,
    along: Annotated[
        Axis, Parameter(help="Scale this; compound scales all three together, as EfficientNet does.")
    ] = "compound",
    classes: Annotated[int, Parameter(help="The network tells this many classes apart.")] = 1000,
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> dict[str, Any]:
    """Find the multipliers whose network comes closest under every bound, without allocating any weights.

    kcnn budget --arch mobilenet-v2 --macs 300M --params 3M
    """
    original = get(arch)
    bounds = {
        what: quantity(what, value)
        for what, value in (("params", params), ("macs", macs), ("activations", activations))
        if value is not None
    }
    batch = 1
    if memory is not None:
        bounds["memory"], batch = memory_at(memory)
    found = fit(original, bounds, along, classes=classes, batch=batch)
    before = Candidate(1.0, 1.0, original.resolution, costs(original, "memory" in bounds, classes, batch))
    command = train_command(original.name, before, found)
    print(table(original.name, before, found, bounds, batch))
    print(f"\n{command}")
    shares = {what: found.costs[what] / bound for what, bound in bounds.items()}
    return {
        "arch": original.name,
        "width": found.width,
        "depth": found.depth,
        "resolution": found.resolution,
        "original": dict(before.costs),
        "scaled": dict(found.costs),
        "budget": bounds,
        "share": shares,
        "batch": batch,
        "command": command,
    }


def table(name: str, before: Candidate, found: Candidate, bounds: dict[str, float], batch: int) -> str:
    lines = [("", name, "scaled", "budget", "")]
    lines += [
        (what, f"{getattr(before, what):g}", f"{getattr(found, what):g}", "", "")
        for what in ("width", "depth", "resolution")
    ]
    for what, old in before.costs.items():
        bound = bounds.get(what)
        how = ("", "") if bound is None else (short(bound), f"{found.costs[what] / bound:.1%} of it")
        label = NAMES[what] + (f", batch {batch}" if what == "memory" else "")
        lines.append((label, short(old), short(found.costs[what]), *how))
    widths = [max(len(row[i]) for row in lines) for i in range(5)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  " + "  ".join(f"{x:>{w}}" for x, w in zip(row[1:], widths[1:], strict=True)).rstrip()
        for row in lines
    )


def train_command(name: str, before: Candidate, found: Candidate) -> str:
    flags = [
        f"--{what} {getattr(found, what):g}"
        for what in ("width", "depth", "resolution")
        if getattr(found, what) != getattr(before, what)
    ]
    return " ".join(["kcnn train --arch", name, *flags])


def main(argv: list[str] | None = None) -> None:
    cli.command("budget", argv)


if __name__ == "__main__":
    main()
