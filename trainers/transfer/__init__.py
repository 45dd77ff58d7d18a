"""Training that starts from weights: where they come from, what stays as it is, and features in the place of images."""
