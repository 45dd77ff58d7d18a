"""What is told of a finished run: verdict, card, curves."""
