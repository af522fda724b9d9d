"""Models that users name: what they are called with, and calls that leave no trace in them."""
