"""The claim about the rank of causal softmax attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from layerlab.attention.theorems import subjects
from layerlab.attention.theorems.subjects import Head, random_head
from layerlab.claims import Claim, Falsifier, Measurement, exact

# Two Mersenne primes: a pivot that is a multiple of both by chance is out of the question.
_PRIMES = (2**61 - 1, 2**89 - 1)
_MOST = 64
# exp(−700) is a number of float64, of full precision.
_DEEPEST = 700.0


def exact_rank(matrix: Tensor) -> int:
    """The rank of a float64 matrix, its numbers taken as the rational numbers that they are.

    Each is an integer times a power of two, so the matrix can be reduced modulo a prime. Elimination there is exact,
    and the rank it finds is at most that of the rational matrix, and equal to it unless the prime divides certain
    minors; the larger of two primes' is taken. A full rank is therefore certain.

    >>> import torch
    >>> exact_rank(torch.tensor([[1.0, 1e-200], [1.0, 0.0]], dtype=torch.float64))
    2
    """
    rows = [[float(number).as_integer_ratio() for number in row] for row in matrix.tolist()]
    return max(
        _rank_modulo([[top * pow(bottom, -1, prime) % prime for top, bottom in row] for row in rows], prime)
        for prime in _PRIMES
    )


def _rank_modulo(rows: list[list[int]], prime: int) -> int:
    rank = 0
    for column in range(len(rows[0])):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        top = rows[rank]
        inverse = pow(top[column], -1, prime)
        for i in range(rank + 1, len(rows)):
            if factor := rows[i][column] * inverse % prime:
                rows[i] = [(a - factor * b) % prime for a, b in zip(rows[i], top, strict=True)]
        rank += 1
    return rank


def _weights(head: Head) -> Tensor:
    return head.weights()


def _mask_removed(head: Head) -> Tensor:
    """Broken: every query sees every key."""
    return replace(head, causal=False).weights()


def _strict(head: Head) -> Tensor:
    """Broken: a query does not see its own key."""
    weights = head.weights().tril(-1)
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-300)


def _own_weight_logs(head: Head) -> Sequence[float]:
    """log P_ii, of which none may leave float64."""
    scores = head.q @ head.k.T / head.q.shape[1] ** 0.5
    return [float(scores[i, i] - scores[i, : i + 1].logsumexp(0)) for i in range(len(scores))]


def _measure_rank(
    head: Head, generator: np.random.Generator, *, weights: Callable[[Head], Tensor] = _weights
) -> Measurement:
    if reason := head.unmet():
        return Measurement.unmet_because(reason)
    if not head.causal:
        return Measurement.unmet_because("the head is not causal")
    if (n := len(head.q)) > _MOST:
        return Measurement.unmet_because(f"{n:,} tokens are too many for exact elimination (up to {_MOST})")
    if (deepest := min(_own_weight_logs(head))) < -_DEEPEST:
        return Measurement.unmet_because(f"a token's own weight is exp({deepest:.0f}), below float64")
    found = exact_rank(weights(head))
    return Measurement(found, bound=n, slack=exact("elimination in integers modulo a prime"))


def _noughts(n: int, *, causal: bool = True) -> Head:
    return random_head(n, scale=0.0, causal=causal)


FULL_RANK_CAUSAL = Claim(
    id="attention.full-rank-causal",
    title="Causal softmax attention has full rank, always",
    source="beyond the documents; homework 4, question 1.3.2 speaks of a low rank",
    statement=(
        "P = softmax(causal scores) is lower triangular with P_ii > 0, so rank P = n for every q and k: what is low"
        " is the numerical rank; measured: the rank of the computed P by elimination in exact arithmetic"
    ),
    hypotheses=(
        subjects.FINITE,
        "causal: query i sees keys j ≤ i, its own included",
        "at most 64 tokens (exact arithmetic), and no own weight below exp(−700)",
    ),
    relation="==",
    extreme="greatest",
    measure=_measure_rank,
    subjects={
        "single-token": lambda: random_head(1, causal=True),
        "uniform": lambda: _noughts(40),
        "random": lambda: random_head(40, causal=True),
        "one-feature": lambda: random_head(64, d=1, causal=True),
        "sharp": lambda: random_head(30, scale=4.0, causal=True),
        "looks-back": lambda: Head(
            subjects.column(*[30.0] * 12),
            subjects.column(*[-float(j) for j in range(12)]),
            subjects.column(*[1.0] * 12),
            causal=True,
        ),
    },
    falsifiers={
        "mask-removed": Falsifier(
            "the mask removed, all queries equal: rank 1",
            lambda: _noughts(40),
            replaces={"weights": _mask_removed},
        ),
        "own-key-hidden": Falsifier(
            "keys j < i only", lambda: random_head(12, causal=True), replaces={"weights": _strict}
        ),
        "bidirectional": Falsifier(
            "a head that is not causal", lambda: _noughts(9, causal=False), expected="hypotheses unmet"
        ),
        "own-weight-underflows": Falsifier(
            "a token that weighs itself by exp(−1,000)",
            lambda: Head(
                subjects.column(0.0, 1.0),
                subjects.column(1000.0, 0.0),
                subjects.column(1.0, 1.0),
                causal=True,
            ),
            expected="hypotheses unmet",
        ),
    },
)
