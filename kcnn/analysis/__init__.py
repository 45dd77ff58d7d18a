"""What a network costs, sees and needs, read off its graph."""

from kcnn.analysis.summary import Facts, facts

__all__ = ["Facts", "facts"]
