"""The pieces of benchmarks/projection.py."""
