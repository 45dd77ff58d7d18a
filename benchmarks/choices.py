"""The table that `--precision auto` and `--jit auto` go by without a trial: trainers/auto/measured.json.

Each network is trained for a few steps in a process of its own, as the trial of `auto` does it: as usual, in half
precision, under XLA. The table gets the time of a step relative to the usual one, for the kind of device that this
machine has and the network's family; rows of other kinds and families stay.

    python -m benchmarks.choices --write
"""

import datetime
import functools
import importlib
import json
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

NETWORKS = ("mobilenet-v2", "resnet-50", "efficientnet-b0", "regnety-800mf", "densenet-121", "vgg-16", "inception-v3",
            "xception", "resnext-50-32x4d", "mobilenet-v3-large")  # fmt: skip
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def choices(
    *networks: Annotated[str, Parameter(help=f"(default: {', '.join(NETWORKS)})")],
    batch_size: Annotated[int, Parameter(help="Images in a step.")] = 16,
    resolution: Annotated[int, Parameter(help="Pixels.")] = 128,
    clock: Annotated[
        Literal["wall", "cpu"], Parameter(help="On a CPU that others use, too, the CPU's time is the steadier.")
    ] = "wall",
    write: Annotated[bool, Parameter(negative="", help="Write the table, too.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print the figures as JSON, as the last line.")] = False,
) -> dict[str, Any]:
    """Time a step of networks in each precision, with and without XLA."""
    rows = {}
    for network in networks or NETWORKS:
        rows[network] = row = measured_apart(network, batch_size, resolution, clock)
        print(f"{network:<20} {row['seconds']:.3f} s, {row['times']}, {row['cost']:.0f} s in all", flush=True)
        if write:
            add(row, f"batch {batch_size} at {resolution} pixels, {clock} time")
    return rows


def measured_apart(network: str, batch: int, side: int, clock: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.choices", "--side", network, str(batch), str(side), clock]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{network} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(network: str, batch: int, side: int, clock: str) -> dict[str, Any]:
    """The row of a network: the kind of this machine's devices, the family, the seconds of a usual step, and of the
    other choices the times relative to it."""
    from trainers import TrainConfig
    from trainers.auto.devices import HALVES, devices_of
    from trainers.auto.table import XLA, Choice
    from trainers.auto.trial import timed
    from trainers.runs.asked import new_or_resumed

    training = importlib.import_module("trainers.training")
    config = TrainConfig(arch=network, resolution=side, batch_size=batch, stem="standard", run_dir="logs/none")
    run = training.prepare(*new_or_resumed(config))
    devices = devices_of(run.config.strategy)
    others = {half: Choice(half, False) for half in HALVES[devices.kind]} | {XLA: Choice("float32", True)}
    of = functools.partial(timed, run, make=training.make, clock=CLOCKS[clock])
    base = of(Choice("float32", False))
    timings = {what: of(choice) for what, choice in others.items()}
    return {
        "kind": devices.kind,
        "family": run.config.arch.family,
        "network": network,
        "seconds": base.step,
        "cost": base.cost + sum(t.cost for t in timings.values()),
        "compiling": timings[XLA].cost / base.cost,
        "times": {what: round(t.step / base.step, 2) for what, t in timings.items()},
    }


def add(row: dict[str, Any], how: str) -> None:
    """Puts a row into the table. What XLA is to float32 on a CPU does not hang on the CPU's bfloat16."""
    from trainers.auto.table import MEASURED, XLA

    table = json.loads(Path(MEASURED).read_text("utf-8"))
    kinds = {row["kind"]: row["times"]}
    if row["kind"] == "cpu-bfloat16":
        kinds["cpu"] = {XLA: row["times"][XLA]}
    for kind, times in kinds.items():
        table["times"].setdefault(kind, {})[row["family"]] = times
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras"))
    source = f"{row['network']}, {how}, {datetime.date.today()}, {versions}, {platform.machine()}"
    table["sources"][f"{row['kind']} {row['family']}"] = source
    Path(MEASURED).write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    from kcnn.terminal import cli

    if sys.argv[1:2] == ["--side"]:
        _, _, network, batch, side, clock = sys.argv
        print(json.dumps(measure(network, int(batch), int(side), clock)))
    else:
        cli.run(choices, "python -m benchmarks.choices")
