"""How weights move: optimizers, learning-rate schedules and losses."""
