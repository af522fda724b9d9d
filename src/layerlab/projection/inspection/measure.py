"""Vectors looked at: their coherence and nearest pairs, their cosines against random ones, and what would be better."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.projection.bounds import Field, document_count, floors, most
from layerlab.projection.certificate import Certificate, certify
from layerlab.projection.choice import Offer, offers
from layerlab.projection.frames import fits
from layerlab.projection.inspection.theory import share, typical_coherence
from layerlab.projection.rows import Array, Rows

Progress = Callable[[float, str], None]

# Bars that can be told apart, and bins that are counted before it is known where the cosines lie.
_SHOWN = 80
_FINE = 40
# Numbers of the matrix of second moments up to which it is made.
_MOMENTS = 1 << 24
# Multiply-adds of a minute or less on two cores: 44,000 vectors of 1,024 dimensions.
_WORK = 10**12
_ROWS = 4096


@dataclass(frozen=True)
class VectorInspection:
    """What was found in a set of vectors.

    Args:
        certificate: the measured coherence, of all vectors or of a sample of them.
        count: all vectors.
        lengths: the least and the largest norm of a vector.
        mean_square: the mean of cos² over all pairs; None where it would take too much memory.
        random: the coherence that as many random vectors typically have.
        better: constructions with a smaller coherence than these and than random vectors, for as many, best first.
        largest: the most vectors that no bound excludes at this coherence.
    """

    certificate: Certificate
    count: int
    lengths: tuple[float, float]
    mean_square: float | None
    random: float
    better: tuple[Offer, ...]
    largest: int

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON: numbers, words and lists."""
        found = self.certificate
        return {
            "count": self.count,
            "measured_count": found.count,
            "dim": found.dim,
            "field": found.field,
            "coherence": found.coherence,
            "error": found.error,
            "exact": found.exact,
            "arithmetic": found.arithmetic,
            "pairs": found.pairs,
            "measured_pairs": found.measured_pairs,
            "floors": [{"value": floor.value, "name": floor.name} for floor in best_floors(found)],
            "excess": found.excess,
            "nearest": [
                {"first": pair.first, "second": pair.second, "cosine": pair.cosine} for pair in found.nearest
            ],
            "length_least": self.lengths[0],
            "length_largest": self.lengths[1],
            "mean_square_cosine": self.mean_square,
            "mean_square_cosine_least": max(0.0, (found.count / found.dim - 1) / (found.count - 1)),
            "mean_square_cosine_random": 1 / found.dim,
            "random_coherence": self.random,
            "largest_count_not_excluded": self.largest,
            "document_count": document_count(found.dim, min(found.coherence, 1 - 1e-12))
            if found.coherence > 0
            else 0,
            "better": [offer.to_dict() for offer in self.better],
            "histogram": shown_bins(found),
            "findings": self.findings(),
        }

    def findings(self) -> list[str]:
        """Sentences, most telling first."""
        found = self.certificate
        floor = found.floors[0]
        said = []
        if found.count < self.count:
            said.append(
                f"of {self.count:,} vectors {found.count:,} drawn at random were measured: the coherence of all is at "
                "least this"
            )
        twins = sum(abs(pair.cosine) > 1 - 1e-9 for pair in found.nearest)
        if twins:
            pair = found.nearest[0]
            more = f", and so do {twins - 1} more pairs at least" if twins > 1 else ""
            said.append(
                f"vectors {pair.first:,} and {pair.second:,} lie on one line{more}: a codebook cannot tell them apart"
            )
        if floor.value == 0:
            said.append("up to as many vectors as dimensions, orthonormal ones exist")
        elif found.count == self.count and found.coherence <= floor.value * (1 + 1e-6):
            said.append(f"no {self.count:,} vectors have less coherence: it is the floor ({floor.name})")
        else:
            said.append(f"{found.excess:.3g} times the floor {floor.value:.4g} ({floor.name})")
        against = found.coherence / max(self.random, 1e-300)
        if abs(against - 1) <= 0.02:
            said.append(f"about as good as random vectors, of which as many typically have {self.random:.4g}")
        else:
            kind = "less" if against > 1 else "more"
            said.append(f"as many random vectors typically have {self.random:.4g}, {kind} than these")
        if self.better:
            said.append(f"better: {self.better[0].sentence()}")
        elif fits(found.dim, self.count) and found.coherence > floor.value * (1 + 1e-6):
            said.append(
                "an optimised frame may do better, which is found out by: layerlab codebook make "
                f"--dim {found.dim} --count {self.count}"
            )
        return said


