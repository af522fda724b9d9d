"""The claims about P of low rank: its factors, its best approximation, and what no approximation beats."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerlab.attention.ops import nystrom_attention, randomized_attention, svd_attention
from layerlab.attention.theorems import subjects
from layerlab.attention.theorems.subjects import Head, clustered_head, random_head
from layerlab.claims import Claim, Falsifier, Measurement, Slack, rounding


@dataclass(frozen=True)
class Ranked:
    """A head and a rank k: the one of P (low-rank-svd), or that of an approximation."""

    head: Head
    rank: int

    def unmet(self) -> str | None:
        """The first hypothesis on the head or on the rank's range that is not satisfied."""
        if reason := self.head.unmet():
            return reason
        limit = min(len(self.head.q), len(self.head.k))
        if not 1 <= self.rank <= limit:
            return f"rank {self.rank} is not between 1 and {limit}"
        return None


def svd_slack(p: Tensor, scale: float) -> Slack:
    """What rounding leaves of a product with a computed singular value decomposition of p."""
    return rounding("float64", size=8 * max(p.shape), scale=scale)


def numerical_rank(p: Tensor) -> int:
    """Singular values above max(n, m) ε σ_1."""
    return int(torch.linalg.matrix_rank(p))


# ----------------------------------------------------------------------------------------------------- low-rank-svd

# u, s, vt and v to the output.
Apply = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _given(u: Tensor, s: Tensor, vt: Tensor, v: Tensor) -> Tensor:
    return svd_attention(u, s, vt, v)


def _values_left_out(u: Tensor, s: Tensor, vt: Tensor, v: Tensor) -> Tensor:
    """Broken: U Vᵀ v."""
    return u @ (vt @ v)


def _last_left_out(u: Tensor, s: Tensor, vt: Tensor, v: Tensor) -> Tensor:
    """Broken: the smallest of the k singular values left out."""
    return svd_attention(u[:, :-1], s[:-1], vt[:-1], v)


def _transposed(u: Tensor, s: Tensor, vt: Tensor, v: Tensor) -> Tensor:
    """As printed: Uᵀ (S (Vᵀ v)); where the shapes do not fit there is no value."""
    middle = s[:, None] * (vt @ v)
    if u.shape[0] != middle.shape[0]:
        return torch.full((u.shape[1], v.shape[1]), math.inf, dtype=v.dtype)
    return u.T @ middle


def _unchecked(p: Tensor) -> int:
    """Broken: whatever the rank of P is, it is taken to fit."""
    return 0


def _deviation(out: Tensor, expected: Tensor) -> float:
    """Norm of the difference; infinite where one of them has another shape or no value."""
    if out.shape != expected.shape or not bool(torch.isfinite(out).all()):
        return math.inf
    return float((out - expected).norm())


def _measure_low_rank(
    given: Ranked,
    generator: np.random.Generator,
    *,
    apply: Apply = _given,
    rank: Callable[[Tensor], int] = numerical_rank,
) -> Measurement:
    if reason := given.unmet():
        return Measurement.unmet_because(reason)
    head, k = given.head, given.rank
    p = head.weights()
    if (found := rank(p)) > k:
        return Measurement.unmet_because(f"P has rank {found}, above {k}")
    u, s, vt = torch.linalg.svd(p, full_matrices=False)
    out = apply(u[:, :k], s[:k], vt[:k], head.v)
    return Measurement(
        _deviation(out, p @ head.v), bound=0.0, slack=svd_slack(p, float(s[0] * head.v.norm()))
    )


_HEAD = (subjects.FINITE, subjects.DENSE)

