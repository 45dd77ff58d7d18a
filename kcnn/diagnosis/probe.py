"""A linear classifier on features, and what it says of examples that it has not seen."""

import numpy as np

FOLDS = 5
RIDGE = 1e-2  # of the mean square of a feature
_BLOCK = 8192


def unseen_scores(found: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns, for each example, the scores of a ridge regression onto the classes that has not seen it.

    found: features (n, d), which may be on a disk. labels: int (n,). Scores: float32 (n, classes), about 0 to 1. The
    regression is fitted anew for each fifth of the examples, on the others.
    """
    n, d = found.shape
    fold = np.random.default_rng(0).permutation(n) % FOLDS
    blocks = [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]
    mean = sum(found[b].sum(0, dtype=np.float64) for b in blocks) / n
    gram, cross, share = np.zeros((FOLDS, d, d)), np.zeros((FOLDS, d, classes)), np.zeros((FOLDS, classes))
    sums = np.zeros((FOLDS, d))
    for b in blocks:
        for k in range(FOLDS):
            mine = fold[b] == k
            x, y = found[b][mine] - mean, np.eye(classes)[labels[b][mine]]
            gram[k] += x.T @ x
            cross[k] += x.T @ y
            share[k] += y.sum(0)
            sums[k] += x.sum(0)
    scores = np.zeros((n, classes), np.float32)
    for k in range(FOLDS):
        others = [j for j in range(FOLDS) if j != k]
        prior = share[others].sum(0) / max(1, np.sum(fold != k))
        square = gram[others].sum(0)
        ridge = RIDGE * np.trace(square) / d + 1e-9
        target = cross[others].sum(0) - np.outer(sums[others].sum(0), prior)
        weights = np.linalg.solve(square + ridge * np.eye(d), target)
        for b in blocks:
            mine = np.flatnonzero(fold[b] == k)
            scores[b.start + mine] = (found[b][mine] - mean) @ weights + prior
    return scores


def probe_accuracy(found: np.ndarray, labels: np.ndarray) -> float | None:
    """Returns the share of examples whose label a linear classifier that has not seen them finds in features (n, d).

    None where there are fewer than two classes, or fewer than ten examples.
    """
    classes = len(np.unique(labels))
    if classes < 2 or len(labels) < 10:
        return None
    scores = unseen_scores(found, labels, int(labels.max()) + 1)
    return float(np.mean(scores.argmax(1) == labels))
