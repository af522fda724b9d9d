"""Johnson-Lindenstrauss maps as a module of torch: fixed random layers that keep distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.projection.hadamard import subsampled
from layerlab.projection.maps import RandomMap, draw
from layerlab.projection.tails import ACHLIOPTAS, Kind


class JLProjection(nn.Module):
    """``(..., d)`` to ``(..., n)`` by a fixed random map; nothing is trained, gradients flow to the input.

    The map is kept in buffers, so it moves with ``.to()`` and is saved in ``state_dict``: ``matrix`` (n, d);
    ``indices`` (2, entries) and ``values`` of a sparse map below density 1/20; ``signs`` (d,) and ``rows`` (n,) of the
    fast one.

    Args:
        in_features: d.
        out_features: n.
        kind: ``"gaussian"``, ``"rademacher"``, ``"sparse"`` or ``"hadamard"``.
        density: of a sparse map, the probability of an entry other than 0.
        seed: all chance comes from it; global random states are left alone.
        device: where the buffers are.
        dtype: of the numbers; None: torch's default.

    Raises:
        UserError: see `layerlab.projection.maps.draw`.

    >>> layer = JLProjection(1000, 64, kind="hadamard", dtype=torch.float64)
    >>> x = torch.randn(5, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> (layer(x).norm(dim=1) / x.norm(dim=1)).round(decimals=1).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.2]
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kind: Kind = "gaussian",
        *,
        density: float = ACHLIOPTAS,
        seed: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        generator = np.random.default_rng(seed)
        self._hold(draw(kind, in_features, out_features, generator, density=density))
        self.to(device=device, dtype=dtype or torch.get_default_dtype())

    @classmethod
    def of(cls, drawn: RandomMap) -> JLProjection:
        """A module of a map that was drawn elsewhere; numbers and dtype are kept."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made._hold(drawn)
        return made

    def _hold(self, drawn: RandomMap) -> None:
        self.kind, self.in_features, self.out_features = drawn.kind, drawn.dim_in, drawn.dim_out
        if drawn.matrix is None:
            self.register_buffer("signs", torch.tensor(drawn.signs))
            self.register_buffer("rows", torch.tensor(drawn.rows))
        elif isinstance(drawn.matrix, np.ndarray):
            self.register_buffer("matrix", torch.tensor(drawn.matrix))
        else:
            entries = drawn.matrix.tocoo()
            self.register_buffer("indices", torch.tensor(np.stack(entries.coords), dtype=torch.int64))
            self.register_buffer("values", torch.tensor(entries.data))

    def forward(self, x: Tensor) -> Tensor:
        """Project the last dimension.

        Args:
            x: ``(..., d)``, of the module's dtype and device (the fast map takes every floating-point dtype).

        Returns:
            ``(..., n)``.

        Raises:
            UserError: no tensor, another last dimension than d, or another dtype than the module's.
        """
        if not isinstance(x, Tensor) or x.ndim == 0 or x.shape[-1] != self.in_features:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise UserError(f"expected a tensor (..., {self.in_features}) to project, got {got}")
        buffers = self._buffers
        numbers = buffers.get("matrix", buffers.get("values"))
        if numbers is not None and x.dtype != numbers.dtype and not _cast(x):
            raise UserError(f"expected {numbers.dtype}, as the module is, got {x.dtype}; convert one of them")
        if (rows := buffers.get("rows")) is not None and (signs := buffers.get("signs")) is not None:
            return subsampled(x, signs, rows)
        if (matrix := buffers.get("matrix")) is not None:
            return nn.functional.linear(x, matrix)
        matrix = torch.sparse_coo_tensor(
            self.get_buffer("indices"),
            self.get_buffer("values"),
            (self.out_features, self.in_features),
            is_coalesced=True,
            check_invariants=False,
        )
        flat = x.reshape(-1, self.in_features)
        return torch.sparse.mm(matrix, flat.t()).t().reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """What the module's line in a printed model says."""
        return f"{self.in_features} to {self.out_features}, {self.kind}"


def _cast(x: Tensor) -> bool:
    """Whether autocast brings what x is multiplied with to its dtype."""
    return x.is_floating_point() and torch.is_autocast_enabled(x.device.type)
