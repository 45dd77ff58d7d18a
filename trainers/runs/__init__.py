"""A run's folder: its files, what writes them, and what a person sees of a run."""
