"""Many trainings as one: what is tried, who decides on the next trial, and who runs it."""
