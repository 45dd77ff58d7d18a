"""A worker that kills itself, for test_crashes.py: python crashing.py SPEC.json [--resume auto].

The spec: {"flags": of TrainConfig, "log": a folder, "kills": [[worker, kind, number], ...]}, one kill for each time the
job is started. Each worker logs, in log/<worker>.jsonl, the step an attempt starts from, the examples that its
pipeline makes, batch by batch, and the steps done.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from trainers import TrainConfig, fit, loop, phases
from trainers.runs import checkpoints, files, listeners, showing


def main(spec):
    worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    log = Path(spec["log"], f"{worker}.jsonl")
    attempt = sum("attempt" in line for line in log.read_text().splitlines()) if log.exists() else 0
    note(log, attempt=attempt)
    watch(log)
    if attempt < len(spec["kills"]) and spec["kills"][attempt][0] == worker:
        _, kind, number = spec["kills"][attempt]
        KINDS[kind](number)
    fit(TrainConfig(**spec["flags"]))


def note(log, **line):
    with open(log, "a") as file:
        file.write(json.dumps(line) + "\n")


def watch(log):
    data, batches, logged = loop.training_data, phases.train_batches, listeners.Metrics.steps

    def training_data(run, phase, step):
        note(log, start=step)
        return data(run, phase, step)

    def train_batches(*args, **kwargs):
        def made(index):
            note(log, batch=index.tolist())
            return np.int64(0)

        def tap(batch):
            return batch | {
                "index": batch["index"] + tf.ensure_shape(tf.numpy_function(made, [batch["index"]], tf.int64), ())
            }

        return (
            batches(*args, **kwargs)
            .map(tap)
            .apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        )

    def steps(metrics, training, *args):
        note(log, done=training.position.step)
        logged(metrics, training, *args)

    loop.training_data = phases.training_data = training_data
    phases.train_batches, listeners.Metrics.steps = train_batches, steps
    # The pictures of a run come from a pipeline of their own, whose examples train nothing.
    showing.first_images = lambda run, step: (np.zeros((2, 16, 16, 3), np.uint8), ["a", "b"])


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def after(seconds):
    """Some time after the first step: wherever the run is then."""
    first = threading.Event()
    before = loop.means

    def means(*args):
        first.set()
        return before(*args)

    def wait():
        first.wait()
        time.sleep(seconds)
        die()

    loop.means = means
    threading.Thread(target=wait, daemon=True).start()


def nth_call(module, name, number, instead=None):
    """At the n-th call of a function: before it, or in what is done in its place."""
    function, calls = getattr(module, name), []

    def counting(*args, **kwargs):
        calls.append(None)
        if len(calls) == number:
            if instead:
                instead(*args, **kwargs)
            die()
        return function(*args, **kwargs)

    setattr(module, name, counting)


def half_written(file, **arrays):
    file.write(b"PK\x03\x04 the beginning of a checkpoint")
    file.flush()


KINDS = {
    "time": after,
    "step": lambda n: nth_call(loop.Training, "agree", n),
    "validation": lambda n: nth_call(loop.Training, "close_epoch", n),
    "write": lambda n: nth_call(np, "savez", n, half_written),
    "rename": lambda n: nth_call(files.os, "replace", n),
    "link": lambda n: nth_call(checkpoints, "link", 1),
    "prune": lambda n: nth_call(checkpoints, "prune", n),
}

if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
