"""Compiled loops, over pairs and of the Hadamard transform; imported only where they run, for numba is slow to load."""
