"""Warm-up requests: TensorFlow Serving runs them through a new version before it serves other requests.

The file is a TFRecord of PredictionLog messages. Their few fields are written here by number, so that an export is
the same with and without the package of the official messages:
https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/prediction_log.proto
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

PLACE = Path("assets.extra") / "tf_serving_warmup_requests"


def write(folder: Path, name: str, signatures: Iterable[str], resolution: int) -> None:
    """Writes one request with a made-up picture for each signature into an exported model's folder.

    Servers use the first 1000 records. `name` is the model's, which they do not compare.
    """
    pixels = gradient(resolution)
    picture = tf.io.encode_jpeg(pixels).numpy()
    (folder / PLACE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / PLACE)) as file:
        for signature in signatures:
            if signature == "classify":
                file.write(classification_log(name, signature, picture))
            elif signature in ("image", "image_uint8"):
                kind = np.uint8 if signature == "image_uint8" else np.float32
                file.write(prediction_log(name, signature, "image", pixels[None].astype(kind)))
            else:
                file.write(prediction_log(name, signature, "image_bytes", np.array([picture], object)))


def gradient(side: int) -> np.ndarray:
    """A made-up picture, uint8 (side, side, 3): each channel goes from dark to light in its own direction."""
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    across = np.broadcast_to(ramp, (side, side))
    return np.stack([across, across.T, across[::-1].T], -1)


def prediction_log(name: str, signature: str, key: str, value: np.ndarray) -> bytes:
    """PredictionLog.predict_log.request: model_spec, and inputs, a map whose entries are messages of key and value."""
    tensor = tf.make_tensor_proto(value).SerializeToString()
    request = field(1, model_spec(name, signature)) + field(2, field(1, key.encode()) + field(2, tensor))
    return field(6, field(1, request))


def classification_log(name: str, signature: str, picture: bytes) -> bytes:
    """PredictionLog.classify_log.request: model_spec, and input.example_list.examples."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture]))
    example = tf.train.Example(features=tf.train.Features(feature={"image_bytes": feature}))
    request = field(1, model_spec(name, signature)) + field(2, field(1, field(1, example.SerializeToString())))
    return field(2, field(1, request))


def model_spec(name: str, signature: str) -> bytes:
    return field(1, name.encode()) + field(3, signature.encode())


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field in the wire format of protocol buffers."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(n: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)
