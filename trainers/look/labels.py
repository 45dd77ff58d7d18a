"""Labels that look wrong: a classifier that has not seen an image's label is sure of another one.

Confident learning (Northcutt et al., 2021, https://arxiv.org/abs/1911.00068) with a linear classifier on the features
of a finished run's network. A network learns wrong labels by heart, too; so the classifier is fitted anew on four
fifths of the images, and asked about the other fifth.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kcnn.diagnosis.probe import unseen_scores
from trainers.data import Split
from trainers.settings import RunConfig
from trainers.transfer.features import features, inference
from trainers.transfer.parts import cut

CERTAIN = 0.5  # of the score that images of a class have in the mean: by so much more it is another class's


@dataclass(frozen=True)
class Suspect:
    """An image whose label looks wrong. at: its place. likely: the class that it looks like. margin: by how much more,
    in the classifier's scores, which are about 0 to 1."""

    at: int
    likely: int
    margin: float


def features_of(model: keras.Model, config: RunConfig, splits: list[Split], folder: Path) -> list[np.ndarray]:
    """What the network's classifier sees of each image, float32 (size, d) a split, on the disk."""
    still = cut(model, replace(config, freeze="backbone", features_only=False)).still
    assert still is not None
    compute = inference(still)
    return [features(compute, split, config, folder).reshape(split.size, -1) for split in splits]


def suspects(found: np.ndarray, labels: np.ndarray, classes: int) -> list[Suspect]:
    """The images whose labels look wrong, the most certain first. found: features (n, d). labels: int (n,)."""
    scores = unseen_scores(found, labels, classes)
    own = scores[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=classes)
    sure = np.bincount(labels, own, classes) / np.maximum(counts, 1)  # how sure it usually is of a class
    likely = scores.argmax(1)
    margin = scores[np.arange(len(labels)), likely] - own
    wrong = (likely != labels) & (margin >= CERTAIN * sure[likely])
    at = np.flatnonzero(wrong)
    return [Suspect(int(i), int(likely[i]), float(margin[i])) for i in at[np.argsort(-margin[at], kind="stable")]]


def describe(suspect: Suspect, labels: Any, classes: tuple[str, ...]) -> dict[str, Any]:
    return {"label": classes[labels[suspect.at]], "likely": classes[suspect.likely], "margin": round(suspect.margin, 3)}
