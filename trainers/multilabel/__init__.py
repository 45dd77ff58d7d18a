"""Images with any number of labels: how their probabilities are judged, and what a run of them leaves."""
