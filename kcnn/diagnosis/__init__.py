"""Why a network is good or not: what it is made of, what it makes of images, and what stands out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kcnn.analysis import Facts, facts
from kcnn.diagnosis.advice import Finding, findings, told
from kcnn.diagnosis.architecture import Architecture, architecture
from kcnn.diagnosis.representation import Representation, representation
from kcnn.errors import InputError

if TYPE_CHECKING:
    import keras

Batches = Iterable[tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class Diagnosis:
    """findings: what stands out, the most important first; empty where nothing does."""

    facts: Facts
    architecture: Architecture
    representation: Representation
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns it ready for JSON."""
        return {
            "name": self.facts.name,
            "resolution": self.facts.resolution,
            "architecture": self.architecture.to_dict(),
            "representation": self.representation.to_dict(),
            "findings": told(self.findings),
        }


def diagnose(
    model: "keras.Model", images: np.ndarray | Batches, labels: np.ndarray | None = None, batch_size: int = 16
) -> Diagnosis:
    """Diagnoses a functional Keras model on images.

    images: pixels (n, height, width, channels) as the model takes them, 0 to 255 for networks of ours, or an iterable
    of batches (pixels, labels or None). labels: int (n,), for the linear probes. Weights are those that the model has:
    at random, they show what the architecture passes on before it has learnt anything.
    Raises InputError for a model without a graph, a layer without a rule, no images, and images of another shape.
    """
    batches = in_batches(images, labels, batch_size) if isinstance(images, np.ndarray) else images
    known = facts(model, resolution=None if None not in model.input_shape[1:3] else 224)
    built = architecture(model)
    ends = [block.end for block in built.blocks]
    seen = representation(model, fitting(model, batches), ends)
    return Diagnosis(known, built, seen, findings(known, built, seen))


def in_batches(images: np.ndarray, labels: np.ndarray | None, size: int) -> Iterator[tuple[np.ndarray, Any]]:
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield images[part], None if labels is None else labels[part]


def fitting(model: "keras.Model", batches: Batches) -> Iterator[tuple[np.ndarray, Any]]:
    """Yields the batches. Raises InputError for images that the model does not take."""
    wanted = model.input_shape[1:]
    for pixels, labels in batches:
        shape = np.shape(pixels)[1:]
        if len(shape) != len(wanted) or any(w not in (None, s) for w, s in zip(wanted, shape, strict=True)):
            raise InputError(f"images of shape {shape}: {model.name} takes {wanted} (height, width, channels)")
        yield np.asarray(pixels, np.float32), labels
