"""kcnn benchmark: how fast networks train and predict on this device, and what they take."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from kcnn.errors import InputError, whole
from kcnn.terminal import cli
from kcnn.terminal.tables import short, table

HEADS = ["network", "pixels", "batch", "training images/s", "inference images/s", "first step, s", "memory"]


def benchmark(
    *arch: Annotated[str, Parameter(help="Names of networks, as kcnn info --list tells them.")],
    batch_size: Annotated[int, Parameter(help="A step sees this many images; halved where memory runs out.")] = 32,
    resolution: Annotated[
        int | None, Parameter(help="Images have sides of this many pixels (default: the network's own).")
    ] = None,
    width: Annotated[float, Parameter(help="Multiply the widths.")] = 1.0,
    depth: Annotated[float, Parameter(help="Multiply the depths.")] = 1.0,
    classes: Annotated[int, Parameter(help="The classifier tells this many classes apart.")] = 1000,
    precision: Annotated[
        Literal["float32", "mixed_bfloat16", "mixed_float16"] | None,
        Parameter(help="Compute activations in this precision (default: as kcnn train)."),
    ] = None,
    jit: Annotated[
        Literal["on", "off"] | None, Parameter(help="XLA compiles the step (default: as kcnn train).")
    ] = None,
    recompute: Annotated[bool, Parameter(negative="", help="Compute activations again to save memory.")] = False,
    seconds: Annotated[float, Parameter(help="Measure training, and inference, for about so long.")] = 5.0,
    out: Annotated[Path | None, Parameter(help="Write the figures as JSON to this file.")] = None,
    json: cli.Json = False,
    seed: cli.Unused = 0,
) -> dict[str, Any]:
    """Measure networks on this device: images a second in training and in
    inference, seconds to the first step, and memory. Images are at random and
    in memory; `kcnn train` may be bound by reading them instead.

    kcnn benchmark resnet-50 efficientnet-b0 regnety-800mf
    kcnn benchmark mobilenet-v2 --batch-size 256 --precision mixed_bfloat16

    Each network is measured in a process of its own, one after the other.
    Leave the machine quiet meanwhile.
    """
    from trainers.lab.throughput import measured

    if not arch:
        raise InputError("which networks? give their names, as kcnn info --list tells them")
    whole("batch-size", batch_size, 2**20)
    whole("classes", classes, 10**6)
    if not 0.1 <= seconds <= 3600:
        raise InputError(f"seconds {seconds:g}: from 0.1 to 3600 is needed")
    flags = {"resolution": resolution, "width": width, "depth": depth, "precision": precision, "jit": jit,
             "recompute": recompute, "stem": "standard", "recipe": "default"}  # fmt: skip
    rows, errors = [], []
    for name in arch:
        print(f"measuring {name}", flush=True)
        try:
            rows.append(measured(name, batch_size, seconds, flags, classes))
        except InputError as error:
            if len(arch) == 1:
                raise
            errors.append(str(error))
    if rows:
        table(HEADS, [cells(row) for row in rows])
    for row in rows:
        if row["batch_size"] < batch_size:
            print(f"{row['arch']}: {batch_size} images did not fit into memory, {row['batch_size']} do")
    result = {"networks": rows, "errors": errors}
    if out:
        from trainers.runs.files import write_json

        write_json(out, result)
    return result


def cells(row: dict[str, Any]) -> list[str]:
    rates = (f"{row[f'{what}_images_per_second']:,.0f}" for what in ("train", "infer"))
    places = [row["arch"], str(row["resolution"]), str(row["batch_size"])]
    return [*places, *rates, f"{row['first_step_seconds']:.1f}", short(row["memory"], "B")]


def main(argv: list[str] | None = None) -> None:
    cli.command("benchmark", argv)


if __name__ == "__main__":
    main()
