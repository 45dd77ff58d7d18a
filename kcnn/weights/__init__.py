"""Pretrained weights: where they come from, how other libraries name them, and what they expect of a network."""

from kcnn.weights.loading import Report
from kcnn.weights.sources import Pretrained, find, network_of

__all__ = ["Pretrained", "Report", "find", "network_of"]
