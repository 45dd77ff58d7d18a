"""Facts read off the graph."""

from dataclasses import dataclass


@dataclass
class Facts:
    params: int


def facts(x): ...
