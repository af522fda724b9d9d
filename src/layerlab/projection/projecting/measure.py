"""Data projected by a random map whose distortion is measured; drawn again on failure, as often as was agreed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.projection.distortion import MOST_PAIRS, SAMPLE, Distortion
from layerlab.projection.memory import refuse_beyond
from layerlab.projection.tails import (
    ACHLIOPTAS,
    Dimension,
    Kind,
    dimension,
    failure,
    formulas,
    pair_failure,
    scikit_learn_dimension,
)
from layerlab.projection.transform import JLTransform

Progress = Callable[[float, str], None]

# Maps that are drawn at most: for a dimension that was worked out, all fail with probability 1/8 to this power.
_DRAWS = 10
# Numbers that are looked at together.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Settings:
    """What was asked.

    Args:
        eps: ε in (0, 1).
        failure: allowed probability of a failure, or None, as for `layerlab.projection.tails.dimension`.
        dim: n, or None for the one that ε, the failure probability and the number of points give.
        kind: the map.
        density: of a sparse map, or "li".
        draws: maps at most; None: 10, or 1 where ``dim`` is given.
        pairs: as for `layerlab.projection.distortion.measure`.
        seed: of the maps and of sampled pairs.
    """

    eps: float = 0.1
    failure: float | None = None
    dim: int | None = None
    kind: Kind = "gaussian"
    density: float | Literal["li"] = ACHLIOPTAS
    draws: int | None = None
    pairs: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Projected:
    """Projected data and what is known of it.

    Args:
        values: ``(N, n)``, the images of the rows.
        settings: what was asked.
        known: the dimension and its failure probability.
        points: N.
        dim_in: d.
        draws: maps that were drawn.
        distortion: of the map that was kept: the first within ε, else the best.
        seconds: for one projection of all rows.
        notes: remarks on the data.
    """

    values: NDArray[Any]
    settings: Settings
    known: Dimension
    points: int
    dim_in: int
    draws: int
    distortion: Distortion
    seconds: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All but the values, as JSON."""
        eps = self.settings.eps
        return {
            **asdict(self.settings),
            "points": self.points,
            "dim_in": self.dim_in,
            "dim": self.known.dim,
            "stated_failure": self.known.failure,
            "proved": self.known.proved,
            "proved_failure": self.known.proved_failure,
            "basis": self.known.basis,
            "scikit_learn_dim": scikit_learn_dimension(self.points, eps),
            "pair_failure": pair_failure(self.known.dim, eps),
            "formulas": [asdict(row) for row in formulas(self.points, eps, self.settings.failure)],
            "draws": self.draws,
            "distortion": self.distortion.to_dict(),
            "seconds": self.seconds,
            "dtype": str(self.values.dtype),
            "notes": list(self.notes),
            "verdict": self.verdict(),
        }

    def verdict(self) -> str:
        """One sentence."""
        found, eps = self.distortion, self.settings.eps
        drawn = "the first map drawn" if self.draws == 1 else f"the last of {self.draws} maps drawn"
        if found.within and found.exhaustive:
            return (
                f"{drawn} keeps all {found.pairs:,} squared distances within {eps:g}: off by {found.largest:.4f} at "
                "most"
            )
        if found.within:
            return (
                f"{drawn} keeps all of {found.pairs:,} sampled squared distances within {eps:g}; of all, at most "
                f"{found.high:.2g} are not, at {found.level:.0%} confidence"
            )
        which = (
            "the map drawn is"
            if self.draws == 1
            else f"none of {self.draws} maps drawn is within, the best is"
        )
        share = f"{found.share:.3%}" if found.exhaustive else f"{found.low:.2g} to {found.high:.2g}"
        return f"{which} beyond {eps:g} for {share} of the pairs, off by {found.largest:.3f} at most"


