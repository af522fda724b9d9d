"""Coherence against a slow reference, before anything is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from bench_common.command import GateError
from torch import Tensor

from layerlab.projection.certificate import certify
from layerlab.projection.kerdock import Kerdock

ALLOWED = 1e-13


def check_all(count: int) -> dict[str, Any]:
    """Compare every way of `certify`, and a Kerdock set with its proof; raises `GateError` where one differs."""
    generator = torch.Generator().manual_seed(0)
    subjects = {
        "signs": torch.randint(0, 2, (count, 257), generator=generator) * 2 - 1,
        "real": torch.randn(count, 257, generator=generator),
        "complex": torch.randn(count // 2, 64, generator=generator, dtype=torch.complex64),
    }
    rows = {name: check(vectors) for name, vectors in subjects.items()}
    rows["kerdock"] = check_kerdock(64)
    largest = max(rows.values())
    if not largest <= ALLOWED:
        raise GateError(
            f"coherence differs from the reference by {largest:.1e}, allowed {ALLOWED:.0e}: {rows}"
        )
    return {"largest": largest, "rows": rows}


def check(vectors: Tensor) -> float:
    """How far the nearest pairs of a certificate are from the reference; the histogram must agree, too."""
    found = certify(vectors)
    cosines = reference(vectors)
    upper = np.triu_indices(len(vectors), 1)
    expected = np.sort(np.abs(cosines[upper]))[::-1][: len(found.nearest)]
    stated = np.array([abs(pair.cosine) for pair in found.nearest])
    placed = np.array([cosines[pair.first, pair.second] for pair in found.nearest])
    assert found.histogram is not None
    counts, _ = np.histogram(cosines[upper], found.histogram.edges)
    # Cosines within rounding of an edge may be counted on either side.
    if np.abs(counts - found.histogram.counts).sum() > max(4, len(upper[0]) // 10_000):
        raise GateError("the histogram of cosines differs from the reference")
    return float(max(np.abs(stated - expected).max(), np.abs(np.abs(placed) - stated).max()))


def reference(vectors: Tensor) -> np.ndarray[Any, Any]:
    """All cosines, in float64, from unit vectors made in long double."""
    x = vectors.numpy()
    long = x.astype(np.clongdouble if vectors.is_complex() else np.longdouble)
    unit = long / np.sqrt((np.abs(long) ** 2).sum(axis=1, keepdims=True))
    rounded = unit.astype(np.complex128 if vectors.is_complex() else np.float64)
    gram = rounded @ rounded.conj().T
    return np.abs(gram) if vectors.is_complex() else gram


def check_kerdock(dim: int) -> float:
    """How far the proved coherence is from that of all lines."""
    lines = Kerdock(dim)
    gram = lines.vectors().double().numpy()
    gram = np.abs(gram @ gram.T)
    np.fill_diagonal(gram, 0)
    proved = lines.certify()
    if not proved.exact or proved.count != dim * (dim + 2) // 2:
        raise GateError("a Kerdock set is not proved")
    return float(abs(gram.max() - proved.coherence))
