"""Smaller formats: LiteRT for phones, ONNX for other runtimes. Each runs in its own runtime before it is published."""

import contextlib
import importlib.util
import io
import logging
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from kcnn.terminal.quiet import quiet
from trainers.optim.losses import probabilities
from trainers.serving.saved_model import ExportRequest, accuracies, folding, prepared

NEEDS = {"safetensors": ("safetensors",), "litert": ("ai_edge_litert",), "onnx": ("tf2onnx", "onnx", "onnxruntime")}
CLOSE = 1e-3  # of a probability, between a network and the same in another runtime's float32
OPSET = 17  # of ONNX, of 2022: runtimes in use know it
BATCHES = (1, 8, 32)
# How converters name the operations that their format lacks.
LACKING = re.compile(r"(?:TF Select|Custom) ops: ([^\n]+)|Tensorflow op \[[^\]]*?: (\w+)\] is not supported")

Run = Callable[[np.ndarray], np.ndarray]


def need(format: str) -> None:
    """Raises InputError where the packages of a format are not installed."""
    missing = [name for name in NEEDS.get(format, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"format {format} needs {', '.join(missing)}: pip install {' '.join(missing)}")


def save_litert(request: ExportRequest, place: Path) -> dict[str, Any]:
    """Writes place/model/model.tflite: image (1, r, r, 3), pixels from 0 to 255, to probabilities (1, classes).

    The image is float32, or uint8 for int8. Raises InputError for operators that LiteRT lacks, and where accuracy
    is lost.
    """
    served = prepared(request)
    module = tf.Module()
    module.weights, module.serve = [v.value for v in served.model.weights], pixels_in(served.model, request, batch=1)
    path = place / "model" / "model.tflite"
    with converting("LiteRT"):
        tf.saved_model.save(module, str(place / "graph"), signatures={"serving_default": module.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(str(place / "graph"))
        if request.dtype != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if request.dtype == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if request.dtype == "int8":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: ([one[None]] for one in calibration(request))
            converter.inference_input_type = tf.uint8
        path.write_bytes(converter.convert())
    run, fast = litert_runner(path)
    return finished(request, path.parent, one_by_one(run), (1,)) | folding(served) | {"xnnpack": fast}


def calibration(request: ExportRequest) -> Iterator[np.ndarray]:
    """float32 (r, r, 3) images, of which the first has a pixel of 0 and one of 255: then a step of uint8 is 1."""
    if request.calibration is None:
        raise ValueError("int8 needs images to calibrate on")
    images = request.calibration.astype(np.float32)
    images[0, 0, :2] = [[0], [255]]
    return iter(images)


def litert_runner(path: Path) -> tuple[Run, bool]:
    """One image (1, r, r, 3) to (1, classes), in LiteRT's interpreter; and whether its fast kernels take the model.

    XNNPACK refuses some int8 networks, RegNetY's among them; the plain kernels take those.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    def start(kernels: Any) -> Run:
        interpreter = Interpreter(str(path), num_threads=os.cpu_count(), experimental_op_resolver_type=kernels)
        call = interpreter.get_signature_runner("serving_default")
        details = call.get_input_details()["image"]
        kind = details["dtype"]
        call(image=np.zeros(details["shape"], kind))
        return lambda image: call(image=image.astype(kind))["probabilities"]

    with quiet():
        try:
            return start(OpResolverType.AUTO), True
        except RuntimeError:
            return start(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES), False


def one_by_one(run: Run) -> Run:
    """A runner for batches, from one for single images."""
    return lambda images: np.concatenate([run(image[None]) for image in images])


def erfc(graph: Any, node: Any, name: str, args: Any) -> Any:
    """Erfc(x) = 1 - Erf(x), which TensorFlow makes GELU of, and ONNX has no operator for."""
    same = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
    inputs, outputs = list(node.input), list(node.output)
    graph.remove_node(node.name)
    one = graph.make_const(f"{name}_one", np.array(1, np.float32))
    erf = graph.make_node("Erf", inputs, **same)
    return graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=outputs, name=f"{name}_complement", **same)


def save_onnx(request: ExportRequest, place: Path) -> dict[str, Any]:
    """Writes place/model/model.onnx: image float32 (batch, r, r, 3), pixels from 0 to 255, to probabilities.

    Raises InputError for operators that ONNX lacks, and where accuracy is lost.
    """
    import onnx
    import onnxruntime
    import tf2onnx

    served = prepared(request)
    path = place / "model" / "model.onnx"
    serve = pixels_in(served.model, request, batch=None)
    with converting("ONNX"):
        graph, _ = tf2onnx.convert.from_function(
            serve,
            serve.input_signature,
            opset=OPSET,
            output_path=str(path),
            custom_op_handlers={"Erfc": (erfc, [])},
        )
    lacking = {node.op_type for node in graph.graph.node if not node.domain and not onnx.defs.has(node.op_type)}
    if lacking:  # the converter leaves them as they are
        raise InputError(f"ONNX has no operator for {', '.join(sorted(lacking))}")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        return session.run(["probabilities"], {"image": images.astype(np.float32)})[0]

    return finished(request, path.parent, run, BATCHES) | folding(served)


def pixels_in(model: keras.Model, request: ExportRequest, batch: int | None) -> Any:
    """image (batch, r, r, 3), values from 0 to 255, to probabilities (batch, classes)."""
    r = request.config.resolution

    @tf.function(input_signature=[tf.TensorSpec((batch, r, r, 3), tf.float32, name="image")])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": probabilities(model(image, training=False), request.config.multi_label)}

    return serve


@contextlib.contextmanager
def converting(format: str) -> Iterator[None]:
    """Hides a converter's output, and turns its failure into an InputError that names the operators it lacks."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logger = logging.getLogger("tf2onnx")
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    except OSError:
        raise
    except Exception as error:
        names = {name for found in LACKING.findall(said.getvalue() + str(error)) for name in found if name}
        if not names:
            raise
        raise InputError(f"{format} has no operator for {', '.join(sorted(names))}") from error
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def finished(request: ExportRequest, content: Path, run: Run, batches: tuple[int, ...]) -> dict[str, Any]:
    """Compares the export with the network, measures its speed and writes labels.txt. Raises InputError where too much
    is lost."""
    reference = request.reference
    shares = np.concatenate([run(reference.pixels[i : i + 32]) for i in range(0, len(reference.pixels), 32)])
    difference = float(np.abs(shares - reference.probabilities).max())
    if request.dtype == "float32" and not difference <= CLOSE:
        raise InputError(f"its probabilities differ by {difference:.2g} from the model's, over {CLOSE:g}")
    figures = {"max_difference": difference} | accuracies(request, shares)
    for batch in batches:
        seconds = steady(run, reference.pixels[np.arange(batch) % len(reference.pixels)], request.seconds)
        figures |= {f"seconds_batch_{batch}": seconds, f"images_per_second_batch_{batch}": batch / seconds}
    (content / "labels.txt").write_text("\n".join(request.classes) + "\n", encoding="utf-8")
    return figures


def steady(run: Run, images: np.ndarray, limit: float) -> float:
    """The median time of a call in seconds, after a first one: of two calls at least, for `limit` seconds."""
    run(images)
    times: list[float] = []
    while len(times) < 2 or (sum(times) < limit and len(times) < 100):
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
