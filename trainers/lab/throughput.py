"""How fast a network trains and predicts on this device, and what it takes: each is measured in a process of its own.

`python -m trainers.lab.throughput JSON` is such a process. It prints its figures as JSON, as the last line.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kcnn.errors import InputError
from kcnn.terminal import starting

if TYPE_CHECKING:
    import keras
    import numpy as np

    from trainers.settings import RunConfig

CALLS = 3  # turns, of which the median counts
ROOM = "ran out of memory"


def measured(arch: str, batch: int, seconds: float, flags: dict[str, Any], classes: int) -> dict[str, Any]:
    """The figures of a network, with half the batch as often as the device's memory runs out. Raises InputError."""
    while True:
        asked = {"arch": arch, "batch_size": batch, **flags}
        words = json.dumps({"flags": asked, "seconds": seconds, "classes": classes})
        child = subprocess.run(
            [sys.executable, "-m", "trainers.lab.throughput", words], capture_output=True, text=True, check=False
        )
        if child.returncode == 0:
            return json.loads(child.stdout.splitlines()[-1])
        told = child.stderr.strip().splitlines()
        if child.returncode != -9 and ROOM not in child.stderr:  # 9: the system ended it, which had no more memory
            raise InputError(f"{arch}: {told[-1].removeprefix('InputError: ') if told else 'its process died'}")
        if batch == 1:
            raise InputError(f"{arch}: not even one image at a time fits into this device's memory")
        batch //= 2


def figures(flags: dict[str, Any], seconds: float, classes: int) -> dict[str, Any]:
    """What this process measures. first_step: seconds from the built network to the end of its first step, which
    traces and compiles it. memory: the most bytes that the GPUs, or this process, had in use."""
    starting.need_tensorflow()
    import tensorflow as tf

    from trainers.config import TrainConfig
    from trainers.distribute.surroundings import visible_gpus
    from trainers.network import facts
    from trainers.settings import resolve

    config = resolve(TrainConfig(**flags))
    costs, (train, plain, images) = facts(config, classes), rehearsal(config, classes)
    began = time.perf_counter()
    train(1)
    first = time.perf_counter() - began
    pixels = tf.cast(images, tf.float32)
    predict = tf.function(lambda: plain(pixels, training=False), autograph=False, jit_compile=config.jit)
    training = rate(train, seconds, config.batch_size)
    inference = rate(lambda n: [predict() for _ in range(n)][-1].numpy(), seconds, config.batch_size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if gpus := visible_gpus():
        peak = sum(tf.config.experimental.get_memory_info(f"GPU:{i}")["peak"] for i in range(len(gpus)))
    return {
        "arch": config.arch.name, "resolution": config.resolution, "batch_size": config.batch_size,
        "precision": config.precision, "params": costs.params, "macs": costs.macs,
        "train_images_per_second": training, "infer_images_per_second": inference, "first_step_seconds": first,
        "memory": peak,
    }  # fmt: skip


def rehearsal(config: "RunConfig", classes: int) -> "tuple[Callable[[int], Any], keras.Model, np.ndarray]":
    """A function that trains so many steps on one batch at random, the network, and the batch's images, uint8."""
    import keras
    import numpy as np
    import tensorflow as tf

    from trainers.distribute.strategy import make_strategy
    from trainers.network import networks
    from trainers.optim.optimizers import make_optimizer
    from trainers.state import make_state, precision
    from trainers.step import train_function

    strategy = make_strategy(config.strategy, config.replicas)
    keras.utils.set_random_seed(0)
    with strategy.scope(), precision(config.precision):
        trained, plain = networks(config, classes)
        state = make_state(trained, make_optimizer(config, 1000, trained), averaged=bool(config.ema), plain=plain)
        train = train_function(state, config, strategy)
    draws, batch, side = np.random.default_rng(0), config.batch_size, config.resolution
    images = draws.integers(0, 256, (batch, side, side, 3)).astype("uint8")
    labels = draws.integers(0, classes, batch).astype("int32")
    local = batch // strategy.num_replicas_in_sync
    data = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels}).batch(local, True).cache().repeat()
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: data))
    return lambda n: train(iterator, tf.constant(n))["loss"].numpy(), plain, images


def rate(run: Callable[[int], Any], seconds: float, batch: int) -> float:
    """Images a second of run(n), which takes n steps: the median of some turns of about so many seconds in all."""
    run(1)
    began = time.perf_counter()
    run(1)
    n = max(1, int(seconds / CALLS / max(1e-6, time.perf_counter() - began)))
    turns = []
    for _ in range(CALLS):
        began = time.perf_counter()
        run(n)
        turns.append(time.perf_counter() - began)
    return n * batch / statistics.median(turns)


def main() -> None:
    asked = json.loads(sys.argv[1])
    try:
        print(json.dumps(figures(asked["flags"], asked["seconds"], asked["classes"])))
    except InputError as error:
        sys.exit(f"InputError: {error}")
    except Exception as error:
        if type(error).__name__ in ("ResourceExhaustedError", "MemoryError"):
            sys.exit(ROOM)
        raise


if __name__ == "__main__":
    main()
