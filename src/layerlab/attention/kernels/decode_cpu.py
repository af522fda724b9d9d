"""One token of linear attention in numba, on one thread: the whole state is read and written once."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.attention.kernels.rows import read_keys, read_queries
from layerlab.lab.kernels.jit import kernel as kernel

U = np.uint64


@kernel
def step(
    kind: int, q: Any, k: Any, v: Any, group: int, least: float, s: Any, z: Any, features: Any, out: Any
) -> None:
    """``s += phi(k) v^T``, ``z += phi(k)``, ``out = phi(q)^T s / phi(q) . z``, summed in float64.

    Args:
        q: ``(pairs * group * r,)``, contiguous as are the others.
        k: ``(pairs * r,)``.
        v: ``(pairs, e)``.
        s: float64, ``(pairs, r, e)``; changed.
        z: float64, ``(pairs, r)``; changed.
        features: room for ``((group + 1) * r,)``.
        out: float64, ``(pairs * group, e)``.
    """
    pairs, r, e, members = U(s.shape[0]), U(s.shape[1]), U(s.shape[2]), U(group)
    of_k = members * r
    for pair in range(pairs):
        read_keys(kind, k, pair * r, r, U(1), r, False, False, False, k, U(0), features[of_k:], r)
        for member in range(members):
            read_queries(kind, q, (pair * members + member) * r, r, U(1), r, False, features[member * r :], r)
            for f in range(e):
                out[pair * members + member, f] = 0.0
        for i in range(r):
            factor = np.float64(features[of_k + i])
            for f in range(e):
                s[pair, i, f] += factor * v[pair, f]
            z[pair, i] += factor
            for member in range(members):
                factor = np.float64(features[member * r + i])
                for f in range(e):
                    out[pair * members + member, f] += factor * s[pair, i, f]
        for member in range(members):
            total = 0.0
            for i in range(r):
                total += features[member * r + i] * z[pair, i]
            by = 0.0 if abs(total) < least else 1.0 / total
            for f in range(e):
                out[pair * members + member, f] *= by