LOW_RANK_SVD = Claim(
    id="attention.low-rank-svd",
    title="With the factors of P, attention is U (S (Vᵀ v))",
    source="Homework 4, question 1.3.2",
    statement=(
        "P = U S Vᵀ of rank k, U (n, k), S diagonal, Vᵀ (k, m): P v = U (S (Vᵀ v)), which never forms P;"
        " measured: ‖difference‖_F"
    ),
    hypotheses=(*_HEAD, "the rank of P is at most k"),
    relation="==",
    extreme="least",
    measure=_measure_low_rank,
    subjects={
        "single-token": lambda: Ranked(random_head(1), 1),
        "three-queries": lambda: Ranked(clustered_head(40, 3), 3),
        "three-queries-few-keys": lambda: Ranked(clustered_head(40, 3, keys=7), 3),
        "uniform": lambda: Ranked(random_head(50, scale=0.0), 1),
        "full-rank": lambda: Ranked(random_head(30), 30),
        "causal-full-rank": lambda: Ranked(random_head(30, causal=True), 30),
        "long": lambda: Ranked(clustered_head(300, 8), 8),
    },
    falsifiers={
        "rank-above-k": Falsifier(
            "P of rank 3, factors of rank 2",
            lambda: Ranked(clustered_head(40, 3), 2),
            replaces={"rank": _unchecked},
        ),
        "rank-above-k-looked-at": Falsifier(
            "the same, with the hypothesis checked",
            lambda: Ranked(clustered_head(40, 3), 2),
            expected="hypotheses unmet",
        ),
        "values-left-out": Falsifier(
            "U (Vᵀ v)", lambda: Ranked(clustered_head(40, 3), 3), replaces={"apply": _values_left_out}
        ),
        "last-left-out": Falsifier(
            "the smallest singular value left out",
            lambda: Ranked(clustered_head(40, 3), 3),
            replaces={"apply": _last_left_out},
        ),
        "transposed": Falsifier(
            "Uᵀ in place of U, as printed",
            lambda: Ranked(random_head(5), 5),
            replaces={"apply": _transposed},
        ),
    },
)


def _measure_as_printed(
    given: Ranked, generator: np.random.Generator, *, apply: Apply = _transposed
) -> Measurement:
    return _measure_low_rank(given, generator, apply=apply)


LOW_RANK_SVD_AS_PRINTED = Claim(
    id="attention.low-rank-svd-as-printed",
    title="As printed: the last product of low-rank attention is with Uᵀ",
    source="Solutions, question 1.3.2, as printed",
    statement=(
        "M_2 = S (Vᵀ v) is (k, d), and P v = [u_1 … u_k]ᵀ M_2. False: (k, n) does not meet (k, d) unless k = n, and"
        " then another value comes out; the product is [u_1 … u_k] M_2; measured: ‖difference‖_F, infinite where"
        " there is no product"
    ),
    hypotheses=(*_HEAD, "the rank of P is at most k"),
    relation="==",
    measure=_measure_as_printed,
    subjects={
        "two-tokens-rank-1": lambda: Ranked(random_head(2, scale=0.0), 1),
        "three-tokens-rank-3": lambda: Ranked(random_head(3), 3),
        "three-queries": lambda: Ranked(clustered_head(40, 3), 3),
    },
    falsifiers={
        "corrected": Falsifier(
            "U in place of Uᵀ",
            lambda: Ranked(random_head(3), 3),
            replaces={"apply": _given},
            expected="holds",
        ),
        "single-token": Falsifier(
            "one token: there it is true", lambda: Ranked(random_head(1), 1), expected="holds"
        ),
    },
    expected="refuted",
)


# ------------------------------------------------------------------------------------- eckart-young, its lower half


def _probes(p: Tensor, v: Tensor, generator: np.random.Generator, k: int) -> list[Tensor]:
    """The head's own values, two random ones, and the singular vector that is worst for rank k."""
    vt = torch.linalg.svd(p, full_matrices=False).Vh
    random = [torch.from_numpy(generator.standard_normal((p.shape[1], 2))) for _ in range(2)]
    worst = [vt[k, :, None]] if k < len(vt) else []
    return [v, *random, *worst]


def _measure_eckart_young(given: Ranked, generator: np.random.Generator, *, kept: int = 0) -> Measurement:
    if reason := given.unmet():
        return Measurement.unmet_because(reason)
    p, k = given.head.weights(), given.rank
    u, s, vt = torch.linalg.svd(p, full_matrices=False)
    few = k + kept
    truncated = (u[:, :few] * s[:few]) @ vt[:few]
    shares = [
        float(((p - truncated) @ v).norm() / v.norm())
        for v in _probes(p, given.head.v, generator, few)
        if bool(v.norm() > 0)
    ]
    bound = float(s[k]) if k < len(s) else 0.0
    return Measurement(max(shares), bound, svd_slack(p, float(s[0])))


_APPROXIMATED = {
    "single-token": lambda: Ranked(random_head(1), 1),
    "random-30": lambda: Ranked(random_head(30), 5),
    "more-keys": lambda: Ranked(random_head(20, keys=60), 5),
    "sharp": lambda: Ranked(random_head(30, scale=4.0), 10),
    "causal": lambda: Ranked(random_head(30, causal=True), 5),
    "rank-reached": lambda: Ranked(clustered_head(40, 3), 3),
    "long": lambda: Ranked(random_head(300), 16),
}

