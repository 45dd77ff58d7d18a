"""SavedModels, from encoded pictures to classes; each is checked before it is published."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import InputError
from trainers.data import decode, eval_array
from trainers.network import network
from trainers.serving import warmup
from trainers.serving.folding import Folded, fold
from trainers.serving.references import Reference, probabilities
from trainers.serving.signatures import MAX_PIXELS, METHODS, NAMES, make_signatures
from trainers.serving.versions import no_room
from trainers.settings import RunConfig
from trainers.state import precision

SAME = 1e-5  # of a probability, between the same operations here and in another process
FOLDED = 1e-4  # between a network and its folded form
RELOADED = Path(__file__).with_name("reloaded.py")
PIXELS = 2**28  # bytes of decoded pictures that are handed over for the comparison


@dataclass(frozen=True)
class ExportRequest:
    """The network to export, in float32, and the options of the export. reference: its probabilities of real images.

    tolerance: the largest loss of accuracy, a share, that a smaller format may cost. calibration: uint8
    (n, r, r, 3), for those formats that need to see images. seconds: how long the speed at one batch size is measured.
    thresholds: from which probability on each class is named, where images have any number of labels.
    """

    model: keras.Model
    config: RunConfig
    classes: tuple[str, ...]
    reference: Reference
    dtype: str = "float32"
    fold_bn: bool = True
    signatures: tuple[str, ...] = NAMES
    top: int = 5
    max_pixels: int = MAX_PIXELS
    tolerance: float = 0.01
    calibration: np.ndarray | None = None
    seconds: float = 0.5
    thresholds: tuple[float, ...] | None = None


def save(request: ExportRequest, place: Path) -> dict[str, Any]:
    """Writes the SavedModel as place/model and returns its figures; what else is in `place` is not kept.

    Raises InputError if it does not load in a process with TensorFlow alone, or answers differently there.
    """
    served, content = prepared(request), place / "model"
    owner, signatures = make_signatures(
        served.model,
        request.config,
        request.classes,
        request.signatures,
        top=request.top,
        max_pixels=request.max_pixels,
        thresholds=request.thresholds,
    )
    tf.saved_model.save(owner, str(content), signatures=signatures)
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(content))
    for name in METHODS.keys() & signatures.keys():
        updater.replace_method_name(name, METHODS[name])
    updater.save(str(content))
    (content / "assets" / "labels.txt").write_text("\n".join(request.classes) + "\n", encoding="utf-8")
    warmup.write(content, request.config.name, signatures, request.config.resolution)
    return {"signatures": list(signatures)} | folding(served) | verify(request, bool(served.folded), place)


def prepared(request: ExportRequest) -> Folded:
    """The network as it will be served: in the requested precision, with normalizations folded if requested."""
    model = request.model
    if request.dtype == "bfloat16":
        with precision("mixed_bfloat16"):
            model = network(request.config, len(request.classes))
        model.set_weights(request.model.get_weights())
    return fold(model, norms=request.fold_bn)


def folding(served: Folded) -> dict[str, Any]:
    """How many normalizations were folded, and how many were kept."""
    return {"folded": len(served.folded), "kept": len(served.kept)}


def verify(request: ExportRequest, folded: bool, place: Path) -> dict[str, Any]:
    """Loads place/model in a process of its own and compares what all its signatures answer there.

    Raises InputError where it does not load, or answers differently.
    """
    reference, config = request.reference, request.config
    decoded = some_decoded(reference.pictures)
    fitted = np.stack(
        [eval_array(image, config.resolution, crop=config.eval_crop, method=config.interpolation) for image in decoded]
    )
    same = np.array_equal(fitted, reference.pixels[: len(fitted)])  # they may differ in the last bits of a crop
    of_pixels = (
        reference.probabilities[: len(fitted)] if same else probabilities(request.model, fitted, config.multi_label)
    )
    arrays: dict[str, Any] = {f"{i:06}": image for i, image in enumerate(decoded)}
    np.savez(place / "pixels.npz", **arrays)
    with tf.io.TFRecordWriter(str(place / "pictures.tfrecord")) as file:
        for picture in reference.pictures:
            file.write(picture)
    seconds = reload(place, request.seconds)
    with np.load(place / "answers.npz") as file:
        answers = dict(file)
    names = {key.split("/")[0] for key in answers}
    for key, values in answers.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            signature, output = key.split("/")
            raise InputError(
                f"not all {output} that the export's signature {signature} gives are finite numbers: "
                f"{request.dtype} has not the range that this network needs"
            )
    differences = {
        name: difference(answers, name, of_pixels if "image" in name else reference.probabilities, request.classes)
        for name in sorted(names - {"features"})
    }
    largest, limit = max(differences.values()), FOLDED if folded else SAME
    if request.dtype == "float32" and not largest <= limit:
        hint = "; --no-fold-bn leaves normalizations as they are" if folded else ""
        raise InputError(f"the export's probabilities differ by {largest:.2g} from the model's, over {limit:g}{hint}")
    shares = answers["serving_default/probabilities"]
    return {"max_difference": largest, "differences": differences} | accuracies(request, shares) | seconds


def some_decoded(pictures: list[bytes]) -> list[np.ndarray]:
    """The first of the pictures, uint8 (h, w, 3), as many as memory allows."""
    decoded, size = [], 0
    for picture in pictures:
        decoded.append(decode(tf.constant(picture)).numpy())
        size += decoded[-1].nbytes
        if size > PIXELS:
            break
    return decoded


def reload(place: Path, seconds: float) -> dict[str, float]:
    """Runs reloaded.py over the folder and returns its figures. Raises InputError."""
    command = [sys.executable, "-P", str(RELOADED), str(place), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        if reason := no_room(last):
            raise InputError(f"cannot write to {place}: {reason}")
        raise InputError(f"the export does not load again: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def difference(answers: dict[str, np.ndarray], name: str, expected: np.ndarray, classes: tuple[str, ...]) -> float:
    """The largest difference between a signature's probabilities, by the names that it gives them, and the expected."""
    names = answers[f"{name}/classes" if name == "classify" else f"{name}/labels"]
    index = {label.encode(): i for i, label in enumerate(classes)}
    ids = np.array([[index[label] for label in row] for row in names])
    differences = [answers[f"{name}/scores"] - np.take_along_axis(expected, ids, -1)]
    if name != "classify":
        differences.append(answers[f"{name}/probabilities"] - expected)
    return float(max(np.abs(d).max() for d in differences))


def accuracies(request: ExportRequest, shares: np.ndarray) -> dict[str, Any]:
    """Accuracy before and after, and the share of images whose likeliest class stayed. Raises InputError.

    What is lost must be within the request's tolerance; without labels, the share that changed.
    """
    if not np.isfinite(shares).all():
        raise InputError(f"{request.dtype}: the probabilities are not all finite numbers; choose --dtype float32")
    reference = request.reference
    before, after = reference.accuracy(reference.probabilities), reference.accuracy(shares)
    agreement = float(np.mean(shares.argmax(-1) == reference.probabilities.argmax(-1)))
    loss = 1 - agreement if before is None or after is None else before - after
    if not loss <= request.tolerance:
        what = (
            f"top-1 falls by {loss:.1%} on {len(shares)} images"
            if before is not None
            else (f"the likeliest class is another on {loss:.1%} of {len(shares)} pictures")
        )
        raise InputError(f"{request.dtype}: {what}, more than the tolerance of {request.tolerance:.1%}")
    return {"images": len(shares), "accuracy_before": before, "accuracy": after, "agreement": agreement}
