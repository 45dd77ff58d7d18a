"""From records to batches of pixels: in a fixed order, in parallel, each worker doing its own share only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data.augment import USUAL, Augmentation, augment
from trainers.data.decoding.images import READ_ERRORS, Cut, decode, eval_image, reason, train_image
from trainers.data.splits import THREADS, Split, as_written, in_order


@dataclass(frozen=True)
class Order:
    """Which training examples a run draws, and in which order; the seed decides it.

    epoch_size: examples in an epoch. batch: examples in a global batch, over all workers. start: the first example
    that is drawn, counted from the beginning of the run. repeats: how often a global batch holds each image (see
    `training_records`).
    """

    seed: int
    epoch_size: int
    batch: int = 1
    start: int = 0
    repeats: int = 1


def train_batches(
    split: Split,
    order: Order,
    resolution: int,
    augmentation: Augmentation = USUAL,
    shard: tuple[int, int] = (0, 1),
    threads: int = THREADS,
) -> tf.data.Dataset:
    """Endless {"image": uint8 (b, r, r, 3), "label": int32 (b,), "index": int64 (b,)}, b = order.batch / W. Where the
    split has sets of labels, "label" is uint8 (b, classes).

    With shard (w, W) each global batch is cut into W blocks, of which this is the w-th. An image depends on (seed,
    epoch, index, copy) alone. Where the split has features, they are the "image".
    """
    seed = order.seed

    @as_written
    def example(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        key = tf.stack([seed * 2**32 + record["epoch"], record.get("copy", 0) * 2**40 + record["index"]])
        image = train_image(
            picture(split, record),
            resolution,
            key,
            crop_scale=(augmentation.crop_scale, 1.0),
            flip=augmentation.flip,
        )
        # `train_image` splits the key into two, which are the first two of any split.
        image = augment(image, tf.random.split(key, 3)[2], augmentation)
        return {"image": image, "label": record["label"], "index": record["index"]}

    batch = order.batch // shard[1]
    records = _share(training_records(split, order), batch, shard)
    if split.features is not None:
        return _labelled(split, _featured(records, split.features, batch, tf.data.INFINITE_CARDINALITY))
    examples = records.map(example, num_parallel_calls=threads)
    return _labelled(split, _batched(examples, batch, tf.data.INFINITE_CARDINALITY))


def picture(split: Split, record: dict[str, tf.Tensor]) -> tf.Tensor | Cut:
    """The encoded bytes of a record, or what was decoded of them before."""
    return split.cut(record["index"]) if split.cut else split.load(record["image"])


def training_records(split: Split, order: Order) -> tf.data.Dataset:
    """The records that `train_batches` reads, in its order (see `Split`); with repeats each has a "copy", int64, too.

    With repeated augmentation (Hoffer et al., https://arxiv.org/abs/1901.09335) a global batch holds each image
    `repeats` times: first the images of copy 0, then the same images of copy 1, and so on. Copies of an image so go
    to different replicas rather than to one, as in DeiT's sampler. The last copy is short where the repeats do not
    divide the batch. An epoch has as many examples as without repeats, and so fewer images.
    """
    seed, epoch_size, batch, start, repeats = order.seed, order.epoch_size, order.batch, order.start, order.repeats
    if not 1 <= epoch_size <= split.size:
        raise InputError(f"epoch_size is {epoch_size}; give 1 to {split.size}, the number of training examples")
    if not 1 <= repeats <= batch:
        raise InputError(f"repeats is {repeats}; give 1 to {batch}, the examples in a batch")
    if repeats == 1:
        return split.stream(seed, epoch_size, start)
    if epoch_size % batch:
        raise InputError(f"epoch_size is {epoch_size}; with repeats, give a multiple of the batch of {batch}")
    images = -(-batch // repeats)

    @as_written
    def repeat(records: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        place = tf.range(batch, dtype=tf.int64)
        return {k: tf.gather(v, place % images) for k, v in records.items()} | {"copy": place // images}

    firsts = split.stream(seed, epoch_size // batch * images, start // batch * images)
    return firsts.batch(images, drop_remainder=True).map(repeat).unbatch().skip(start % batch)


def eval_batches(
    split: Split,
    *,
    batch: int,
    resolution: int,
    crop: float = 0.875,
    method: str = "bilinear",
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Every example once: {"image", "label", "index", "weight": float32 (batch,)}, shapes as in `train_batches`.

    All W shards of (w, W) give the same number of batches. What is missing at the end are black images of weight 0,
    label 0 and index -1. Where the split has features, they are the "image", and any of them fill the end.
    """

    @as_written
    def example(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = record["index"] >= 0
        image = tf.cond(
            real,
            lambda: eval_image(picture(split, record), resolution, crop=crop, method=method),
            lambda: tf.zeros((resolution, resolution, 3), tf.uint8),
        )
        weight = tf.cast(real, tf.float32)
        return {"image": image, "label": record["label"], "index": record["index"], "weight": weight}

    groups = -(-split.size // (batch * shard[1]))
    filler = {"image": b"", "label": 0, "index": tf.constant(-1, tf.int64), "epoch": tf.constant(0, tf.int64)}
    padding = tf.data.Dataset.from_tensors(filler).repeat(groups * batch * shard[1] - split.size)
    records = _share(split.once().concatenate(padding), batch, shard)
    if split.features is not None:
        return _labelled(split, _featured(records, split.features, batch, groups))
    return _labelled(split, _batched(records.map(example, num_parallel_calls=THREADS), batch, groups))


def broken_files(split: Split, records: tf.data.Dataset, count: int | None = None) -> dict[str, str]:
    """The reasons why some of the first `count` records cannot be read or decoded, by their description.

    For use after a pipeline has failed with one of READ_ERRORS, on the same `split.stream(...)` or `split.once()`.
    """
    broken: dict[str, str] = {}
    for record in records.take(-1 if count is None else count):
        try:
            decode(split.load(record["image"]))
        except READ_ERRORS as error:
            broken[split.describe(int(record["index"]))] = reason(error)
    return broken


def _labelled(split: Split, batches: tf.data.Dataset) -> tf.data.Dataset:
    """The batches with the sets of labels in the place of their numbers, where the split has such sets."""
    if split.label_sets is None:
        return batches
    with tf.device("CPU:0"):
        table = tf.constant(split.label_sets)
    return batches.map(as_written(lambda batch: batch | {"label": tf.gather(table, batch["label"])}))


def _share(records: tf.data.Dataset, batch: int, shard: tuple[int, int]) -> tf.data.Dataset:
    if shard[1] == 1:
        return records
    return records.batch(batch, drop_remainder=True).shard(shard[1], shard[0]).unbatch()


def _featured(records: tf.data.Dataset, features: np.ndarray, batch: int, count: int) -> tf.data.Dataset:
    """Batches in which the features of the records stand in the place of their images."""

    @as_written
    def plain(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = tf.cast(record["index"] >= 0, tf.float32)
        return {"label": record["label"], "index": record["index"], "weight": real}

    @as_written
    def with_features(examples: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        rows = tf.numpy_function(lambda index: features[index], [examples["index"]], tf.float32, stateful=False)
        return examples | {"image": tf.ensure_shape(rows, (batch, *features.shape[1:]))}

    return _batched(records.map(plain), batch, count, with_features)


def _batched(
    examples: tf.data.Dataset, batch: int, count: int, then: Callable[[Any], Any] | None = None
) -> tf.data.Dataset:
    batches = examples.batch(batch, drop_remainder=True)
    batches = (batches.map(then) if then else batches).prefetch(2)
    return in_order(batches.apply(tf.data.experimental.assert_cardinality(count)))
