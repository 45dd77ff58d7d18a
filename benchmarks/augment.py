"""A training step with all augmentation on against one with none: same network, batch and photographs.

First the processor time of an image in the pipeline, with each technique alone, in turns. Then the step: each side
runs in a fresh process of its own, in turn, on the same folder of JPEGs, by `trainers.fit`. Shown are the medians, and
the median of the pairs' ratios (augmented / plain: 1.15 is 15 % more).

    python -m benchmarks.augment --pairs 3
"""

import json as text
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from benchmarks.photos import make_photos
from benchmarks.turns import quiet

# As flags of a run; `repeats` costs nothing by itself.
ALL = {"augment": "randaugment", "color_jitter": 0.4, "erase": 0.25, "repeats": 2, "mixup": 0.2, "cutmix": 1.0}
TECHNIQUES: dict[str, dict[str, Any]] = {
    "none": {}, "randaugment": {"policy": "randaugment"}, "trivialaugment": {"policy": "trivialaugment"},
    "autoaugment": {"policy": "autoaugment"}, "jitter": {"color_jitter": 0.4}, "erase": {"erase": 1.0},
    "all": {"policy": "randaugment", "color_jitter": 0.4, "erase": 0.25},
}  # fmt: skip


def compare(
    network: Annotated[str, Parameter(help="Any of kcnn's.")] = "resnet-50",
    *,
    pairs: Annotated[int, Parameter(help="Runs of each side; 0: only the pipeline.")] = 3,
    batch_size: Annotated[int, Parameter(help="Images in a step.")] = 8,
    resolution: Annotated[int, Parameter(help="Pixels.")] = 224,
    steps: Annotated[int, Parameter(help="Steps of a run, after the first.")] = 12,
    json: Annotated[bool, Parameter(negative="", help="Print the figures as JSON, as the last line.")] = False,
) -> dict[str, Any]:
    """Time a training step with all augmentation on against one with none."""
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), batch_size * (steps + 1))
        results: dict[str, Any] = {"milliseconds": (images := costs(folder, batch_size, resolution))}
        for name, cost in images.items():
            print(f"{name:<16} {cost:.2f} ms of a core an image", flush=True)
        if pairs:
            sides: dict[str, dict[str, Any]] = {"augmented": ALL, "plain": {}}
            runs = [
                {side: step_seconds(network, batch_size, resolution, folder, flags) for side, flags in sides.items()}
                for _ in range(pairs)
            ]
            step = {side: statistics.median(run[side] for run in runs) for side in sides}
            step["ratio"] = statistics.median(run["augmented"] / run["plain"] for run in runs)
            results["step"] = step
            print(f"{network:<16} {step['augmented']:.2f} s against {step['plain']:.2f} s, ratio {step['ratio']:.2f}")
    return results


def step_seconds(network: str, batch: int, resolution: int, folder: str, flags: dict[str, Any]) -> float:
    arguments = (network, str(batch), str(resolution), folder, text.dumps(flags))
    command = [sys.executable, "-m", "benchmarks.sides.kcnn_fit", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=quiet({}), check=True)
    return text.loads(done.stdout.splitlines()[-1])["step"]


def costs(folder: str, batch: int, resolution: int, rounds: int = 5, batches: int = 12) -> dict[str, float]:
    """Milliseconds of processor time an image, by technique: the median over rounds in which each has its turn."""
    from trainers.data import Augmentation, Order, open_data, train_batches

    split = open_data(folder).train
    sources = {
        name: iter(
            train_batches(
                split, Order(0, batch, batch, repeats=2 if name == "all" else 1), resolution, Augmentation(**settings)
            )
        )
        for name, settings in TECHNIQUES.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in TECHNIQUES}
    for source in sources.values():
        next(source)
    for _ in range(rounds):
        for name, source in sources.items():
            time.sleep(0.5)  # until the batches ahead are ready, before and after
            begun = time.process_time()
            for _ in range(batches):
                next(source)
            time.sleep(0.5)
            seconds[name].append((time.process_time() - begun) / (batches * batch))
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    from kcnn.terminal import cli

    cli.run(compare, "python -m benchmarks.augment")
