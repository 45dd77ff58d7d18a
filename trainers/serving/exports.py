"""Exports of a run: each is one new version in one format, checked and described."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

import kcnn.weights
from kcnn.errors import InputError
from kcnn.pyramid import layer_of
from trainers.data.held_out import open_held_out
from trainers.multilabel.outcome import read_thresholds
from trainers.runs import files
from trainers.runs.checkpoints import need_finite
from trainers.runs.folders import is_run
from trainers.runs.typed import brief
from trainers.serving import formats, saved_model
from trainers.serving.model_card import about_run, model_card
from trainers.serving.references import eval_pixels, made_up, make_reference, samples
from trainers.serving.saved_model import ExportRequest
from trainers.serving.versions import publish, workplace
from trainers.serving.weights import save_safetensors
from trainers.transfer.pretrained import load_network

WRITERS: dict[str, Callable[[ExportRequest, Path], dict[str, Any]]] = {
    "saved_model": saved_model.save,
    "litert": formats.save_litert,
    "onnx": formats.save_onnx,
    "safetensors": save_safetensors,
}
DTYPES = {
    "saved_model": ("float32", "bfloat16"),
    "litert": ("float32", "float16", "int8"),
    "onnx": ("float32",),
    "safetensors": ("float32",),
}
CALIBRATION = 200  # training images on which int8's ranges are measured
MADE_UP = 32
MOST = 2**31 - 1  # pixels, images or classes: TensorFlow's tensors have no more elements


def export_run(
    run: str,
    *,
    out: str | None = None,
    checkpoint: str = "last",
    format: str = "saved_model",
    dtype: str = "float32",
    images: int = 100,
    data: str | None = None,
    temperature: float = 1.0,
    **options: Any,
) -> dict[str, Any]:
    """Writes the next version of a run's network and returns its figures. Raises InputError.

    images: how many images of the validation split are compared. data: other data than the run's, from which these
    images and those for calibration are taken. temperature: by which the logits are divided (see
    `trainers.reports.calibration`). Further options are those of `ExportRequest`.
    """
    refuse_impossible(format, dtype, images, options | {"temperature": temperature})
    folder = versions_folder(run, out, format)
    about = about_run(Path(run))
    model, config, classes = load_network(run, checkpoint)
    if temperature != 1:
        if config.multi_label:
            raise InputError(f"temperature {temperature:g}: it is for images of one label; leave it out")
        divide_logits(model, temperature)
        about["temperature"] = temperature
    calibration = None
    try:
        held_out = open_held_out(config, classes, run, data)
    except InputError as error:
        if data is not None or dtype == "int8":
            raise
        print(f"made-up pictures are compared, not the run's: {error}", file=sys.stderr)
        pictures, labels = made_up(min(images, MADE_UP), config.resolution)
    else:
        pictures, labels = samples(held_out.split, images, len(classes))
        labels = [-1] * len(pictures) if config.multi_label else labels  # no likeliest class is the right one
        if dtype == "int8":
            train = open_held_out(config, classes, run, data, "train").split
            calibration = eval_pixels(samples(train, CALIBRATION, len(classes))[0], config)
    tell(f"asking it about {len(pictures)} pictures")
    reference = make_reference(model, config, pictures, labels)
    need_finite(reference.probabilities, "a probability that the network gives", checkpoint)
    if config.multi_label:
        options["thresholds"] = read_thresholds(Path(run), checkpoint, len(classes))
    request = ExportRequest(model, config, classes, reference, dtype=dtype, calibration=calibration, **options)
    return export(request, folder, format, {"checkpoint": checkpoint} | about)


def tell(stage: str) -> None:
    """Says what an export is about to do, which may take a minute."""
    print(f"{time.strftime('%H:%M:%S')}  {stage}", file=sys.stderr, flush=True)


def refuse_impossible(format: str, dtype: str, images: int, options: dict[str, Any]) -> None:
    """Raises InputError for flags that no export can have."""
    if dtype not in DTYPES[format]:
        raise InputError(f"dtype {dtype} for {format}: one of {', '.join(DTYPES[format])} is needed")
    for key, value in (options | {"images": images}).items():
        if key in ("images", "top", "max_pixels") and not 1 <= value <= MOST:
            raise InputError(f"{key.replace('_', '-')} {brief(value, 40)}: a whole number from 1 to {MOST} is needed")
    if not 0 <= options.get("tolerance", 0) <= 1:
        raise InputError(f"tolerance {options['tolerance']}: a share from 0 to 1 is needed")
    if not 0.01 <= options["temperature"] <= 100:
        raise InputError(f"temperature {options['temperature']:g}: a number from 0.01 to 100 is needed")
    formats.need(format)


def divide_logits(model: keras.Model, temperature: float) -> None:
    """Divides the weights of a network's classifier, and so its logits, by the temperature. Raises InputError."""
    last = layer_of(model.outputs[0])
    if (
        not isinstance(last, keras.layers.Dense | keras.layers.Conv2D)
        or last.activation is not keras.activations.linear
    ):
        raise InputError(f"temperature {temperature:g}: the logits of {model.name} do not come from a linear layer")
    for weight in last.weights:
        weight.assign(weight / temperature)


def versions_folder(run: str, out: str | None, format: str) -> Path:
    """The folder of the versions: --out, or RUN/<format>. Raises InputError."""
    if out == "":
        raise InputError("out '': the name of a folder is needed")
    if out is None and not is_run(Path(run)) and kcnn.weights.network_of(run) is not None:
        raise InputError(f"an export of {run}, which is no run, needs --out, the folder of its versions")
    folder = Path(run) / format if out is None else Path(out)
    if out is None and folder.is_symlink():
        raise InputError(f"{folder} is a symbolic link, which a run does not follow: name its target with --out")
    return folder


def export(
    request: ExportRequest, folder: Path, format: str = "saved_model", about: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Writes folder/<version>/, the next free one, in one step: the model, its labels and model_card.json."""
    with workplace(folder) as place:
        content = place / "model"
        content.mkdir()
        tell(f"writing it as {format} in {request.dtype}, and asking that about the same pictures")
        figures = {"format": format, "dtype": request.dtype} | WRITERS[format](request, place)
        if request.thresholds:
            figures["thresholds"] = dict(zip(request.classes, request.thresholds, strict=True))
        card = model_card(request.config, request.classes, content, figures) | (about or {})
        files.write_json(content / "model_card.json", card)
        path = publish(content, folder)
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return {"path": str(path), "bytes": size, "classes": len(request.classes)} | figures
