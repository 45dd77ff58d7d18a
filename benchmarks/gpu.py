"""Training on a GPU in bfloat16: kcnn's networks with Keras on JAX against timm's on PyTorch, compiled and eager.

The sides take turns as in benchmarks.run; while they make ready they run at the same time. It needs JAX, Keras, PyTorch
and timm with a GPU, and no TensorFlow.

    python -m benchmarks.gpu resnet-50 efficientnet-b0
"""

import contextlib
import sys
from typing import Annotated

from cyclopts import Parameter

from benchmarks.figures import seconds, spread_text, summary
from benchmarks.tables import TWINS
from benchmarks.turns import Failed, Live, take_turns

FIRST = "kcnn, JAX"


def compare(
    *networks: Annotated[str, Parameter(help="Train these.")],
    batch_size: Annotated[int, Parameter(help="A step sees this many images.")] = 256,
    resolution: Annotated[int, Parameter(help="Images have sides of this many pixels.")] = 224,
    rounds: Annotated[int, Parameter(help="Each side has so many turns.")] = 5,
    steps: Annotated[int, Parameter(help="A turn has so many steps.")] = 20,
    device: Annotated[str, Parameter(help="PyTorch's name of the device.")] = "cuda",
) -> None:
    """Time a step in bfloat16: kcnn's networks on JAX against timm's on PyTorch."""
    for network in networks or ("resnet-50", "efficientnet-b0"):
        sides = sides_of(network, batch_size, resolution, device)
        try:
            ready = {name: side for name, side in sides.items() if made_ready(name, side)}
            turns, failed = take_turns(dict(ready), rounds, steps)
        finally:
            for side in sides.values():
                side.end()
        for name, why in failed.items():
            print(f"{network}: {name} failed: {why}", flush=True)
        for name, row in summary(turns, FIRST).items():
            wall = row["wall"]["median"]
            ratio = f"  {spread_text(row['ratio']['wall'])} of kcnn's time" if "ratio" in row else ""
            print(
                f"{network:18} {name:20} {seconds(wall)} a step  {batch_size / wall:,.0f} images/s{ratio}", flush=True
            )


def made_ready(name: str, side: Live) -> bool:
    """Whether a side came through its first steps, in which it compiles; all have been told to begin."""
    with contextlib.suppress(Failed):
        side.finish()
        return True
    print(f"{name} did not come through its first steps", flush=True)
    return False


def sides_of(network: str, batch: int, pixels: int, device: str) -> dict[str, Live]:
    """The sides of a network, which have begun with their first steps."""
    twin, size = TWINS[network]["timm"], (str(batch), str(pixels))
    words = {
        FIRST: ("jax_train", network, *size, "mixed_bfloat16"),
        "timm, torch.compile": ("timm_train", twin, *size, "1", device),
        "timm, eager": ("timm_train", twin, *size, "0", device),
    }
    sides = {
        name: Live([sys.executable, "-m", f"benchmarks.sides.{module}", *rest])
        for name, (module, *rest) in words.items()
    }
    for side in sides.values():
        side.begin(3)
    return sides


if __name__ == "__main__":
    from kcnn.terminal import cli

    cli.run(compare, "python -m benchmarks.gpu")
