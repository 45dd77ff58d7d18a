"""A run's folder: what is in it, who writes it, and what a person sees of it."""
