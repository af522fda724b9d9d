"""Frames of small size, made by minimising their coherence numerically."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, sparse
from torch import Tensor

from layerlab.errors import UserError
from layerlab.projection.bounds import Field

LARGEST_COUNT = 256
"""Vectors above which a frame is no longer optimised: a step takes `count`² products."""

LARGEST_SIZE = 4096
"""Numbers (`dim` times `count`) above which a frame is no longer optimised."""

_Array = NDArray[np.float64]

# Exponents of the potential: low ones see all pairs, high ones only the nearest.
_POWERS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536)
# Unknowns of a linear programme that is solved in well under a second; the largest p alone comes to 1 in 10,000.
_MOST_VARIABLES = 200
# A coherence this close to a lower bound is the least one, but for rounding.
_REACHED = 1e-8
# A best that so many starts came upon is hardly ever improved by another.
_OFTEN = 8
_SAME = 1e-5
# What descent leaves for the polish, relative, generously; and how many of the best starts are polished.
_NEAR = 1e-3
_POLISHED = 3


@dataclass(frozen=True)
class Frame:
    """A frame and how it was found.

    Args:
        vectors: ``(count, dim)`` unit rows, float64 or complex128.
        coherence: the largest absolute cosine between two rows.
        restarts: starts that were tried.
        spread: the coherence of every start at its end, ascending: many equal ones make a better frame unlikely.
    """

    vectors: Tensor
    coherence: float
    restarts: int
    spread: tuple[float, ...]


def fits(dim: int, count: int) -> bool:
    """Whether a frame of this size is small enough to be optimised in seconds.

    >>> fits(8, 64), fits(1024, 2048)
    (True, False)
    """
    return count <= LARGEST_COUNT and dim * count <= LARGEST_SIZE


def plane(count: int) -> Tensor:
    """``count`` lines of the real plane at equal angles: coherence cos(π / count), the least possible.

    Args:
        count: lines, at least 2.

    Returns:
        ``(count, 2)`` float64.

    >>> round(float(torch.linalg.matrix_norm(plane(4), 2)), 6)  # a tight frame
    1.414214
    """
    if count < 2:
        raise UserError(f"a frame holds at least 2 vectors, got count {count}; raise it")
    angles = torch.arange(count, dtype=torch.float64) * (math.pi / count)
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def optimised_frame(
    dim: int,
    count: int,
    *,
    field: Field = "real",
    seed: int = 0,
    restarts: int | None = None,
    floor: float = 0.0,
    target: float | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Frame:
    """A frame of low coherence, by descent on the p-frame potential with p growing, then a minimax polish.

    From each random start, (Σ_{i<j} |⟨x_i, x_j⟩|^{2p})^{1/p} is minimised by L-BFGS for p = 2, 4, ..., 65536 (Ehler
    and Okoudjou, "Minimization of the probabilistic p-frame potential", 2012), each from where the last ended. The
    best are polished by sequential linear programmes: the largest |⟨x_i, x_j⟩|² to first order, over steps no longer
    than a trust radius. The result is a local minimum; nothing proves that it is the best.

    Args:
        dim: dimension, at least 2.
        count: vectors, more than ``dim``; see `fits` for the largest.
        field: "real" or "complex".
        seed: of the starts.
        restarts: starts, at most; None takes more the smaller the frame is. A best that eight starts found ends the
            search.
        floor: a lower bound on the coherence; a frame that reaches it ends the search.
        target: a coherence that is good enough; a frame below ends the search.
        progress: called with the share done and words.

    Returns:
        The best frame found. The same arguments give the same frame on one machine.

    Raises:
        UserError: a size that is too small or too large, an unknown field, or no restarts.

    >>> frame = optimised_frame(3, 6, restarts=1)
    >>> round(frame.coherence, 6), round(5**-0.5, 6)  # the diagonals of the icosahedron
    (0.447214, 0.447214)
    """
    _check(dim, count, field, restarts)
    parts = 2 if field == "complex" else 1
    starts = restarts if restarts is not None else _restarts(parts * dim * count)
    generator = np.random.default_rng(seed)
    enough = max(floor * (1 + _REACHED), target if target is not None else 0.0)
    found: list[tuple[float, _Array]] = []
    small = parts * dim * count <= _MOST_VARIABLES
    for start in range(starts):
        rows = _unit(generator.standard_normal((count, parts * dim)))
        for power in _POWERS:
            rows = _descended(rows, power, parts)
        value = _coherence(rows, parts)
        if small and enough < value <= enough * (1 + _NEAR):
            rows = _polished(rows, parts)
            value = _coherence(rows, parts)
        found.append((value, rows))
        best = min(v for v, _ in found)
        if progress is not None:
            progress((start + 1) / starts, f"start {start + 1} of {starts}, coherence {best:.6f}")
        if best <= enough or sum(v <= best * (1 + _SAME) for v, _ in found) >= _OFTEN:
            break
    found.sort(key=lambda entry: entry[0])
    if small and found[0][0] > enough:
        near = [rows for value, rows in found if value <= found[0][0] * (1 + _NEAR)]
        polished = [_polished(rows, parts) for rows in near[:_POLISHED]]
        found[: len(polished)] = [(_coherence(rows, parts), rows) for rows in polished]
    found.sort(key=lambda entry: entry[0])
    value, rows = found[0]
    vectors = rows if parts == 1 else _joined(rows)
    return Frame(torch.from_numpy(vectors.copy()), value, len(found), tuple(v for v, _ in found))


def _check(dim: int, count: int, field: str, restarts: int | None) -> None:
    if field not in ("real", "complex"):
        raise UserError(f"expected the field 'real' or 'complex', got {field!r}")
    if dim < 2 or count <= dim:
        raise UserError(
            f"an optimised frame has a dimension of at least 2 and more vectors than dimensions, got {count} vectors "
            f"in dimension {dim}; up to {max(dim, 1)} vectors are orthonormal"
        )
    if not fits(dim, count):
        raise UserError(
            f"{count:,} vectors of dimension {dim:,} are too many to optimise (at most {LARGEST_COUNT} vectors and "
            f"{LARGEST_SIZE:,} numbers); use codebook(), which constructs larger ones"
        )
    if restarts is not None and restarts < 1:
        raise UserError(f"expected at least one start, got restarts {restarts}")


def _restarts(size: int) -> int:
    return max(2, min(32, 2048 // size))


def _unit(rows: _Array) -> _Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _joined(rows: _Array) -> NDArray[np.complex128]:
    half = rows.shape[1] // 2
    return rows[:, :half] + 1j * rows[:, half:]


def _products(rows: _Array, parts: int) -> tuple[_Array, _Array | None]:
    """Real and imaginary part of ⟨x_i, x_j⟩, the diagonal at 0."""
    real = rows @ rows.T
    np.fill_diagonal(real, 0.0)
    if parts == 1:
        return real, None
    half = rows.shape[1] // 2
    cross = rows[:, half:] @ rows[:, :half].T
    return real, cross - cross.T


def _squares(rows: _Array, parts: int) -> _Array:
    real, imaginary = _products(rows, parts)
    return real**2 if imaginary is None else real**2 + imaginary**2


def _coherence(rows: _Array, parts: int) -> float:
    return math.sqrt(float(_squares(rows, parts).max()))


def _turned(rows: _Array) -> _Array:
    """Each row times the imaginary unit."""
    half = rows.shape[1] // 2
    return np.concatenate([-rows[:, half:], rows[:, :half]], axis=1)


def _descended(rows: _Array, power: int, parts: int) -> _Array:
    """L-BFGS on log (Σ |⟨x_i, x_j⟩|^{2p}) / p over rows of any length, which are made unit ones inside."""
    shape = rows.shape

    def value(flat: _Array) -> tuple[float, _Array]:
        free = flat.reshape(shape)
        lengths = np.linalg.norm(free, axis=1, keepdims=True)
        unit = free / lengths
        real, imaginary = _products(unit, parts)
        squares = real**2 if imaginary is None else real**2 + imaginary**2
        top = float(squares.max())
        # (s / max s)^(p - 1): no power overflows, and those that vanish have no say.
        weights = (squares / top) ** (power - 1)
        total = float((weights * squares).sum()) / top
        weights *= 4.0 / (top * total)
        slope = (weights * real) @ unit
        if imaginary is not None:
            slope += (weights * imaginary) @ _turned(unit)
        slope -= unit * (unit * slope).sum(axis=1, keepdims=True)
        return math.log(top) + math.log(total) / power, (slope / lengths).ravel()

    ended = optimize.minimize(
        value,
        rows.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 150, "maxcor": 20, "ftol": 1e-13},
    )
    return _unit(ended.x.reshape(shape))


def _polished(rows: _Array, parts: int) -> _Array:
    """Steps that lower the largest |⟨x_i, x_j⟩|² as far as its linearisation tells."""
    radius = 0.01
    best = float(_squares(rows, parts).max())
    for _ in range(60):
        step = _step(rows, parts, radius)
        if step is None:
            break
        trial = _unit(rows + step)
        value = float(_squares(trial, parts).max())
        if value < best:
            gain = best - value
            rows, best = trial, value
            radius *= 1.5
            if gain < 1e-14:
                break
        else:
            radius /= 4
            if radius < 1e-8:
                break
    return rows


def _step(rows: _Array, parts: int, radius: float) -> _Array | None:
    """The step within ``radius`` (each number) that lowers the linearised maximum most.

    The programme is written in units of the radius: a solver that sees steps of 1e-8 takes them for rounding.
    """
    count, width = rows.shape
    real, imaginary = _products(rows, parts)
    squares = real**2 if imaginary is None else real**2 + imaginary**2
    # Only pairs that a step of this radius may bring to the top.
    reach = squares.max() - 4 * radius * math.sqrt(width)
    first, second = np.nonzero(np.triu(squares >= reach, 1))
    to_first = 2 * real[first, second, None] * rows[second]
    to_second = 2 * real[first, second, None] * rows[first]
    if imaginary is not None:
        turned = _turned(rows)
        to_first += 2 * imaginary[first, second, None] * turned[second]
        to_second -= 2 * imaginary[first, second, None] * turned[first]
    # Steps along a row only change its length: what is left is the slope for unit rows.
    to_first -= rows[first] * (to_first * rows[first]).sum(axis=1, keepdims=True)
    to_second -= rows[second] * (to_second * rows[second]).sum(axis=1, keepdims=True)
    pairs = np.arange(first.size)
    columns = np.arange(width)
    matrix = sparse.csr_array(
        (
            np.concatenate([to_first.ravel(), to_second.ravel(), -np.ones(first.size)]),
            (
                np.concatenate([np.repeat(pairs, width), np.repeat(pairs, width), pairs]),
                np.concatenate(
                    [
                        (first[:, None] * width + columns).ravel(),
                        (second[:, None] * width + columns).ravel(),
                        np.full(first.size, count * width),
                    ]
                ),
            ),
        ),
        shape=(first.size, count * width + 1),
    )
    goal = np.zeros(count * width + 1)
    goal[-1] = 1.0
    bounds = np.full((count * width + 1, 2), (-1.0, 1.0))
    bounds[-1] = (-4 * math.sqrt(width), 0.0)
    room = (squares.max() - squares[first, second]) / radius
    solved = optimize.linprog(goal, matrix, room, bounds=bounds, method="highs", options={"time_limit": 10.0})
    return radius * solved.x[:-1].reshape(rows.shape) if solved.success else None
