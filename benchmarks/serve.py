"""An exported network at batch 1 against Keras's predict_on_batch of the same network, side by side in one process.

The network (random weights: its time does not depend on them) is exported with its normalizations folded, as
`kcnn export` does, and loaded again. Its signature `image_uint8` takes an image, crops and resizes it, and answers
with probabilities and names. Keras gets an image of the right size, through `model.predict_on_batch` of the compiled
model: with its own choice of jit_compile, and without XLA. All take turns; shown are the median times and the median
ratios of neighbouring turns (export / Keras: below 1, the export is faster).

    python -m benchmarks.serve --turns 50
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

BATCH = 1


def compare(
    *networks: Annotated[str, Parameter(help="Names of networks (default: resnet-50).")],
    turns: Annotated[int, Parameter(help="Answers of each side.")] = 50,
    resolution: Annotated[int | None, Parameter(help="Pixels (default: the network's).")] = None,
    json: Annotated[bool, Parameter(negative="", help="Print the figures as JSON, as the last line.")] = False,
) -> dict[str, Any]:
    """Time an exported network's answers at batch 1 against Keras's predict_on_batch."""
    results = {}
    for network in networks or ("resnet-50",):
        results[network] = measure(sides(network, resolution), turns)
        for side, r in results[network].items():
            told = "" if side == "export" else f", ratio {r['ratio']:.2f}"
            print(f"{network:<16} {side:<24} {r['seconds'] * 1e3:8.1f} ms{told}", flush=True)
    return results


def sides(network: str, resolution: int | None) -> dict[str, Callable[[], Any]]:
    """The same question, asked in different ways."""
    import keras
    import numpy as np
    import tensorflow as tf

    import kcnn
    from trainers.config import TrainConfig
    from trainers.network import network as build
    from trainers.serving.folding import fold
    from trainers.serving.signatures import make_signatures
    from trainers.settings import resolve

    config = resolve(TrainConfig(arch=network, resolution=resolution or kcnn.get(network).resolution))
    model = build(config, 1000)
    classes = tuple(f"class {i}" for i in range(1000))
    owner, signatures = make_signatures(fold(model).model, config, classes, ("image_uint8",))
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(owner, folder, signatures=signatures)
        loaded = tf.saved_model.load(folder)
    side = config.arch.resolution
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8)
    served, floats = tf.constant(pixels), pixels.astype(np.float32)

    def compiled(jit: Any) -> Callable[[], Any]:
        twin = keras.Model(model.inputs, model.outputs)
        twin.compile(jit_compile=jit)
        return lambda: twin.predict_on_batch(floats)

    return {
        "export": lambda: {k: v.numpy() for k, v in loaded.signatures["image_uint8"](image=served).items()},
        "predict_on_batch": compiled("auto"),
        "predict_on_batch, no XLA": compiled(False),
    }


def measure(sides: dict[str, Callable[[], Any]], turns: int) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 3):
        for name, ask in sides.items():
            start = time.perf_counter()
            ask()
            if turn >= 3:  # the first compile, and warm up
                times[name].append(time.perf_counter() - start)
    return {
        name: {
            "seconds": statistics.median(mine),
            "ratio": statistics.median(a / b for a, b in zip(times["export"], mine, strict=True)),
        }
        for name, mine in times.items()
    }


if __name__ == "__main__":
    from kcnn.terminal import cli

    cli.run(compare, "python -m benchmarks.serve")
