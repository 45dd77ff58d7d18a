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

from trainers.data import Split
from trainers.settings import RunConfig
from trainers.transfer.features import features, inference
from trainers.transfer.parts import cut

FOLDS = 5
RIDGE = 1e-2  # of the mean square of a feature
CERTAIN = 0.5  # of the score that images of a class have in the mean: by so much more it is another class's
_BLOCK = 8192


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


def unseen_scores(found: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """For each image the scores of a ridge regression onto the classes that has not seen it: (n, classes)."""
    n, d = found.shape
    fold = np.random.default_rng(0).permutation(n) % FOLDS
    blocks = [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]
    mean = sum(found[b].sum(0, dtype=np.float64) for b in blocks) / n
    gram, cross, share = np.zeros((FOLDS, d, d)), np.zeros((FOLDS, d, classes)), np.zeros((FOLDS, classes))
    for b in blocks:
        for k in range(FOLDS):
            mine = fold[b] == k
            x, y = found[b][mine] - mean, np.eye(classes)[labels[b][mine]]
            gram[k] += x.T @ x
            cross[k] += x.T @ y
            share[k] += y.sum(0)
    scores = np.zeros((n, classes), np.float32)
    for k in range(FOLDS):
        others = [j for j in range(FOLDS) if j != k]
        prior = share[others].sum(0) / max(1, np.sum(fold != k))
        square = gram[others].sum(0)
        ridge = RIDGE * np.trace(square) / d + 1e-9
        x_sum = -sum(((found[b][fold[b] == k] - mean).sum(0) for b in blocks), np.zeros(d))  # the others' sum
        weights = np.linalg.solve(square + ridge * np.eye(d), cross[others].sum(0) - np.outer(x_sum, prior))
        for b in blocks:
            mine = np.flatnonzero(fold[b] == k)
            scores[b.start + mine] = (found[b][mine] - mean) @ weights + prior
    return scores


def describe(suspect: Suspect, labels: Any, classes: tuple[str, ...]) -> dict[str, Any]:
    return {"label": classes[labels[suspect.at]], "likely": classes[suspect.likely], "margin": round(suspect.margin, 3)}
