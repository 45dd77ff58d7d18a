"""What the commands have in common: their flags, their errors, their tables, a quiet start."""
