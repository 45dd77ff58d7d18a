"""A training step of kcnn against keras.applications under compile and fit: same network, batch and images.

Each side runs in a fresh process of its own, in turn, on the same folder of JPEGs and through the same input pipeline:
`trainers.fit` on one, `Model.fit` with jit_compile=False on the other. Two times are compared: from the start of the
process to the end of the first step, and of a later step. Shown are the medians and the median of the pairs' ratios
(kcnn / Keras: below 1, kcnn is faster).

    python -m benchmarks.step --pairs 5
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

# ResNet50 of keras.applications is the paper's, with the stride on the first 1x1.
TWINS = {"resnet-50-v1": "ResNet50", "mobilenet-v2": "MobileNetV2", "efficientnet-b0": "EfficientNetB0"}
SIDES = ("kcnn", "keras")


def compare(
    *networks: Annotated[str, Parameter(help=f"Of {', '.join(TWINS)} (default: all).")],
    pairs: Annotated[int, Parameter(help="Runs of each side.")] = 5,
    batch_size: Annotated[int, Parameter(help="Images in a step.")] = 16,
    resolution: Annotated[int, Parameter(help="Pixels.")] = 128,
    steps: Annotated[int, Parameter(help="Steps of a run, after the first.")] = 12,
    json: Annotated[bool, Parameter(negative="", help="Print the figures as JSON, as the last line.")] = False,
) -> dict[str, Any]:
    """Time a training step of kcnn against keras.applications, and the way to the first step."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), batch_size * (steps + 1))
        for network in networks or TWINS:
            runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
            for _ in range(pairs):
                for side in SIDES:
                    runs[side].append(run(side, network, folder, batch_size, resolution, steps))
            results[network] = summary(runs)
            print(line(network, results[network]), flush=True)
    return results


def run(side: str, network: str, folder: str, batch: int, resolution: int, steps: int) -> dict[str, float]:
    arguments = [side, network, folder, str(batch), str(resolution), str(steps), str(time.time())]
    command = [sys.executable, "-m", "benchmarks.step_worker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        sys.exit(f"{side} {network} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def summary(runs: dict[str, list[dict[str, float]]], sides: tuple[str, str] = SIDES) -> dict[str, Any]:
    def of(side: str, what: str) -> list[float]:
        return [r[what] for r in runs[side]]

    return {
        what: {side: statistics.median(of(side, what)) for side in sides}
        | {"ratio": statistics.median(a / b for a, b in zip(*(of(side, what) for side in sides), strict=True))}
        for what in ("step", "first")
    }


def line(network: str, result: dict[str, Any]) -> str:
    parts = (
        f"{what} {r['kcnn']:.2f} s against {r['keras']:.2f} s, ratio {r['ratio']:.2f}" for what, r in result.items()
    )
    return f"{network:<16} {'; '.join(parts)}"


def make_photos(folder: Path, count: int) -> None:
    """JPEGs cut from scikit-learn's two photographs: count to train on, a few to evaluate."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    draws = np.random.default_rng(0)
    for name in ("china", "flower"):
        picture = load_sample_image(f"{name}.jpg")
        for part, n in (("train", -(-count // 2)), ("val", 8)):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(n):
                top, left = draws.integers(0, picture.shape[0] - 200), draws.integers(0, picture.shape[1] - 250)
                Image.fromarray(picture[top : top + 200, left : left + 250]).save(place / f"{i}.jpg")


if __name__ == "__main__":
    from kcnn.terminal import cli

    cli.run(compare, "python -m benchmarks.step")
