"""The pieces of `benchmarks/graph.py`, one a file."""
