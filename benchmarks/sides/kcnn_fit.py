"""Seconds of a later step of a run on a folder: `python -m benchmarks.sides.kcnn_fit NETWORK BATCH PIXELS FOLDER JSON`.

JSON holds further settings of the run. The run starts and ends with the process, and the result is its last line.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time

import keras

from trainers import TrainConfig, fit


def main() -> None:
    network, batch, side, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    ends: dict[int, float] = {}
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: ends.update({step: time.time()}))
    with tempfile.TemporaryDirectory() as out:
        flags = {
            "optimizer": "sgd",
            "lr": 0.01,
            "warmup_epochs": 0.0,
            "weight_decay": 0.0,
            "stem": "standard",
            "recipe": "default",
        }
        flags |= json.loads(sys.argv[5]) | {"epochs": 1, "run_dir": f"{out}/run"}
        fit(TrainConfig(arch=network, data=folder, batch_size=batch, resolution=side, **flags), callbacks=[callback])
    later = [(t2 - t1) / (b2 - b1) for (b1, t1), (b2, t2) in itertools.pairwise(sorted(ends.items()))]
    print(json.dumps({"step": statistics.median(later)}))


if __name__ == "__main__":
    main()
