"""The common form of all data sources: records in an order that only (seed, epoch, position) decide."""

import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

THREADS = os.cpu_count() or 1  # threads that read, decode and augment
# For a function that a pipeline maps. AutoGraph would rewrite it and all that it calls, so that Python's `if` and `for`
# could look at tensors; ours do not, and at the start of a run it took a second.
as_written = tf.autograph.experimental.do_not_convert
_RUN = 256  # records made at once: one by one they cost ten times as much


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    A record is {"image": string, "label": int32, "index": int64, "epoch": int64}, all scalars; `load` turns its
    "image" into encoded bytes. Reading is apart so that a worker reads only the files of its own share.
    """

    size: int
    class_counts: tuple[int, ...] | None
    """Examples per class where cheaply known, else None."""
    stream: Callable[[int, int, int], tf.data.Dataset]
    """stream(seed, epoch_size, start): shuffled records without end. The n-th ever drawn, from n = start on, is at
    position n % epoch_size of epoch n // epoch_size; the rest of each epoch's permutation is dropped."""
    once: Callable[[], tf.data.Dataset]
    """Every record once, in the order of their indices, with epoch 0."""
    describe: Callable[[int], str]
    """An index to the name of its image for a person: a path, or "example 17 of digits/train"."""
    load: Callable[[tf.Tensor], tf.Tensor] = tf.identity
    """A record's "image" to its encoded bytes, both scalar strings; a graph function."""
    fingerprint: Callable[[], str] = lambda: ""
    """A hash of the images, their labels and their order: equal hashes give equal runs."""
    files: Callable[[], list[tuple[str, int, str]]] = list
    """For images in files: their paths below the data's folder, their sizes in bytes, and for some a hash of the
    content."""
    cut: Callable[[tf.Tensor], Any] | None = None
    """An index to a picture that was decoded before, an `images.Cut`; a graph function. Then nothing is loaded."""
    label_sets: np.ndarray | None = None
    """Where images have any number of labels: the numbers that records have as labels to the sets of labels, uint8
    (sets, classes) of 0 and 1."""
    features: np.ndarray | None = None
    """What a network trains on in the place of pixels, float32 (size, ...), by index; mostly on the disk."""


@dataclass(frozen=True)
class Source:
    """A data set ready for training; `corrupt` names the files that on_corrupt="skip" left out.

    `test` opens the part that neither training nor validation looks at, where there is one: what is wrong with it is
    found when it is asked for. note: what a user should know of the parts, or "". test_is_val: as in `open_folder`.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    corrupt: tuple[str, ...] = ()
    test: Callable[[], Split] | None = None
    note: str = ""
    test_is_val: bool = False


def indexed_split(
    images: Sequence[bytes] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    classes: int,
    describe: Callable[[int, bytes], str],
    load: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    covered: Callable[[bytes], bytes] = bytes,
    files: Callable[[], list[tuple[str, int, str]]] = list,
) -> Split:
    """A split over one string and one label an example; its stream starts anywhere at no cost.

    `describe` receives an index and its string. `covered` turns a string into the bytes that the fingerprint covers
    besides the label. All strings stay in memory, once.
    """
    size = len(labels)
    with tf.device("CPU:0"):
        strings, targets = tf.constant(images, tf.string), tf.constant(labels, tf.int32)

    def records(index: tf.Tensor, epoch: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"image": tf.gather(strings, index), "label": tf.gather(targets, index), "index": index, "epoch": epoch}

    def stream(seed: int, epoch_size: int, start: int) -> tf.data.Dataset:
        @as_written
        def draw(first: tf.Tensor) -> dict[str, tf.Tensor]:
            n = first + tf.range(_RUN, dtype=tf.int64)
            epoch = n // epoch_size
            return records(shuffled_index(n % epoch_size, size, seed, epoch), epoch)

        return tf.data.Dataset.counter(start, _RUN).map(draw).unbatch()

    def once() -> tf.data.Dataset:
        runs = tf.data.Dataset.range(size).batch(_RUN)
        return runs.map(as_written(lambda index: records(index, tf.zeros_like(index)))).unbatch()

    counts = tuple(int(n) for n in np.bincount(np.asarray(labels, np.int64), minlength=classes))

    @functools.cache  # the data that the run started with, even if files change meanwhile
    def fingerprint() -> str:
        return digest(itertools.chain([targets.numpy().tobytes()], map(covered, strings.numpy())))

    def named(index: int) -> str:
        return describe(index, strings[index].numpy())

    return Split(size, counts, stream, once, named, load, fingerprint, files)


def in_order(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset in a fixed order, with the number of threads that each of its operations names.

    TensorFlow's tuning of that number is off: its thread sleeps for up to a minute, and a pipeline that ends waits.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return dataset.with_options(options)


def digest(parts: Iterable[bytes]) -> str:
    """16 hexadecimal digits that depend on every part and on where it ends. BLAKE2b."""
    whole = hashlib.blake2b(digest_size=8)
    for part in parts:
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()


def shuffled_index(position: tf.Tensor, size: int, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """The indices that stand at `position` in the permutation of range(size) belonging to (seed, epoch).

    All int64 (n,), each with an epoch of its own.
    """
    # The cipher uses as few as 8 bits of each word of its key: bare seeds and epochs would soon repeat an order.
    # At its usual four rounds, 70,000 examples in a row keep a measurable likeness between epochs; at eight none.
    mixed = mixed_bits(seed, epoch)
    key = tf.stack([tf.cast(tf.bitwise.right_shift(mixed, _u64(bits)), tf.uint32) for bits in (0, 16, 32)], -1)
    last = tf.fill(tf.shape(position), tf.constant(size - 1, tf.int64))
    return tf.raw_ops.RandomIndexShuffle(index=position, seed=key, max_index=last, rounds=8)


def mixed_bits(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """64 well mixed bits, uint64 in the shape of `epoch`, of a seed of 0 or more and epochs int64."""
    return _splitmix(tf.cast(epoch, tf.uint64) + _splitmix(tf.constant(seed, tf.uint64)))


def _splitmix(z: tf.Tensor) -> tf.Tensor:
    """SplitMix64 (Steele et al. 2014): neighbours in, unrelated 64-bit numbers out."""
    z = z + _u64(0x9E3779B97F4A7C15)
    z = tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, _u64(30))) * _u64(0xBF58476D1CE4E5B9)
    z = tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, _u64(27))) * _u64(0x94D049BB133111EB)
    return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, _u64(31)))


def _u64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)
