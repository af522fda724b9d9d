"""One vector more than dimensions: the corners of a regular simplex."""

from __future__ import annotations

import torch
from torch import Tensor

from layerlab.errors import UserError


def simplex(dim: int) -> Tensor:
    """``dim + 1`` unit vectors with every cosine -1 / dim, the least coherence of that many (Welch's bound).

    The unit vectors of R^(n+1), less their mean, lie in the hyperplane of coordinates that sum to 0. A Householder
    reflection turns the hyperplane's normal to the last axis, and that axis is dropped.

    Args:
        dim: n, at least 1.

    Returns:
        ``(dim + 1, dim)`` float64.

    Raises:
        UserError: ``dim`` is below 1.

    >>> corners = simplex(3)
    >>> bool(torch.allclose(corners @ corners.T, torch.eye(4, dtype=torch.float64) * 4 / 3 - 1 / 3))
    True
    """
    if dim < 1:
        raise UserError(f"a simplex has a dimension of at least 1, got {dim}; take a positive whole number")
    count = dim + 1
    # (I - 2 v vᵀ / vᵀv) sends the normal to the last axis; the difference is never 0, as count > 1.
    v = torch.full((count,), count**-0.5, dtype=torch.float64)
    v[-1] -= 1.0
    reflected = torch.eye(count, dtype=torch.float64) - torch.outer(v, v) * (2 / float(v @ v))
    corners = reflected[:, :-1]
    return corners / torch.linalg.vector_norm(corners, dim=1, keepdim=True)