def inspect(
    vectors: Array,
    *,
    nearest: int = 10,
    rows: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> VectorInspection:
    """Measure vectors of any origin.

    Args:
        vectors: (count, dim), rows of any lengths but 0, real or complex.
        nearest: pairs to list.
        rows: measure so many, drawn at random; None measures all up to about a minute of work.
        seed: of that draw.
        progress: called with the share done and words.

    Raises:
        UserError: what `certify` refuses, or dimension 1, where all vectors lie on one line.

    >>> found = inspect(torch.eye(4)[:3])
    >>> found.certificate.coherence, found.lengths, found.mean_square
    (0.0, (1.0, 1.0), 0.0)
    """
    whole = Rows(vectors)
    if whole.dim == 1:
        raise UserError(
            f"expected vectors of at least 2 dimensions, got {whole.count} of 1, which lie on one line (coherence 1); "
            "if the vectors are columns, say so"
        )
    if rows is not None and rows < 2:
        raise UserError(f"expected at least 2 vectors to measure, got {rows}; a coherence needs a pair")
    numbers = _drawn(whole, rows, seed)
    if numbers is not None:
        vectors = vectors[torch.from_numpy(numbers) if isinstance(vectors, torch.Tensor) else numbers]
    measured = whole if numbers is None else Rows(vectors)

    def counted(done: int, of: int) -> None:
        if progress is not None:
            progress(0.9 * done / of, f"{done:,} of {of:,} pairs")

    field: Field = "complex" if measured.complex else "real"
    found = certify(vectors, nearest=nearest, bins=_bins(measured.dim), progress=counted)
    lengths, mean_square = _moments(measured)
    if progress is not None:
        progress(1.0, "comparing")
    if numbers is not None:
        found = replace(
            found,
            nearest=tuple(
                replace(pair, first=int(numbers[pair.first]), second=int(numbers[pair.second]))
                for pair in found.nearest
            ),
            floors=tuple(floors(whole.dim, whole.count, field)),
        )
    random = typical_coherence(measured.dim, measured.count, field)
    # What random vectors typically have costs nothing: a guarantee of more than that is no advice.
    limit = min(found.coherence, random) * (1 - 1e-9)
    better = [offer for offer in offers(whole.dim, whole.count, field) if offer.coherence < limit]
    return VectorInspection(
        found,
        whole.count,
        lengths,
        mean_square,
        random,
        tuple(better),
        most(whole.dim, found.coherence, field) if 0 < found.coherence < 1 else whole.dim,
    )


def _drawn(whole: Rows, rows: int | None, seed: int) -> NDArray[np.int64] | None:
    """The vectors to measure, ascending; None for all."""
    wanted = math.isqrt(2 * _WORK // whole.dim) if rows is None else rows
    if wanted >= whole.count:
        return None
    return np.sort(np.random.default_rng(seed).choice(whole.count, max(2, wanted), replace=False))


def best_floors(found: Certificate) -> list[Any]:
    """The largest floor of each bound: of several orders the best."""
    kept: dict[str, Any] = {}
    for floor in found.floors:
        kept.setdefault(floor.name.partition(",")[0], floor)
    return list(kept.values())


def _bins(dim: int) -> int:
    """Bins over [-1, 1], so that there are some dozens within a standard deviation 1/√n of the cosine."""
    return 2 * min(100_000, max(100, math.ceil(_FINE * math.sqrt(dim))))


def _moments(rows: Rows) -> tuple[tuple[float, float], float | None]:
    """Least and largest length, and the mean of abs(cos)² over pairs, by (norm(XᴴX)² - N)/(N (N - 1))."""
    least, largest = math.inf, 0.0
    wanted = rows.dim**2 <= _MOMENTS
    moments = torch.zeros(rows.dim, rows.dim, dtype=torch.complex128 if rows.complex else torch.float64)
    moments = moments if wanted else moments[:0]
    for first in range(0, rows.count, _ROWS):
        last = min(first + _ROWS, rows.count)
        lengths = torch.linalg.vector_norm(rows.numbers(first, last), dim=1)
        least, largest = min(least, float(lengths.min())), max(largest, float(lengths.max()))
        if wanted:
            unit = rows.unit(first, last)
            moments += unit.mH @ unit
    if not wanted:
        return (least, largest), None
    total = float(moments.abs().square().sum()) - rows.count
    return (least, largest), max(0.0, total / (rows.count * (rows.count - 1)))


def shown_bins(found: Certificate) -> dict[str, list[float]]:
    """Pairs by cosine and beyond a cosine, measured and expected of random vectors, in few enough bins to be drawn.

    Signs are held against random signs, whose number of differing entries is binomial; others against random lines.
    """
    assert found.histogram is not None
    edges, counts = found.histogram.edges, found.histogram.counts
    random = _random_share(found) * found.measured_pairs
    used = np.nonzero(counts)[0]
    reach = max(abs(edges[used[0]]), abs(edges[used[-1] + 1])) + 1e-12
    inside = (edges[:-1] >= -reach) & (edges[1:] <= reach)
    starts = np.nonzero(inside)[0][:: max(1, math.ceil(inside.sum() / _SHOWN))]
    end = int(np.nonzero(inside)[0][-1]) + 1
    # By absolute value; the bin around 0 of an even number of signs begins at 0.
    least = np.where(edges[:-1] * edges[1:] < 0, 0.0, np.minimum(np.abs(edges[:-1]), np.abs(edges[1:])))
    ends, places = np.unique(least.round(12), return_inverse=True)
    kept = np.nonzero(ends <= reach)[0]
    kept = kept[:: max(1, math.ceil(len(kept) / _SHOWN))]

    def grouped(values: NDArray[Any]) -> list[float]:
        return np.add.reduceat(values[:end], starts).tolist()

    def beyond(values: NDArray[Any]) -> list[float]:
        return np.bincount(places, values)[::-1].cumsum()[::-1][kept].tolist()

    return {
        "edges": [*edges[starts].tolist(), float(edges[end])],
        "pairs": grouped(counts),
        "random_pairs": grouped(random),
        "tail_cosines": ends[kept].tolist(),
        "tail_pairs": beyond(counts),
        "tail_random_pairs": beyond(random),
    }


def _random_share(found: Certificate) -> NDArray[np.float64]:
    assert found.histogram is not None
    if found.exact and len(found.histogram.counts) == found.dim + 1:
        from scipy.stats import binom

        return np.asarray(binom.pmf(np.arange(found.dim + 1), found.dim, 0.5))
    return share(found.histogram.edges.clip(-1, 1), found.dim, found.field)
