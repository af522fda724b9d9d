"""The pieces of benchmarks/gradflow.py."""
