"""How far measured shares can be trusted, and whether a network is as sure as it is right."""

import math
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

SURE = 1.959963984540054  # standard deviations on either side that hold 95 %
BINS = 15  # of equal width, as in Guo et al.
RANGE = math.log(0.05), math.log(20.0)  # of the logarithm of a temperature
LARGEST = 5e7  # logits of which a temperature is found


def interval(hits: float, of: float) -> list[float] | None:
    """The 95 % interval of a share of `hits` among `of`; None among nothing. Wilson, 1927, "Probable Inference"."""
    if not of:
        return None
    share, extra = hits / of, SURE**2 / of
    middle, half = share + extra / 2, SURE * math.sqrt(share * (1 - share) / of + SURE**2 / (4 * of**2))
    return [max(0.0, float(middle - half) / (1 + extra)), min(1.0, float(middle + half) / (1 + extra))]


def f1_interval(hits: float, actual: float, predicted: float) -> list[float] | None:
    """The 95 % interval of an F1 score. F1 = 2 J / (1 + J), where J is the share of hits among all images of the class
    and those taken for it; so its interval is that of J."""
    found = interval(hits, actual + predicted - hits)
    return found and [2 * share / (1 + share) for share in found]


def reliability(sure: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """For each bin of confidence that holds images: their number, how sure the network is of them, how often right."""
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    found = []
    for k in np.unique(bins):
        mine = bins == k
        found.append(
            {
                "from": float(k / BINS),
                "to": float((k + 1) / BINS),
                "images": int(mine.sum()),
                "confidence": float(sure[mine].mean()),
                "accuracy": float(right[mine].mean()),
            }
        )
    return found


def ece(sure: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error: by how much confidence (n,) and accuracy, of which `right` (n,) is 0 or 1, differ
    in a bin, in the mean over images. Guo et al., 2017 (https://arxiv.org/abs/1706.04599), equation 3."""
    rows = reliability(sure, right)
    return sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / max(1, len(sure))


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The number by which logits (n, classes) are divided so that the cross entropy of their softmax with the labels
    (n,) is least: Guo et al., section 4.2. No answer changes by it, only how sure the network is of it."""
    logits = logits.astype(np.float64)
    own = logits[np.arange(len(labels)), labels]

    def loss(log: float) -> float:
        scale = math.exp(-log)
        return float(np.mean(logsumexp(logits * scale, 1) - own * scale))

    return math.exp(minimize_scalar(loss, bounds=RANGE, method="bounded", options={"xatol": 1e-4}).x)


def calibration(sure: np.ndarray, right: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """ECE, reliability and temperature, as JSON.

    sure, right: of all images, see `ece`. logits, labels: of all, or of those that a temperature is found from. The
    error with a temperature is measured on the half of them from which it was not found, both ways.
    """
    halves = np.arange(len(labels)) % 2 == 0
    confidence, hits = np.zeros(len(labels)), logits.argmax(1) == labels
    for seen in (halves, ~halves):
        if seen.any() and not seen.all():
            scaled = logits[~seen].astype(np.float64) / temperature(logits[seen], labels[seen])
            confidence[~seen] = np.exp(scaled.max(1) - logsumexp(scaled, 1))
    return {
        "ece": ece(sure, right),
        "temperature": temperature(logits, labels),
        "ece_with_temperature": ece(confidence, hits) if len(labels) > 1 else None,
        "images_for_temperature": len(labels),
        "reliability": reliability(sure, right),
    }