def project(data: Any, settings: Settings, tell: Progress | None = None) -> Projected:
    """Project rows and measure what that does to their distances.

    Args:
        data: ``(N, d)`` real numbers, an array (mapped from a file, too) or a tensor on the CPU.
        settings: what is asked.
        tell: called with the share done and words.

    Raises:
        UserError: fewer than two rows, NaN or infinity (with the row), no real numbers, a dimension that does not pay,
            more memory needed than there is, or a setting out of range.

    >>> rows = np.random.default_rng(0).standard_normal((30, 500))
    >>> project(rows, Settings(eps=0.5)).verdict()
    'the last of 2 maps drawn keeps all 435 squared distances within 0.5: off by 0.4496 at most'
    """
    report = tell or (lambda share, words: None)
    if settings.draws is not None and settings.draws < 1:
        raise UserError(f"expected at least one map to draw, got draws {settings.draws}; take 1 or more")
    rows = _checked(data)
    points, width = rows.shape
    density = width**-0.5 if settings.density == "li" else float(settings.density)
    known = _known(points, width, settings, density)
    _check_memory(rows, known.dim, settings.kind)
    draws = settings.draws if settings.draws is not None else _DRAWS if settings.dim is None else 1
    # scikit-learn's conventions: maps that follow each other come from one state.
    random = np.random.RandomState(settings.seed)
    jl = JLTransform(
        known.dim, eps=settings.eps, kind=settings.kind, density=settings.density, random_state=random
    )
    best: tuple[Distortion, NDArray[Any]] | None = None
    for number in range(1, draws + 1):
        report((number - 1) / draws, f"map {number} of at most {draws}")
        started = time.perf_counter()
        values = jl.fit(rows).transform(rows)
        seconds = time.perf_counter() - started
        found = jl.certify(rows, pairs=settings.pairs, seed=settings.seed)
        if best is None or found.largest < best[0].largest or found.within:
            best = (found, values)
        if found.within:
            break
    assert best is not None
    notes = _notes(rows, best[0])
    return Projected(best[1], settings, known, points, width, number, best[0], seconds, notes)


def _checked(data: Any) -> NDArray[Any]:
    rows = np.asarray(data)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise UserError(
            f"expected a table (points, dim), one point a row, got shape {rows.shape}; reshape it"
        )
    if rows.dtype.kind not in "fiub":
        raise UserError(
            f"expected real numbers, got {rows.dtype}; split complex numbers into real and imaginary columns"
        )
    if len(rows) < 2:
        raise UserError(f"expected two points at least, got {len(rows)} row: there is no distance to keep")
    step = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        bad = np.argwhere(~np.isfinite(rows[start : start + step]))
        if len(bad):
            row, column = int(bad[0, 0]) + start, int(bad[0, 1])
            raise UserError(
                f"row {row}, column {column} is {rows[row, column]}; leave such rows out, or fill them"
            )
    return rows


def _known(points: int, width: int, settings: Settings, density: float) -> Dimension:
    if settings.dim is not None:
        if settings.dim >= width:
            raise UserError(
                f"{settings.dim:,} dimensions are no fewer than the data's {width:,}: projecting does not pay; "
                "lower --dim, or keep the data"
            )
        left = failure(points, settings.dim, settings.eps, settings.kind, density)
        basis = "the dimension as given" + ("; nothing is proved of it" if left >= 1 else "")
        return Dimension(settings.dim, left, left < 1, left, basis)
    known = dimension(points, settings.eps, settings.failure, settings.kind, density)
    if known.dim >= width:
        raise UserError(
            f"{points:,} points with eps {settings.eps:g} need {known.dim:,} dimensions, and the data has {width:,}: "
            f"projecting does not pay; {_mend(points, width, settings, density)}, or give --dim and see what is lost"
        )
    return known


def _mend(points: int, width: int, settings: Settings, density: float) -> str:
    """The least eps, in hundredths, for which it would pay."""
    for hundredths in range(1, 100):
        eps = hundredths / 100
        if dimension(points, eps, settings.failure, settings.kind, density).dim < width:
            return f"it would from eps {eps:g} on"
    return "it would for no eps below 1; keep the data"


def _check_memory(rows: NDArray[Any], dim: int, kind: Kind) -> None:
    size = 4 if rows.dtype == np.float32 else 8
    need = len(rows) * dim * size
    if kind != "hadamard":
        need += rows.shape[1] * dim * size
    if rows.dtype not in (np.float32, np.float64):
        need += rows.size * size
    refuse_beyond(
        need,
        f"the map and the images of {len(rows):,} x {rows.shape[1]:,} points in {dim:,} dimensions",
        "project parts with the same seed and --dim, or store float32",
    )


def _notes(rows: NDArray[Any], found: Distortion) -> tuple[str, ...]:
    notes = []
    step = max(1, _BLOCK // rows.shape[1])
    zeros = sum(int((~rows[start : start + step].any(axis=1)).sum()) for start in range(0, len(rows), step))
    if zeros:
        notes.append(f"{zeros:,} zero rows: they stay zero")
    if found.duplicates:
        notes.append(
            f"{found.duplicates:,} of the measured pairs are equal rows, at distance 0: a linear map keeps that, and "
            "no ratio is counted for them"
        )
    if not found.exhaustive:
        total = found.points * (found.points - 1) // 2
        notes.append(
            f"{found.pairs:,} of {total:,} pairs were measured, drawn uniformly with replacement; all are measured up "
            f"to {MOST_PAIRS:,}, or with --pairs {total} (default beyond: {SAMPLE:,})"
        )
    return tuple(notes)
