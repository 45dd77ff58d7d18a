"""The input pipeline against bare decoding of the same files, and against other libraries' transforms where installed.

All sides run in one process, in turn, on the same JPEGs of 300 to 500 pixels: TensorFlow's decoding of the whole files
by as many threads, and Pillow's by one; our random crops of 224 pixels, mirrored and in batches; and torchvision's and
timm's, image by image, without a process of their own. Shown are medians of the processor's and of the wall clock's
time, and the rate relative to bare decoding (1: as fast). Load on the machine shows in the wall clock first.

    python -m benchmarks.input --rounds 7
"""

import gc
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

Step = Callable[[], Any]  # makes some images
BARE = "decoding alone"
_AHEAD = 4  # batches that a pipeline may have ready


def compare(
    *,
    rounds: Annotated[int, Parameter(help="Turns of each side.")] = 7,
    batch_size: Annotated[int, Parameter(help="Images in a batch.")] = 32,
    batches: Annotated[int, Parameter(help="Batches in a turn.")] = 12,
    resolution: Annotated[int, Parameter(help="Pixels.")] = 224,
    quality: Annotated[int, Parameter(help="Of the JPEGs; 96 gives about 0.5 bytes a pixel.")] = 96,
    json: Annotated[bool, Parameter(negative="", help="Print the figures as JSON, as the last line.")] = False,
) -> dict[str, Any]:
    """Time the input pipeline against bare decoding of the same files."""
    with tempfile.TemporaryDirectory() as folder:
        bytes_a_pixel = make_files(Path(folder), 8 * batch_size, quality)
        steps = sides(folder, batch_size, resolution)
        figures = timed(steps, rounds, batches, batch_size)
    print(f"{bytes_a_pixel:.2f} bytes a pixel; milliseconds an image")
    bare = figures[BARE]["cpu"]
    for name, row in figures.items():
        row["ratio"] = bare / row["cpu"]
        print(f"{name:<28} cpu {row['cpu']:.2f}   wall {row['wall']:.2f}   rate {row['ratio']:.2f}")
    return {"bytes_a_pixel": bytes_a_pixel, "milliseconds": figures}


def make_files(folder: Path, count: int, quality: int) -> float:
    """JPEGs cut from scikit-learn's two photographs; returns their bytes a pixel."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    draws, size, pixels = np.random.default_rng(0), 0, 0
    for name in ("china", "flower"):
        picture = load_sample_image(f"{name}.jpg")
        for part, n in (("train", count // 2), ("val", 2)):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(n):
                height, width = draws.integers(300, 427), draws.integers(300, 500)
                top, left = draws.integers(0, 427 - height), draws.integers(0, 640 - width)
                path = place / f"{i}.jpg"
                Image.fromarray(picture[top : top + height, left : left + width]).save(path, quality=quality)
                size, pixels = size + path.stat().st_size, pixels + height * width
    return size / pixels


def sides(folder: str, batch: int, resolution: int) -> dict[str, Step]:
    """What makes a batch of images, by name."""
    import tensorflow as tf

    from trainers.data import Order, open_data, train_batches
    from trainers.data.splits import THREADS, in_order

    paths = [str(path) for path in sorted(Path(folder).glob("train/*/*.jpg"))]

    def whole(path: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_jpeg(tf.io.read_file(path), channels=3)

    files = tf.data.Dataset.from_tensor_slices(paths).repeat()
    bare = iter(in_order(files.map(whole, num_parallel_calls=THREADS).prefetch(2 * batch)))
    ours = iter(train_batches(open_data(folder).train, Order(0, len(paths), batch), resolution))
    steps: dict[str, Step] = {
        BARE: lambda: [next(bare) for _ in range(batch)],
        "kcnn": lambda: next(ours),
    }
    return steps | peers(paths, batch, resolution)


def peers(paths: list[str], batch: int, resolution: int) -> dict[str, Step]:
    from PIL import Image

    def pictures() -> Iterator[Image.Image]:
        for path in itertools.cycle(paths):
            yield Image.open(io.BytesIO(Path(path).read_bytes())).convert("RGB")

    def step(function: Callable[[Image.Image], Any]) -> Step:
        source = pictures()
        return lambda: [function(next(source)) for _ in range(batch)]

    steps: dict[str, Step] = {"Pillow's decoding alone": step(lambda picture: picture)}
    try:
        import torch
        from torchvision import transforms
    except (ImportError, RuntimeError):
        return steps
    torch.set_num_threads(1)
    crop = [transforms.RandomResizedCrop(resolution), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    steps["torchvision"] = step(transforms.Compose(crop))
    try:
        from timm.data import create_transform
    except ImportError:
        return steps
    steps["timm"] = step(create_transform(resolution, is_training=True, color_jitter=0, interpolation="bilinear"))
    return steps


def timed(steps: dict[str, Step], rounds: int, batches: int, batch: int) -> dict[str, dict[str, float]]:
    """Milliseconds an image, {"cpu", "wall"} by name: medians over rounds in which each has its turn."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(3):
            step()
    gc.disable()
    for _ in range(rounds):
        for name, step in steps.items():
            time.sleep(0.4)  # until the batches ahead are ready, before and after
            cpu, wall = time.process_time(), 0.0
            for i in range(batches):
                step()
                if i + 1 == _AHEAD:
                    wall = time.perf_counter()  # from here on each batch is waited for
            wall = (time.perf_counter() - wall) * batches / (batches - _AHEAD)
            time.sleep(0.4)
            times[name].append((time.process_time() - cpu, wall))
    gc.enable()
    scale = 1000 / batches / batch
    return {
        name: {what: scale * statistics.median(t[i] for t in turns) for i, what in enumerate(("cpu", "wall"))}
        for name, turns in times.items()
    }


if __name__ == "__main__":
    from kcnn.terminal import cli

    cli.run(compare, "python -m benchmarks.input")
