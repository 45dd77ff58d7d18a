"""Images that a data set holds more than once: the same file, or the same picture, saved again.

Two pictures are the same where their small grey copies hardly differ once brightness and contrast are taken away: their
correlation is near 1, which a resize, another quality or another exposure leaves. How near it must be depends on how
much alike the images of the data set are in general: digits and X-rays resemble each other more than photographs.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

CLOSE = 0.985  # the correlation of two copies, at least
APART = 0.12  # of the squared distance of an image to its fifth neighbour, in the median: as far as copies may be
FIFTH = 5  # so that groups of some copies do not count as the usual distance
CONTRAST = 5.0  # levels of 256, as a standard deviation: a plainer picture is like any other plain one
DIRECTIONS, NEIGHBOURS = 16, 16
_SAMPLE, _BLOCK = 500, 2**14


def groups(content: np.ndarray, small: np.ndarray | None) -> list[tuple[bool, np.ndarray]]:
    """The images that are there more than once: whether all of a group are the same file, and their places, ascending.

    content: a hash of each file. small: small grey copies, uint8 (n, side, side), or None where only files are to be
    compared.
    """
    _, first, whole = np.unique(content, return_index=True, return_inverse=True)
    same = whole
    if small is not None:
        order = np.argsort(first)
        pairs = order[alike(small[first[order]])]
        graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(first), len(first)))
        whole = connected_components(graph, directed=False)[1][same]
    places = np.argsort(whole, kind="stable")
    starts = np.flatnonzero(np.diff(whole[places], prepend=-1))
    members = [part for part in np.split(places, starts[1:]) if len(part) > 1]
    return [(bool(np.all(same[part] == same[part[0]])), part) for part in members]


def alike(small: np.ndarray) -> np.ndarray:
    """Pairs (k, 2) of small grey pictures (n, side, side) that show the same.

    Candidates are the nearest neighbours in the directions in which the pictures vary most: distances there are never
    larger than in all of them, so that no pair is too far apart to be one.
    """
    if len(small) < 2:
        return np.zeros((0, 2), np.int64)
    sample = np.random.default_rng(0).permutation(len(small))[:_SAMPLE]
    directions = np.linalg.svd(normal(small[sample])[0], full_matrices=False)[2][:DIRECTIONS].T
    blocks = range(0, len(small), _BLOCK)
    shadows, fifth, busy = [], np.full((len(sample), FIFTH + 1), 2.0, np.float32), np.zeros(len(small), bool)
    for start in blocks:
        part, busy[start : start + _BLOCK] = normal(small[start : start + _BLOCK])
        shadows.append(part @ directions)
        apart = 2 - 2 * normal(small[sample])[0] @ part.T
        fifth = np.partition(np.concatenate([fifth, apart], 1), FIFTH, 1)[:, : FIFTH + 1]
    limit = min(2 - 2 * CLOSE, APART * float(np.median(fifth.max(1))))
    places = np.flatnonzero(busy)
    shadow = np.concatenate(shadows)[places]
    tree, found = cKDTree(shadow), []
    for start in range(0, len(places), _BLOCK):
        part = shadow[start : start + _BLOCK]
        near = tree.query(part, NEIGHBOURS, distance_upper_bound=np.sqrt(limit) + 1e-6, workers=-1)[1]
        one, other = np.broadcast_to(np.arange(start, start + len(part))[:, None], near.shape), near
        candidate = (other < len(places)) & (one != other)
        one, other = places[one[candidate]], places[other[candidate]]
        for at in range(0, len(one), _BLOCK):
            i, j = one[at : at + _BLOCK], other[at : at + _BLOCK]
            close = 2 - 2 * np.sum(normal(small[i])[0] * normal(small[j])[0], 1) <= limit
            found.append(np.sort(np.stack([i[close], j[close]], 1), 1))
    return np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), np.int64)


def normal(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Small pictures without brightness and contrast, as vectors of length 1, and whether they had any contrast."""
    flat = small.reshape(len(small), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.maximum(length, 1e-6), length[:, 0] > CONTRAST * np.sqrt(flat.shape[1])