ECKART_YOUNG = Claim(
    id="attention.eckart-young",
    title="Cutting P to rank k moves the output by at most σ_(k+1) ‖v‖",
    source="Eckart and Young, The approximation of one matrix by another of lower rank (Psychometrika 1936)",
    statement=(
        "P_k the first k terms of P's singular value decomposition: ‖P v − P_k v‖_F ≤ σ_(k+1)(P) ‖v‖_F for every v,"
        " with equality for v = v_(k+1); measured: the largest ‖P v − P_k v‖_F / ‖v‖_F, over the head's own values,"
        " two random ones and v_(k+1)"
    ),
    hypotheses=(*_HEAD, "1 ≤ k ≤ min(n, m)"),
    relation="<=",
    measure=_measure_eckart_young,
    subjects=_APPROXIMATED,
    falsifiers={
        "one-fewer": Falsifier(
            "P_(k−1) in place of P_k", lambda: Ranked(random_head(30), 5), replaces={"kept": -1}
        ),
        "rank-too-large": Falsifier(
            "k above n", lambda: Ranked(random_head(3), 4), expected="hypotheses unmet"
        ),
    },
)


# From a head and k to an approximation of P, as it acts on the identity.
Approximate = Callable[[Head, int], Tensor]


def _randomized(head: Head, k: int) -> Tensor:
    q, keys = head.q[None, None], head.k[None, None]
    return randomized_attention(q, keys, torch.eye(len(head.k), dtype=torch.float64)[None, None], k)[0, 0]


def _nystrom(head: Head, k: int) -> Tensor:
    q, keys = head.q[None, None], head.k[None, None]
    return nystrom_attention(q, keys, torch.eye(len(head.k), dtype=torch.float64)[None, None], k)[0, 0]


def _one_rank_more(head: Head, k: int) -> Tensor:
    """Broken: an approximation of rank k + 1."""
    return _randomized(head, k + 1)


def _measure_floor(
    given: Ranked,
    generator: np.random.Generator,
    *,
    approximate: tuple[Approximate, ...] = (_randomized, _nystrom),
    rank: Callable[[Tensor], int] = numerical_rank,
) -> Measurement:
    if reason := given.unmet():
        return Measurement.unmet_because(reason)
    if given.head.causal:
        return Measurement.unmet_because("the head is causal, and these approximations cannot be")
    p, k = given.head.weights(), given.rank
    values = torch.linalg.svdvals(p)
    made = [method(given.head, k) for method in approximate]
    if (found := max(map(rank, made))) > k:
        return Measurement.unmet_because(f"an approximation has rank {found}, above {k}")
    distances = [float(torch.linalg.matrix_norm(p - each, 2)) for each in made]
    bound = float(values[k]) if k < len(values) else 0.0
    slack = svd_slack(p, float(values[0]))
    if slack.value >= bound:
        return Measurement.unmet_because(f"P has rank {k} up to rounding: there is no floor")
    return Measurement(min(distances), bound, slack)


ECKART_YOUNG_FLOOR = Claim(
    id="attention.eckart-young-floor",
    title="No approximation of rank k comes nearer to P than σ_(k+1)",
    source="Mirsky, Symmetric gauge functions and unitarily invariant norms (Quarterly J. Math. 1960)",
    statement=(
        "σ_max(P − B) ≥ σ_(k+1)(P) for every B of rank at most k, so for some v ‖P v − B v‖ ≥ σ_(k+1) ‖v‖; measured:"
        " the smallest σ_max(P − B), of the randomised and of Nyström's approximation"
    ),
    hypotheses=(
        *_HEAD,
        "not causal",
        "B has rank at most k, up to rounding",
        "σ_(k+1) is above rounding",
    ),
    relation=">=",
    measure=_measure_floor,
    subjects={
        "random-30": lambda: Ranked(random_head(30), 5),
        "more-keys": lambda: Ranked(random_head(20, keys=60), 5),
        "sharp": lambda: Ranked(random_head(30, scale=4.0), 10),
        "one-rank": lambda: Ranked(random_head(30), 1),
        "long": lambda: Ranked(random_head(200), 16),
    },
    falsifiers={
        "one-rank-more": Falsifier(
            "an approximation of rank k + 1",
            lambda: Ranked(random_head(30), 5),
            replaces={"approximate": (_one_rank_more,), "rank": _unchecked},
        ),
        "one-rank-more-looked-at": Falsifier(
            "the same, with the hypothesis checked",
            lambda: Ranked(random_head(30), 5),
            replaces={"approximate": (_one_rank_more,)},
            expected="hypotheses unmet",
        ),
        "rank-reached": Falsifier(
            "P of rank k: there is no floor",
            lambda: Ranked(clustered_head(40, 3), 3),
            expected="hypotheses unmet",
        ),
    },
)
