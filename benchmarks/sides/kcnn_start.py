"""`kcnn train` up to the end of its first step: `python -m benchmarks.sides.kcnn_start NETWORK BATCH PIXELS FOLDER`."""

import os
import sys
import tempfile
from typing import Any

from kcnn.terminal import cli


def main() -> None:
    network, batch, side, folder = sys.argv[1:5]
    from trainers import training

    fit = training.fit
    training.fit = lambda config: fit(config, callbacks=[first_step()])
    with tempfile.TemporaryDirectory() as out:
        flags = {
            "arch": network, "data": folder, "batch-size": batch, "resolution": side, "run-dir": f"{out}/run",
            "optimizer": "sgd", "lr": "0.01", "epochs": "1", "stem": "standard", "warmup-epochs": "0",
        }  # fmt: skip
        sys.exit(cli.main(["train", *(word for key, value in flags.items() for word in (f"--{key}", value))]))


def first_step() -> Any:
    """A callback that ends the process, at once, after the first step."""
    import keras

    return keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: os._exit(0))


if __name__ == "__main__":
    main()
