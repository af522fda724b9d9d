"""The pieces of benchmarks/estimators.py."""
