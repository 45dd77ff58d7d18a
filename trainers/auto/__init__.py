"""What auto decides at the start of a run: the recipe, the epochs of `--time`, `--precision auto` and `--jit auto`."""
