"""So many training images of each class, and no more: what would fewer, and so what might more of them bring?"""

import functools
from collections import Counter
from dataclasses import replace

import numpy as np

from kcnn.errors import InputError
from trainers.data.splits import Source, Split, digest, indexed_split


def images_per_class(source: Source, count: int, seed: int) -> Source:
    """The source with `count` training images of each class, which the seed draws; validation stays as it is.

    Raises InputError where a class has fewer, and where images have several labels.
    """
    if source.train.label_sets is not None:
        raise InputError(f"images-per-class {count}: images with several labels are in no one class; leave it out")
    chosen = _chosen(source.train, len(source.classes), count, seed)
    for label, name in enumerate(source.classes):
        if len(chosen.get(label, ())) < count:
            has = len(chosen.get(label, ()))
            raise InputError(f"images-per-class {count}: {source.name} has {has} training images of class {name!r}")
    rows = sorted((index, label, image) for label, found in chosen.items() for index, image in found)
    note = f"{len(rows):,} of {source.train.size:,} training images, {count} of each class"
    return replace(
        source, train=_only(source.train, rows, len(source.classes)), note="; ".join(filter(None, [source.note, note]))
    )


def _chosen(split: Split, classes: int, count: int, seed: int) -> dict[int, list[tuple[int, bytes]]]:
    """For each label the indices and strings of its first images, at most so many, in an order that the seed draws."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    full, records = Counter[bool](), split.stream(seed, split.size, 0).take(split.size)
    for record in records.as_numpy_iterator():
        of_class = found.setdefault(int(record["label"]), [])
        if len(of_class) < count:
            of_class.append((int(record["index"]), record["image"]))
            full[len(of_class) == count] += 1
            if full[True] == classes:
                break
    return found


def _only(split: Split, rows: list[tuple[int, int, bytes]], classes: int) -> Split:
    """The split of these records: their indices in the old one, labels and strings."""
    indices, labels, images = zip(*rows, strict=True)

    def name(index: int, _: bytes) -> str:
        return split.describe(indices[index])

    made = indexed_split(images, labels, classes, name, split.load, files=split.files)

    @functools.cache
    def fingerprint() -> str:
        return digest([split.fingerprint().encode(), np.asarray(indices).tobytes()])

    return replace(made, fingerprint=fingerprint)
