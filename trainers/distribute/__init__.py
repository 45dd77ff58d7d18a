"""Where a run trains: strategies, workers side by side, their shares of the data, signals."""
