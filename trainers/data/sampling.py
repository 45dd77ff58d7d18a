"""A few examples that stand for a whole split: from every class, in the proportions of the split."""

from dataclasses import replace

import numpy as np
import tensorflow as tf

from trainers.data.splits import Split

_READ = 4096  # labels read at once


def stratified(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """The indices of `count` examples, ascending: of each class as many as its share of the labels, rounded.

    Every class has one if `count` allows. The same labels, count and seed give the same examples.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = labels[order]
    grouped = np.argsort(shuffled, kind="stable")
    rank = np.empty(len(labels), np.int64)  # of each example within its class
    rank[grouped] = np.arange(len(labels)) - np.searchsorted(shuffled[grouped], shuffled[grouped])
    # Classes take turns: example r = 0, 1, ... of a class of n comes at (r + 1/2) / n, but each class's first at once.
    turn = np.where(rank, (rank + 0.5) / np.bincount(labels)[shuffled], 0)
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def sample(split: Split, count: int, seed: int = 0) -> Split:
    """The split with `count` of its examples at most, drawn by `stratified`; its size, counts and `once` change.

    The labels are read in one pass over the split. For folders and digits that reads no image; a data set of TFDS,
    which does not know its counts and may be sorted by class, is read from end to end.
    """
    if count >= split.size:
        return split
    labels = np.concatenate([*split.once().map(lambda record: record["label"]).batch(_READ).as_numpy_iterator()])
    chosen = stratified(labels, count, seed)
    mask = tf.constant(np.isin(np.arange(len(labels)), chosen))

    def once() -> tf.data.Dataset:
        return split.once().filter(lambda record: tf.gather(mask, record["index"])).take(len(chosen))

    return replace(split, size=len(chosen), class_counts=None, once=once)
