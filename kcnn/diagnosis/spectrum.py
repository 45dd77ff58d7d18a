"""What a stream of features spans, by their second moments: memory does not grow with the number of images.

Features are vectors, (n, d): of a map the channels at places of it. All in float64, so that order hardly matters.
"""

from dataclasses import dataclass, field

import numpy as np

TINY = 1e-12  # of the largest eigenvalue: less is rounding


@dataclass
class Moments:
    """Sums over a stream of pairs of vectors x (n, d) and y (n, e), of which y may be missing."""

    count: int = 0
    sum: np.ndarray | float = 0.0
    sum_y: np.ndarray | float = 0.0
    xx: np.ndarray | float = 0.0
    xy: np.ndarray | float = 0.0
    yy: np.ndarray | float = 0.0

    def add(self, x: np.ndarray, y: np.ndarray | None = None) -> None:
        x = x.astype(np.float64)
        self.count += len(x)
        self.sum = self.sum + x.sum(0)
        self.xx = self.xx + x.T @ x
        if y is not None:
            y = y.astype(np.float64)
            self.sum_y = self.sum_y + y.sum(0)
            self.xy = self.xy + x.T @ y
            self.yy = self.yy + y.T @ y

    def spectrum(self) -> np.ndarray:
        """The eigenvalues (d,) of the covariance of x, the largest first."""
        mean = np.asarray(self.sum) / self.count
        values = np.linalg.eigvalsh(np.asarray(self.xx) / self.count - np.outer(mean, mean))[::-1]
        return np.maximum(values, 0)

    def lost(self) -> float:
        """The share of the variance of x that no affine map of y gives back: 0 to 1."""
        n, mean, other = self.count, np.asarray(self.sum) / self.count, np.asarray(self.sum_y) / self.count
        xx = np.trace(np.asarray(self.xx)) / n - mean @ mean
        if xx <= TINY * np.trace(np.asarray(self.xx)) / n:
            return 0.0
        xy = np.asarray(self.xy) / n - np.outer(mean, other)
        yy = np.asarray(self.yy) / n - np.outer(other, other)
        given = float(np.sum(xy * (xy @ np.linalg.pinv(yy, rcond=1e-10, hermitian=True))))
        return float(np.clip(1 - given / xx, 0, 1))

    def lost_alone(self) -> float:
        """The share of the mean square of x that is lost where each number is rebuilt from its own y by a factor: half
        of a symmetric distribution, of which a ReLU passes one side."""
        xx, xy, yy = (np.diag(np.asarray(a)) for a in (self.xx, self.xy, self.yy))
        given = np.divide(xy**2, yy, out=np.zeros_like(xy), where=yy > 0)
        return float(np.clip(1 - given.sum() / xx.sum(), 0, 1)) if xx.sum() > 0 else 0.0


def participation(spectrum: np.ndarray) -> float:
    """(sum of l)^2 / sum of l^2, the participation ratio: k for k equal eigenvalues and no others. 0 for none."""
    square = float((spectrum**2).sum())
    return float(spectrum.sum() ** 2 / square) if square > 0 else 0.0


def entropy_rank(spectrum: np.ndarray) -> float:
    """exp(-sum of p log p), p = l / sum of l: Roy and Vetterli, 2007, "The effective rank". 0 for none."""
    total = spectrum.sum()
    if total <= 0:
        return 0.0
    p = spectrum[spectrum > TINY * spectrum[0]] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def share_of_first(spectrum: np.ndarray, k: int) -> float:
    """The share of the variance in the first k directions."""
    total = float(spectrum.sum())
    return float(spectrum[:k].sum() / total) if total > 0 else 0.0


@dataclass
class Alignment:
    """Linear CKA of two streams of features of the same images: 1 where one is the other turned and scaled, 0 where
    they have nothing in common. Kornblith et al., 2019 (https://arxiv.org/abs/1905.00414), with the unbiased estimate
    over batches of Nguyen et al., 2021 (https://arxiv.org/abs/2010.15327), equation 3."""

    sums: dict[str, float] = field(default_factory=lambda: {"xx": 0.0, "xy": 0.0, "yy": 0.0})

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """x (n, ...) and y (n, ...) of the same n images, of which four are needed."""
        k, other = gram(x), gram(y)
        for name, pair in {"xx": (k, k), "xy": (k, other), "yy": (other, other)}.items():
            self.sums[name] += hsic(*pair)

    def value(self) -> float:
        scale = self.sums["xx"] * self.sums["yy"]
        return float(self.sums["xy"] / np.sqrt(scale)) if scale > 0 else float("nan")


def gram(x: np.ndarray) -> np.ndarray:
    """The products of the images' features, (n, n), with zeros on the diagonal."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    products = flat @ flat.T
    np.fill_diagonal(products, 0)
    return products


def hsic(k: np.ndarray, other: np.ndarray) -> float:
    """The unbiased estimate of how dependent two features are. Song et al., 2012, equation 5."""
    n = len(k)
    if n < 4:
        return 0.0
    crossed = k.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(0) @ other.sum(0)) / (n - 2)
    return float(((k * other).sum() + crossed) / (n * (n - 3)))
