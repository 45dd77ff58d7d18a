"""One side of a benchmark of steps, in a fresh process: prints the seconds to the first step and of a later one."""

import itertools
import json
import statistics
import sys
import time
from typing import Any

import keras

from benchmarks.step import TWINS


def timer(started: float) -> tuple[keras.callbacks.Callback, dict[str, Any]]:
    """A callback, and where it leaves the times at which batches ended, by their number."""
    ends: dict[int, float] = {}

    def ended(batch: int, logs: Any) -> None:
        ends[batch] = time.time() - started

    return keras.callbacks.LambdaCallback(on_train_batch_end=ended), ends


def run_kcnn(network: str, folder: str, batch: int, resolution: int, steps: int, callback: Any, **more: Any) -> None:
    import tempfile

    from trainers import TrainConfig, fit

    with tempfile.TemporaryDirectory() as out:
        flags: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "warmup_epochs": 0.0, "weight_decay": 0.0} | more
        fit(
            TrainConfig(
                arch=network,
                data=folder,
                batch_size=batch,
                resolution=resolution,
                stem="standard",
                epochs=1,
                run_dir=f"{out}/run",
                **flags,
            ),
            callbacks=[callback],
        )


def run_keras(network: str, folder: str, batch: int, resolution: int, steps: int, callback: Any) -> None:
    import tensorflow as tf

    from trainers.data import Order, open_data, train_batches

    split = open_data(folder).train
    batches = train_batches(split, Order(0, steps * batch, batch), resolution)
    data = batches.map(lambda b: (tf.cast(b["image"], tf.float32), b["label"]))
    make = getattr(keras.applications, TWINS[network])
    model = make(weights=None, classes=2, input_shape=(resolution, resolution, 3), classifier_activation=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), loss, metrics=["accuracy"], jit_compile=False
    )
    model.fit(data, steps_per_epoch=steps + 1, epochs=1, verbose=0, callbacks=[callback])


def run_augmented(*settings: Any) -> None:
    from benchmarks.augment import ALL

    run_kcnn(*settings, **ALL)


def main() -> None:
    side, network, folder = sys.argv[1:4]
    batch, resolution, steps = (int(a) for a in sys.argv[4:7])
    callback, ends = timer(float(sys.argv[7]))
    {"kcnn": run_kcnn, "keras": run_keras, "augmented": run_augmented}[side](
        network, folder, batch, resolution, steps, callback
    )
    first, *marks = sorted(ends.items())
    later = [(t2 - t1) / (b2 - b1) for (b1, t1), (b2, t2) in itertools.pairwise(marks)]
    print(json.dumps({"first": first[1], "step": statistics.median(later)}))


if __name__ == "__main__":
    main()
