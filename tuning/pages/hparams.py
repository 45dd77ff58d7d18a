"""TensorBoard's HParams page of a search."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuning.trials.records import inside

METRICS = ("score", "val_accuracy", "val_loss", "macs", "params", "latency_ms", "seconds")


def write(folder: Path, settings: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> None:
    """What each result was trained with (by its key) and what became of it, into folder/hparams."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    root = inside(folder, "hparams")
    places = {row["key"]: inside(root, row["key"]) for row in rows}
    shutil.rmtree(root, ignore_errors=True)
    names = list(dict.fromkeys(name for values in settings.values() for name in values))
    metrics = [name for name in METRICS if any(name in row for row in rows)]
    with tf.summary.create_file_writer(str(root)).as_default():
        api.hparams_config([api.HParam(name) for name in names], [api.Metric(name) for name in metrics])
    for row in rows:
        with tf.summary.create_file_writer(str(places[row["key"]])).as_default(step=0):
            api.hparams(dict(settings[row["key"]]), trial_id=row["key"])
            for name in metrics:
                if row.get(name) is not None:
                    tf.summary.scalar(name, float(row[name]))
