"""Compiled loops over pairs of vectors; imported only where they run, for numba is slow to load."""
