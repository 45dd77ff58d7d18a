"""Processes that train as one: which of them writes, what it tells the others, and what happens when one vanishes."""

import contextlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from kcnn.errors import InputError, Interrupted

T = TypeVar("T")

PART = 2**24  # int32 numbers sent at once


class WorkerLost(Interrupted):
    """Another worker vanished; the run can go on from its last checkpoint."""


def count(strategy: tf.distribute.Strategy | None) -> int:
    """The number of processes that train together: 1, but with a multi-worker strategy."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return sum(len(tasks) for tasks in strategy.cluster_resolver.cluster_spec().as_dict().values())


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is the one that writes: the chief, or worker 0 where none is called so."""
    if not strategy or count(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker" and resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs
    )


def total(strategy: tf.distribute.Strategy | None, values: np.ndarray) -> np.ndarray:
    """The sum of the workers' values, the same on all; int32 or float32, of one shape."""
    if not strategy or count(strategy) == 1:
        return values
    mine = iter([values])  # for the first of this worker's replicas
    shares = strategy.experimental_distribute_values_from_function(
        lambda _: tf.constant(next(mine, np.zeros_like(values)))
    )
    return strategy.reduce(tf.distribute.ReduceOp.SUM, shares, axis=None).numpy()


def mean(strategy: tf.distribute.Strategy | None, values: Sequence[float]) -> list[float]:
    """The means of the workers' numbers."""
    return [float(v) for v in total(strategy, np.array(values, np.float32)) / count(strategy)]


def from_chief(strategy: tf.distribute.Strategy | None, make: Callable[[], T]) -> T:
    """What make() gives on the chief, or the InputError it raises there, for all; the others do not call it."""
    if count(strategy) == 1:
        return make()
    words = np.zeros(0, np.int32)
    if is_chief(strategy):
        try:
            answer: Any = make()
        except InputError as error:
            answer = error
        data = pickle.dumps(answer)
        words = np.frombuffer(data + b"\0" * (-len(data) % 4), np.int32)
    size = int(total(strategy, np.array([len(words)], np.int32))[0])
    words = words if is_chief(strategy) else np.zeros(size, np.int32)
    parts = [total(strategy, words[start : start + PART]) for start in range(0, size, PART)]
    answer = pickle.loads(np.concatenate(parts).tobytes())
    if isinstance(answer, InputError):
        raise answer
    return answer


@contextlib.contextmanager
def noticing_loss(strategy: tf.distribute.Strategy, folder: Any) -> Iterator[None]:
    """Turns what TensorFlow raises when another worker is gone into WorkerLost."""
    try:
        yield
    except tf.errors.OpError as error:
        if count(strategy) == 1:
            raise
        kind = type(error).__name__
        raise WorkerLost(f"another worker has vanished ({kind}); start all again with --resume {folder}") from error
