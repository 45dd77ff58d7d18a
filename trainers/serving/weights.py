"""Weights alone, as safetensors: by our names of tensors, with the network and the classes beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

import kcnn
from kcnn.errors import InputError
from kcnn.notation import to_data
from trainers.serving.references import probabilities
from trainers.serving.saved_model import SAME, ExportRequest, accuracies


def save_safetensors(request: ExportRequest, place: Path) -> dict[str, Any]:
    """Writes place/model/model.safetensors, which `--weights` and `kcnn.build(weights=...)` read.

    It is read back into a network that is built anew. Raises InputError for a network of one's own, and where the new
    one answers otherwise.
    """
    from safetensors.numpy import save_file

    config, reference = request.config, request.reference
    if config.own_network:
        raise InputError("format safetensors: no architecture describes a network of your own; model.keras holds it")
    weights = {v.path: np.ascontiguousarray(v.numpy()) for v in request.model.weights if "seed_generator" not in v.path}
    about = {
        "format": "kcnn",
        "arch": json.dumps(to_data(config.arch)),
        "classes": json.dumps(list(request.classes)),
        "crop": json.dumps(config.eval_crop),
        "interpolation": config.interpolation,
    }
    path = place / "model" / "model.safetensors"
    save_file(weights, path, metadata=about)
    again = kcnn.build(config.arch, len(request.classes), weights=str(path), stem="standard")
    shares = probabilities(again, reference.pixels)
    difference = float(np.abs(shares - reference.probabilities).max())
    if not difference <= SAME:
        raise InputError(f"read back, its probabilities differ by {difference:.2g} from the model's, over {SAME:g}")
    (path.parent / "labels.txt").write_text("\n".join(request.classes) + "\n", encoding="utf-8")
    return {"max_difference": difference, "folded": 0, "kept": 0} | accuracies(request, shares)
