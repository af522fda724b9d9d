"""Vectors that are kept for a second run: in memory, in a file, or not at all, with the same eigenvalues."""

from __future__ import annotations

import numpy as np
import pytest

from layerlab.graph import basis
from layerlab.graph.basis import Basis
from layerlab.graph.generate import block_model
from layerlab.graph.lanczos import Ritz, extreme_eigenvalues
from layerlab.graph.matrices import normalized_laplacian

VECTORS = np.random.default_rng(0).standard_normal((4, 7))


@pytest.mark.parametrize("in_memory", [True, False])
def test_vectors_come_back_to_the_bit(in_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis, "_IN_MEMORY", 1 << 20 if in_memory else 0)
    kept = Basis(7, 4)
    assert all(kept.append(vector) for vector in VECTORS)
    assert len(kept) == 4
    for _ in range(2):
        np.testing.assert_array_equal(list(kept), VECTORS)


@pytest.mark.parametrize(("disk", "memory"), [(100, 1 << 40), (1 << 40, 100), (1 << 40, None)])
def test_without_room_nothing_is_kept(disk: int, memory: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis, "_IN_MEMORY", 0)
    monkeypatch.setattr(basis.shutil, "disk_usage", lambda _: type("Usage", (), {"free": disk}))
    monkeypatch.setattr(basis, "available", lambda: memory)
    kept = Basis(7, 4)
    assert not kept.append(VECTORS[0])
    assert (len(kept), list(kept)) == (0, [])


class _Shrinking(Basis):
    """As on a disk that is full after some vectors."""

    fits = 0

    def append(self, vector: np.ndarray) -> bool:
        if len(self) == self.fits:
            self._full = True
        return super().append(vector)


def _ends(monkeypatch: pytest.MonkeyPatch, fits: int) -> dict[str, Ritz]:
    monkeypatch.setattr(_Shrinking, "fits", fits)
    monkeypatch.setattr("layerlab.graph.lanczos.Basis", _Shrinking)
    matrix = normalized_laplacian(block_model(400, seed=0).graph)
    generator = np.random.default_rng(0)
    return extreme_eigenvalues(
        *(lambda x: matrix @ x, lambda x: x, 400, ["lowest", "highest"]),
        tolerance=1e-10,
        max_steps=150,
        generator=generator,
    )


@pytest.mark.parametrize("fits", [0, 1, 2, 3, 40])
def test_what_was_not_kept_is_made_again_to_the_same_bits(fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, part = _ends(monkeypatch, 10_000), _ends(monkeypatch, fits)
    for end in ("lowest", "highest"):
        np.testing.assert_array_equal(whole[end].vector, part[end].vector)
        assert (whole[end].value, whole[end].residual) == (part[end].value, part[end].residual)
