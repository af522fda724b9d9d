from __future__ import annotations

import pytest
import torch

from layerlab.errors import UserError
from layerlab.projection.bounds import floor
from layerlab.projection.simplex import simplex


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 100, 511])
def test_every_cosine_of_a_simplex_is_the_welch_bound(dim: int) -> None:
    corners = simplex(dim)
    assert corners.shape == (dim + 1, dim)
    expected = torch.full((dim + 1, dim + 1), -1 / dim, dtype=torch.float64).fill_diagonal_(1.0)
    torch.testing.assert_close(corners @ corners.T, expected, rtol=0, atol=1e-13)
    if dim > 1:
        assert floor(dim, dim + 1).value == pytest.approx(1 / dim, rel=1e-12)


def test_a_simplex_without_dimensions_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1, got 0"):
        simplex(0)
