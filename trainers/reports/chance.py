"""Which of several networks are better than others by more than chance: no winner is called by luck."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.05
CHOICE = 0.01  # where a network is chosen by it: of 100 searches among equals, one may name a winner


def beaten(accuracies: Sequence[float], images: int) -> list[float]:
    """For each network, how often chance alone gives one of so many equal networks a lead like the best one's over it.

    All were evaluated on the same number of validation images. It is Tukey's test of the range, which counts in that
    the best one was looked for among all: of equal networks, it calls any worse than the best in 5 of 100 cases at a
    level of 0.05. The images of two networks are taken as independent; as they are the same, the test is careful.
    """
    right = np.asarray(accuracies, float) * images
    share = (right + 2) / (images + 4)  # Agresti and Coull's, as none right or none wrong has a spread, too
    variance = share * (1 - share) / (images + 4)
    best = int(np.argmax(right))
    apart = (right[best] - right) / images
    ranges = apart / np.sqrt((variance[best] + variance) / 2)  # Tukey and Kramer's, for unequal spreads
    return [float(p) for p in stats.studentized_range.sf(ranges, max(2, len(right)), np.inf)]


def not_beaten(accuracies: Sequence[float], images: int, level: float = CHOICE) -> list[int]:
    """The places of the networks that the best one does not beat beyond chance, itself among them."""
    return [i for i, p in enumerate(beaten(accuracies, images)) if p > level]


def over_seeds(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How often chance alone would put the means of two settings so far apart, each trained with several seeds.

    Welch's test; 1 where no two seeds of a setting differ, which tells how coarse the figure is.
    """
    if np.ptp(ours) == np.ptp(theirs) == 0:
        return 1.0
    return float(stats.ttest_ind(ours, theirs, equal_var=False).pvalue)
