"""A few examples that represent a whole split: they come from every class, in the proportions of the split."""

from dataclasses import replace

import numpy as np
import tensorflow as tf

from trainers.data.splits import Split, as_written

ENOUGH = 50_000  # examples that stand for a larger data set, if all classes are among them
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


def sample(split: Split, count: int, classes: int, seed: int = 0) -> Split:
    """The split with `count` of its examples at most, drawn by `stratified`; its size, counts and `once` change.

    Labels of folders and digits cost nothing to read. A data set of TFDS, which does not know its counts and may be
    sorted by class, must be read to know them: all of it, or if it is large, shuffled, until all classes were seen.
    """
    if count >= split.size:
        return split
    costly = split.class_counts is None and split.size > ENOUGH
    records = split.stream(seed, split.size, 0).take(split.size) if costly else split.once()
    found: list[tuple[np.ndarray, np.ndarray]] = []
    seen: set[int] = set()
    for part in records.map(lambda record: (record["index"], record["label"])).batch(_READ).as_numpy_iterator():
        found.append(part)
        seen.update(part[1].tolist())
        if costly and len(found) * _READ >= ENOUGH and len(seen) == classes:
            break
    indices, labels = map(np.concatenate, zip(*found, strict=True))
    chosen = indices[stratified(labels, count, seed)]
    mask = tf.constant(np.isin(np.arange(split.size), chosen))

    def once() -> tf.data.Dataset:
        return records.filter(lambda record: tf.gather(mask, record["index"])).take(len(chosen))

    return replace(split, size=len(chosen), class_counts=None, once=once)


def only(split: Split, chosen: np.ndarray) -> Split:
    """The split with the images of a mask (size,) alone."""
    mask = tf.constant(chosen)

    def once() -> tf.data.Dataset:
        return split.once().filter(as_written(lambda record: tf.gather(mask, record["index"])))

    return replace(split, size=int(chosen.sum()), class_counts=None, once=once)
