"""Diagnose a network: what it is made of, what it makes of images, and what stands out."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kcnn.errors import InputError
from kcnn.terminal import cli, starting, tables


def diagnose(
    network: Annotated[str, Parameter(help="The name of a network, such as resnet-50, or the folder of a run.")],
    /,
    *,
    data: Annotated[
        str | None,
        Parameter(
            help="Look at images of this data (default: a run's own validation images; for a name, cuts of the two "
            "photographs that scikit-learn ships)."
        ),
    ] = None,
    images: Annotated[int, Parameter(help="Look at this many images, drawn from all classes.")] = 256,
    weights: Annotated[
        str | None, Parameter(help="Give a named network these weights, as kcnn train takes them (default: random).")
    ] = None,
    width: Annotated[float, Parameter(help="Multiply the widths of a named network by this.")] = 1.0,
    depth: Annotated[float, Parameter(help="Multiply the depths of a named network by this.")] = 1.0,
    resolution: Annotated[int | None, Parameter(help="Images have sides of this many pixels.")] = None,
    batch_size: Annotated[int, Parameter(help="Look at this many images at once.")] = 16,
    out: Annotated[
        str | None, Parameter(help="The file for the page (default: diagnosis.html in the run, or here).")
    ] = None,
    imports: cli.Imports = None,
    json: cli.Json = False,
    seed: Annotated[int, Parameter(help="Draws the weights of a named network.")] = 0,
) -> dict[str, Any]:
    """Diagnose a network: what it is made of, what it makes of images, and what
    stands out, each finding with its evidence and a change to try.

    With random weights it shows what the architecture passes on before it has
    learnt anything; with those of a run, what training made of it. The page
    tells all figures and what they mean.

    kcnn diagnose resnet-50

    kcnn diagnose logs/resnet-50-photos-... --images 1000

    kcnn diagnose mobilenet-v2 --width 0.25 --data photos/
    """
    starting.need_tensorflow()
    from trainers.data.tfds_source import import_builders
    from trainers.lab.measured import measured
    from trainers.lab.page import page
    from trainers.runs import files

    import_builders(imports)
    if images < 1 or batch_size < 4:
        raise InputError(f"images {images}, batch-size {batch_size}: at least 1 and 4 are needed")
    found, folder = measured(
        network, data=data, images=images, weights=weights, width=width, depth=depth, resolution=resolution,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    place = Path(out) if out else folder / "diagnosis.html"
    files.write_text(place, page(found))
    show(found.diagnosis, found.what)
    show_training(found)
    advise(found)
    print(f"\npage: {place}")
    return found.to_dict() | {"page": str(place)}


def show(found: Any, what: str) -> None:
    built, seen = found.architecture, found.representation
    print(f"{found.facts.name}, {seen.images:,} {what}")
    kinds = [block.kind for block in built.blocks]
    parts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    print(f"{len(kinds)} blocks ({parts}), {built.shortest} to {built.longest} layers on a way through it")
    rows = [
        (
            s.stage,
            s.where,
            f"{s.channels}",
            f"{s.effective:.1f}",
            f"{s.first_tenth:.0%}",
            f"{s.relu_loses:.1%}",
            s.activated,
            "" if s.probe is None else f"{s.probe:.1%}",
        )
        for s in seen.spans
    ]
    tables.table(("stage", "where", "channels", "directions", "first 10 %", "a ReLU loses", "has", "probe"), rows)
    print("directions: how many the features fill; first 10 %: of them, their share of the variance;")
    print("probe: the accuracy of a linear classifier there\n")


def show_training(found: Any) -> None:
    flow, seen, spent, changed, fed = found.gradients, found.field, found.timing, found.updates, found.pace
    if flow:
        norms = ", ".join(f"{stage} {norm:.2g}" for stage, norm in flow.stages.items())
        print(f"gradients: {flow.verdict}, first over last stage {flow.first_to_last:.2g} ({norms})")
    if seen:
        print(
            f"a place in the middle of {seen.stage} sees {seen.size:.0f} pixels in fact, {seen.theoretical} in theory"
        )
    if changed:
        print(f"a step at the peak of its learning rate changes weights by {changed.typical:.2g} of themselves")
    if spent:
        show_times(spent)
    if fed:
        print(
            f"training on one device: {fed.images * 1e3:.3g} ms to make a batch of images, {fed.network * 1e3:.3g} ms "
            f"to train on one, {fed.both * 1e3:.3g} ms for both: bound by {fed.bound}"
        )


def show_times(spent: Any) -> None:
    from trainers.lab.timing import by_kind

    kinds = ", ".join(f"{kind} {seconds / spent.step:.0%}" for kind, seconds in by_kind(spent.layers)[:4])
    print(f"a step of {spent.batch} images takes {spent.step * 1e3:.3g} ms here, forward and backward: {kinds}")
    bounds = sorted(spent.shares().items(), key=lambda item: -item[1])
    words = ", ".join(f"{bound or 'none of these'} {share:.0%}" for bound, share in bounds if share > 0.005)
    print(f"its layers are bound by: {words}")


def advise(found: Any) -> None:
    for note in found.notes:
        print(f"not measured: {note}")
    print("" if found.findings else "\nnothing stands out")
    for number, f in enumerate(found.findings, 1):
        print(f"{number}. {f.what}: {f.evidence}\n   to try: {f.change}")


app = cli.make_app("diagnose", diagnose)


def main(argv: list[str] | None = None) -> None:
    cli.command("diagnose", argv)


if __name__ == "__main__":
    main()
