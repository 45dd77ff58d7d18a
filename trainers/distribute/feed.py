"""Distributes the batches of a split over the replicas."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from kcnn.errors import InputError
from trainers.data import READ_ERRORS, Split, broken_files, reason
from trainers.distribute.surroundings import visible_gpus


def distribute(
    strategy: tf.distribute.Strategy, global_batch: int, make: Callable[[int, tuple[int, int]], tf.data.Dataset]
) -> Any:
    """An endless dataset of global batches, each split over the replicas in order.

    make(batch, (w, W)) gives worker w of W its share of each global batch, without end.
    """

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers = context.num_input_pipelines
        local = context.num_replicas_in_sync // workers
        batches = make(global_batch // workers, (context.input_pipeline_id, workers))
        if local > 1:
            batches = batches.flat_map(
                lambda batch: tf.data.Dataset.from_tensor_slices(
                    {k: tf.reshape(x, (local, x.shape[0] // local, *x.shape[1:])) for k, x in batch.items()}
                )
            )
        # Workers that might run out of data at different times would lose their static shapes.
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    if isinstance(strategy, tf.distribute.OneDeviceStrategy) and not visible_gpus():
        # A CPU has its batches where they are made. TensorFlow's iterator over devices would fetch them by a pipeline
        # of its own, whose end waits for a thread that sleeps for up to a minute.
        return pipeline(tf.distribute.InputContext())
    return strategy.distribute_datasets_from_function(pipeline)


@contextlib.contextmanager
def naming_broken(split: Split, records: Callable[[], tuple[tf.data.Dataset, int | None]]) -> Iterator[None]:
    """Turns an input pipeline's failure into an InputError that names the broken files among `records`."""
    try:
        yield
    except (
        tf.errors.InvalidArgumentError,
        tf.errors.NotFoundError,
        tf.errors.PermissionDeniedError,
        tf.errors.UnknownError,
        tf.errors.FailedPreconditionError,
        tf.errors.DataLossError,
        UnicodeDecodeError,
    ) as error:
        try:
            broken = broken_files(split, *records())
        except READ_ERRORS as damage:
            raise InputError(f"the data cannot be read: {reason(damage)}") from damage
        if not broken:
            raise
        name, why = next(iter(broken.items()))
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise InputError(f"broken image {name}: {why}{more}; mend or remove it, or use --on-corrupt skip") from error
