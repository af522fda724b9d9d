"""The claim about projecting keys and values (homework 4, question 1.3.3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from layerlab.attention.ops import projected_attention, projections
from layerlab.attention.theorems import subjects
from layerlab.attention.theorems.low_rank import Ranked
from layerlab.attention.theorems.subjects import Head, gaussian, low_rank_head
from layerlab.claims import Claim, Falsifier, Measurement, rounding

# From a head and k to C and D, (k, m) each.
Project = Callable[[Head, int], tuple[Tensor, Tensor]]
# Of the head, C and D, the output.
Attend = Callable[[Head, Tensor, Tensor], Tensor]


def _shipped(head: Head, k: int) -> tuple[Tensor, Tensor]:
    c, d = projections(head.q[None, None], head.k[None, None], rank=k)
    return c[0, 0], d[0, 0]


def by_definition(head: Head, k: int) -> tuple[Tensor, Tensor]:
    """V_kᵀ, the right singular vectors of q kᵀ itself."""
    vt = torch.linalg.svd(head.q @ head.k.T, full_matrices=False).Vh[:k]
    return vt, vt


def _left_vectors(head: Head, k: int) -> tuple[Tensor, Tensor]:
    """Broken: U_kᵀ, the left singular vectors."""
    ut = torch.linalg.svd(head.q @ head.k.T, full_matrices=False).U[:, :k].T
    return ut, ut


def _first_tokens(head: Head, k: int) -> tuple[Tensor, Tensor]:
    """Broken: the first k tokens."""
    rows = torch.eye(len(head.k), dtype=torch.float64)[:k]
    return rows, rows


def _different(head: Head, k: int) -> tuple[Tensor, Tensor]:
    """Broken: C in another basis than D."""
    c, d = by_definition(head, k)
    return c.flip(0), d


def _plain(head: Head, c: Tensor, d: Tensor) -> Tensor:
    q, k, v = (x[None, None] for x in (head.q, head.k, head.v))
    return projected_attention(q, k, v, c, d)[0, 0]


def _softmax_back(head: Head, c: Tensor, d: Tensor) -> Tensor:
    """Broken for this statement: softmax over the k scores, as Linformer has it."""
    q, k, v = (x[None, None] for x in (head.q, head.k, head.v))
    return projected_attention(q, k, v, c, d, softmax=True, scale=1.0)[0, 0]


def _no_softmax(head: Head) -> Tensor:
    return head.q @ (head.k.T @ head.v)


def _with_softmax(head: Head) -> Tensor:
    """Broken for this statement: P with its softmax."""
    return head.weights(scale=1.0) @ head.v


def numerical_rank(head: Head) -> int:
    """Of q kᵀ."""
    return int(torch.linalg.matrix_rank(head.q @ head.k.T))


def _unchecked(head: Head) -> int:
    """Broken: any rank is taken to fit."""
    return 0


def _measure_projection(
    given: Ranked,
    generator: np.random.Generator,
    *,
    projects: tuple[Project, ...] = (by_definition, _shipped),
    attend: Attend = _plain,
    exact: Callable[[Head], Tensor] = _no_softmax,
    rank: Callable[[Head], int] = numerical_rank,
) -> Measurement:
    if reason := given.unmet():
        return Measurement.unmet_because(reason)
    head, k = given.head, given.rank
    if k > head.q.shape[1]:
        return Measurement.unmet_because(f"rank {k} is above d = {head.q.shape[1]}")
    if head.causal:
        return Measurement.unmet_because("the head is causal, and a projection mixes all tokens")
    if (found := rank(head)) > k:
        return Measurement.unmet_because(f"q kᵀ has rank {found}, above {k}")
    expected = exact(head)
    apart = [float((attend(head, *project(head, k)) - expected).norm()) for project in projects]
    scale = float(head.q.norm() * head.k.norm() * head.v.norm()) or 1.0
    size = 8 * max(len(head.q), len(head.k))
    return Measurement(float(np.max(apart)), bound=0.0, slack=rounding("float64", size, scale=scale))


PROJECTION = Claim(
    id="attention.projection",
    title="Without softmax, keys and values can be projected to k rows at no loss",
    source="Homework 4, question 1.3.3",
    statement=(
        "P = Q Kᵀ of rank k, V_k its right singular vectors, C = D = V_kᵀ (k, m): P v = Q (C K)ᵀ (D v); measured:"
        " ‖difference‖_F, for V_k from P itself and for `projections`, which never forms P"
    ),
    hypotheses=(
        subjects.FINITE,
        subjects.DENSE,
        "neither softmax nor scale nor causal mask",
        "the rank of Q Kᵀ is at most k ≤ d",
    ),
    relation="==",
    extreme="least",
    measure=_measure_projection,
    subjects={
        "single-token": lambda: Ranked(low_rank_head(1, 1, d=2), 1),
        "rank-2-of-6": lambda: Ranked(low_rank_head(40, 2), 2),
        "rank-6-of-6": lambda: Ranked(low_rank_head(40, 6), 6),
        "k-above-the-rank": lambda: Ranked(low_rank_head(40, 2), 5),
        "more-features-than-tokens": lambda: Ranked(low_rank_head(5, 4, d=9), 4),
        "keys-of-rank-1": lambda: Ranked(
            Head(gaussian(30, 4), gaussian(50, 1, seed=1).expand(50, 4).contiguous(), gaussian(50, 3)), 1
        ),
        "long": lambda: Ranked(low_rank_head(500, 8, d=16), 8),
    },
    falsifiers={
        "softmax-back": Falsifier(
            "softmax put back on both sides, unscaled",
            lambda: Ranked(low_rank_head(40, 2), 2),
            replaces={"attend": _softmax_back, "exact": _with_softmax},
        ),
        "softmax-of-p": Falsifier(
            "P with its softmax, the right side without",
            lambda: Ranked(low_rank_head(40, 2), 2),
            replaces={"exact": _with_softmax},
        ),
        "left-vectors": Falsifier(
            "left singular vectors in place of right ones",
            lambda: Ranked(low_rank_head(40, 2), 2),
            replaces={"projects": (_left_vectors,)},
        ),
        "first-tokens": Falsifier(
            "the first k tokens in place of V_kᵀ",
            lambda: Ranked(low_rank_head(40, 2), 2),
            replaces={"projects": (_first_tokens,)},
        ),
        "different-bases": Falsifier(
            "C in another basis than D",
            lambda: Ranked(low_rank_head(40, 2), 2),
            replaces={"projects": (_different,)},
        ),
        "rank-above-k": Falsifier(
            "Q Kᵀ of rank 3, projections of rank 2",
            lambda: Ranked(low_rank_head(40, 3), 2),
            replaces={"rank": _unchecked},
        ),
        "rank-above-k-looked-at": Falsifier(
            "the same, with the hypothesis checked",
            lambda: Ranked(low_rank_head(40, 3), 2),
            expected="hypotheses unmet",
        ),
    },
)
