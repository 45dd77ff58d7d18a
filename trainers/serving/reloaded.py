"""A SavedModel in a process of its own, as a server would load it: TensorFlow alone, no Keras and none of our code.

    python reloaded.py FOLDER SECONDS

FOLDER holds model/, the SavedModel; pictures.tfrecord, encoded images; pixels.npz, the first few of them decoded.
It leaves the answers in answers.npz, measures each batch size for so many seconds, and prints one JSON object of
measured seconds.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.modules["keras"] = sys.modules["kcnn"] = sys.modules["trainers"] = None  # type: ignore[assignment]

import numpy as np
import tensorflow as tf

BATCHES = (1, 8, 32)


def main(folder: Path, limit: float) -> dict[str, float]:
    """Leaves the answers in answers.npz. Returns measured seconds, and images a second by batch size."""
    start = time.perf_counter()
    model = tf.saved_model.load(str(folder / "model"))
    loaded = time.perf_counter() - start
    pictures = tf.constant(list(tf.data.TFRecordDataset(str(folder / "pictures.tfrecord")).as_numpy_iterator()))
    serve = model.signatures["serving_default"]
    start = time.perf_counter()
    serve(image_bytes=pictures[:1])
    first = time.perf_counter() - start
    answers: dict[str, Any] = {}
    for name, call in model.signatures.items():
        for key, value in asked(name, call, pictures, folder).items():
            answers[f"{name}/{key}"] = value.astype(bytes) if value.dtype == object else value
    np.savez(folder / "answers.npz", **answers)
    figures = {"load_seconds": loaded, "first_seconds": first}
    for batch in BATCHES:
        seconds = steady(serve, tf.gather(pictures, tf.range(batch) % len(pictures)), limit)
        figures |= {f"seconds_batch_{batch}": seconds, f"images_per_second_batch_{batch}": batch / seconds}
    return figures


def asked(name: str, call: Any, pictures: tf.Tensor, folder: Path) -> dict[str, np.ndarray]:
    """What one signature answers, with the batches put together again."""
    ((key, spec),) = call.structured_input_signature[1].items()
    if key == "image":
        with np.load(folder / "pixels.npz") as file:
            requests = [tf.cast(file[name], spec.dtype)[None] for name in sorted(file.files)]
    elif name == "classify":
        requests = [tf.constant([example(p) for p in part.numpy()]) for part in parts(pictures)]
    else:
        requests = parts(pictures)
    answers = [call(**{key: request}) for request in requests]
    return {output: np.concatenate([answer[output].numpy() for answer in answers]) for output in answers[0]}


def parts(pictures: tf.Tensor) -> list[tf.Tensor]:
    return [pictures[i : i + max(BATCHES)] for i in range(0, len(pictures), max(BATCHES))]


def example(picture: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture]))
    return tf.train.Example(features=tf.train.Features(feature={"image_bytes": feature})).SerializeToString()


def steady(serve: Any, pictures: tf.Tensor, limit: float) -> float:
    """The median time of an answer in seconds, after a first one: of two answers at least, for `limit` seconds."""
    serve(image_bytes=pictures)
    times: list[float] = []
    while len(times) < 2 or (sum(times) < limit and len(times) < 100):
        start = time.perf_counter()
        serve(image_bytes=pictures)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), float(sys.argv[2]))))
