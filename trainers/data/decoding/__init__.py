"""From encoded bytes to pixels, the same in training, evaluation and the served graph."""
