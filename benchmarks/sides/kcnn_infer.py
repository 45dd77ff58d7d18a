"""A side that asks an exported network: `python -m benchmarks.sides.kcnn_infer NETWORK BATCH PIXELS WAY`.

The network has random weights and is exported with its normalizations folded, as `kcnn export` does. WAY is network
(the SavedModel's own function of pixels of the right size), served (its signature image_uint8, which crops and
resizes before, and names classes after) or onnx (the export to ONNX, run by onnxruntime).
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import kcnn  # noqa: F401  (its layers are registered)
from benchmarks.turns import requests
from trainers.config import TrainConfig
from trainers.network import network
from trainers.serving.folding import fold
from trainers.serving.signatures import make_signatures
from trainers.settings import resolve

CLASSES = 1000


def main() -> None:
    name, batch, side, way = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    config = resolve(TrainConfig(arch=name, resolution=side))
    served = fold(network(config, CLASSES)).model
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        ask = onnx(served, pixels, folder) if way == "onnx" else saved_model(served, config, pixels, folder, way)
    for steps in requests():
        for _ in range(steps):
            ask()


def saved_model(served: Any, config: Any, pixels: np.ndarray, folder: str, way: str) -> Any:
    classes = tuple(f"class {i}" for i in range(CLASSES))
    owner, signatures = make_signatures(served, config, classes, ("image_uint8",))
    tf.saved_model.save(owner, folder, signatures=signatures)
    loaded, images = tf.saved_model.load(folder), tf.constant(pixels)
    if way == "network":
        return lambda: loaded.network(images)[1].numpy()
    signature = loaded.signatures["image_uint8"]
    return lambda: {key: value.numpy() for key, value in signature(image=images).items()}


def onnx(served: Any, pixels: np.ndarray, folder: str) -> Any:
    import onnxruntime
    import tf2onnx

    from trainers.serving.formats import OPSET

    path, side = Path(folder, "model.onnx"), pixels.shape[1]

    @tf.function(input_signature=[tf.TensorSpec((None, side, side, 3), tf.float32, name="image")])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(served(image, training=False))}

    tf2onnx.convert.from_function(serve, serve.input_signature, opset=OPSET, output_path=str(path))
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    images = pixels.astype(np.float32)
    return lambda: session.run(["probabilities"], {"image": images})[0]


if __name__ == "__main__":
    main()
