"""The laboratory: what is measured of a network on real images, and the page that tells it."""
