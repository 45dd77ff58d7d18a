"""A side that makes batches of random crops: `python -m benchmarks.sides.input WAY BATCH PIXELS FOLDER`.

WAY is kcnn (the pipeline of a run), decode (TensorFlow's decoding of the whole files and no more, by as many threads),
torchvision or timm (their usual transforms in a DataLoader with a worker process a core). Before a turn the batches
that lie ready are taken away, so that each batch of the turn is waited for; after it the loader fills up again.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.turns import requests

AHEAD = 4  # batches that a pipeline may have ready
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    way, batch, side, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    source = {"kcnn": ours, "decode": decoding, "torchvision": torch_loader, "timm": torch_loader}[way]
    batches = source(folder, batch, side, way)
    for steps in requests(before=lambda: [next(batches) for _ in range(AHEAD)], after=lambda: time.sleep(0.5)):
        for _ in range(steps):
            next(batches)


def ours(folder: str, batch: int, side: int, way: str) -> Iterator[Any]:
    from trainers.data import Order, open_data, train_batches

    split = open_data(folder).train
    return iter(train_batches(split, Order(0, len(list(Path(folder).glob("train/*/*"))), batch), side))


def decoding(folder: str, batch: int, side: int, way: str) -> Iterator[Any]:
    import tensorflow as tf

    from trainers.data.splits import THREADS, in_order

    paths = [str(path) for path in sorted(Path(folder).glob("train/*/*.jpg"))]
    files = tf.data.Dataset.from_tensor_slices(paths).repeat()
    images = files.map(lambda path: tf.io.decode_jpeg(tf.io.read_file(path), channels=3), num_parallel_calls=THREADS)
    images = iter(in_order(images.prefetch(2 * batch)))
    while True:
        yield [next(images) for _ in range(batch)]


def torch_loader(folder: str, batch: int, side: int, way: str) -> Iterator[Any]:
    import torch
    from torchvision import datasets, transforms

    if way == "timm":
        from timm.data import create_transform

        transform = create_transform(side, is_training=True, color_jitter=0, interpolation="bilinear")
    else:
        steps = [transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
        transform = transforms.Compose(steps)
    images = datasets.ImageFolder(f"{folder}/train", transform)
    loader = torch.utils.data.DataLoader(
        images, batch, shuffle=True, num_workers=CORES, drop_last=True, persistent_workers=True
    )
    while True:
        yield from loader


if __name__ == "__main__":
    main()
