"""The sides of the comparisons: kcnn and its peers, each a process of its own (see benchmarks.turns)."""
