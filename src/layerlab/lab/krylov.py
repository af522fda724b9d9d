"""What is known of an extreme eigenvalue by Lanczos' method from a random start, whatever the spectrum."""

from __future__ import annotations

import math

FAILURE = 1e-6
"""The probability, over the random start, with which `reach` may be wrong."""


def reach(size: int, steps: int) -> float:
    """The error of Lanczos' extreme value relative to λ_max − λ_min, exceeded with probability `FAILURE` at most.

    Solves 1.648·√n·exp(−√ε·(2k − 1)) = `FAILURE` for ε, at most 1. No gap enters it: the bound holds for every
    symmetric matrix (AᵀA, if the singular values of A are sought), in exact arithmetic.

    Reference: J. Kuczyński and H. Woźniakowski, Estimating the largest eigenvalue by the power and Lanczos
    algorithms with a random start (SIAM J. Matrix Anal. Appl. 13, 1992), theorem 4.2.

    Args:
        size: n, the rows of the matrix.
        steps: k, the dimension of the Krylov space.

    Returns:
        ε, 1 where nothing is known.

    >>> round(reach(size=65_536, steps=40), 4), round(reach(size=100_000, steps=300), 6)
    (0.0632, 0.001123)
    """
    exponent = math.log(1.648 * math.sqrt(size) / FAILURE)
    return min(1.0, (exponent / (2 * steps - 1)) ** 2)
