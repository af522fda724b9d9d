"""The claims about what attention costs: how counted operations and bytes grow with each size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerlab.attention.ops import svd_attention
from layerlab.attention.theorems.counting import What, count, growth
from layerlab.claims import Claim, Falsifier, Measurement, Slack, rounding

# A computation: takes the sizes by name, makes tensors without content, gives what is to be counted.
Run = Callable[..., Callable[[], Any]]

_FEWEST = 4
_SIZES = {"n": 1024, "d": 16, "k": 16, "e": 16}


@dataclass(frozen=True)
class Cost:
    """What is counted while one size doubles and the others stay.

    Args:
        what: "operations" of matrix products, or "bytes" alive at once.
        vary: the size that doubles: n (length), d (of queries and keys), e (of values) or k (rank or features).
        doublings: how many times.
        sizes: where they start, in place of n = 1,024 and 16 for the others.
    """

    what: What
    vary: str
    doublings: int = 6
    sizes: Mapping[str, int] = field(default_factory=dict)


def _empty(*shape: int) -> Tensor:
    """A tensor with a shape and no content: counting needs no numbers."""
    return torch.empty(shape, device="meta")


def _measure_cost(cost: Cost, generator: np.random.Generator, *, exponent: int, run: Run) -> Measurement:
    start = {**_SIZES, **cost.sizes}
    if cost.vary not in start:
        return Measurement.unmet_because(f"there is no size {cost.vary}; expected one of {', '.join(start)}")
    if cost.doublings < _FEWEST:
        return Measurement.unmet_because(f"{cost.doublings} doublings are too few (at least {_FEWEST})")
    sizes = [start[cost.vary] * 2**number for number in range(cost.doublings + 1)]
    counts = [count(cost.what, run(**{**start, cost.vary: size})) for size in sizes]
    if min(counts) == 0:
        return Measurement.unmet_because(f"no {cost.what} were counted")
    found = growth(sizes, counts, exponent)
    error = rounding("float64", size=8 + int(math.log2(max(counts))), scale=float(exponent))
    reason = (
        f"{error.reason}; {counts[0]:,} {cost.what} at {cost.vary} = {sizes[0]:,}, {counts[-1]:,} at {sizes[-1]:,};"
        f" fitted with lower terms: {found.fitted:.4f}, 99.9999 % interval {found.low:.4f} to {found.high:.4f}"
    )
    return Measurement(found.exponent, bound=float(exponent), slack=Slack(error.value, reason, error.scale))


def _statement(what: str, exponent: str) -> str:
    return (
        f"{what}; measured: the exponent of the leading term of counts taken while one size doubles, that is their"
        f" log-log slope with all lower terms removed by differences; bound: {exponent}"
    )


_COUNTED = (
    "an operation is a multiplication or an addition in a product of matrices; bytes are those that are alive at once"
    " and were made on the way, the result included",
    "only the size that is named grows",
)


# ------------------------------------------------------------------------------- kernel-linear, softmax: in n


def _grouped(n: int, k: int, e: int, **_: int) -> Callable[[], Tensor]:
    """φ(q) (φ(k)ᵀ v) over φ(q) (φ(k)ᵀ 1), of features that are there."""
    q, keys, v = _empty(n, k), _empty(n, k), _empty(n, e)
    return lambda: (q @ (keys.T @ v)) / (q @ keys.sum(0)[:, None])


def _weights_first(n: int, k: int, e: int, **_: int) -> Callable[[], Tensor]:
    """Broken: (φ(q) φ(k)ᵀ) v, the weights of all pairs built."""
    q, keys, v = _empty(n, k), _empty(n, k), _empty(n, e)

    def run() -> Tensor:
        weights = q @ keys.T
        return (weights @ v) / weights.sum(1, keepdim=True)

    return run


def _features_with_length(n: int, e: int, **_: int) -> Callable[[], Tensor]:
    """Broken: as many features as √n, as an expansion of exp needs more of them for longer vectors."""
    return _grouped(n=n, k=math.isqrt(n), e=e)


def _last_query(k: int, e: int, **_: int) -> Callable[[], Tensor]:
    """Broken: the last query alone, the sums over the keys at hand."""
    q, sums, norm = _empty(1, k), _empty(k, e), _empty(k)
    return lambda: (q @ sums) / (q @ norm[:, None])


def _softmax(n: int, d: int, e: int, **_: int) -> Callable[[], Tensor]:
    """softmax(q kᵀ) v, the weights of all pairs built."""
    q, k, v = _empty(n, d), _empty(n, d), _empty(n, e)
    return lambda: torch.softmax(q @ k.T / math.sqrt(d), -1) @ v


def _two_steps(n: int, d: int, e: int, **_: int) -> Callable[[], Tensor]:
    """Broken: P² v, two steps of attention, grouped by pairs."""
    q, k, v = _empty(n, d), _empty(n, d), _empty(n, e)

    def run() -> Tensor:
        weights = torch.softmax(q @ k.T / math.sqrt(d), -1)
        return (weights @ weights) @ v

    return run


def _fused(n: int, d: int, e: int, **_: int) -> Callable[[], Tensor]:
    """torch's fused softmax attention, which never holds P; it has no version without content."""
    q = torch.zeros(1, 1, n, d)
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, q, torch.zeros(1, 1, n, e))


LINEAR_COST = Claim(
    id="attention.kernel-linear-cost",
    title="Grouped by keys, kernel attention costs n¹ in operations and in memory",
    source="Homework 4, question 1.3.1; Katharopoulos et al., Transformers are RNNs (ICML 2020)",
    statement=_statement(
        "φ(q_i)ᵀ (Σ_j φ(k_j) v_jᵀ) / φ(q_i)ᵀ Σ_j φ(k_j) for all i takes 4 n k e + 2 n k operations for k features,"
        " and memory that grows as n",
        "1",
    ),
    hypotheses=(*_COUNTED, "φ has a fixed, finite number of features"),
    relation="==",
    measure=partial(_measure_cost, exponent=1, run=_grouped),
    subjects={
        "operations-in-n": lambda: Cost("operations", "n"),
        "bytes-in-n": lambda: Cost("bytes", "n"),
        "operations-in-features": lambda: Cost("operations", "k"),
        "operations-in-values": lambda: Cost("operations", "e"),
    },
    falsifiers={
        "weights-first": Falsifier(
            "(φ(q) φ(k)ᵀ) v, grouped by pairs",
            lambda: Cost("operations", "n"),
            replaces={"run": _weights_first},
        ),
        "weights-first-bytes": Falsifier(
            "the same, in memory", lambda: Cost("bytes", "n"), replaces={"run": _weights_first}
        ),
        "features-with-length": Falsifier(
            "√n features: the kernel alone makes nothing linear",
            lambda: Cost("operations", "n", sizes={"n": 1024}),
            replaces={"run": _features_with_length},
        ),
        "last-query": Falsifier(
            "the last query alone, the sums over the keys at hand: n⁰",
            lambda: Cost("operations", "n"),
            replaces={"run": _last_query},
        ),
        "softmax": Falsifier(
            "softmax attention", lambda: Cost("operations", "n"), replaces={"run": _softmax}
        ),
    },
)

SOFTMAX_COST = Claim(
    id="attention.softmax-cost",
    title="Softmax attention that builds its weights costs n² in operations and in memory",
    source="Homework 4, question 1.3.1",
    statement=_statement(
        "softmax(q kᵀ / √d) v takes 2 n² (d + e) operations, and memory that grows as n² where P is built",
        "2",
    ),
    hypotheses=(*_COUNTED, "P is built: a fused softmax holds only a block of it at a time"),
    relation="==",
    measure=partial(_measure_cost, exponent=2, run=_softmax),
    subjects={
        "operations-in-n": lambda: Cost("operations", "n"),
        "bytes-in-n": lambda: Cost("bytes", "n"),
    },
    falsifiers={
        "grouped": Falsifier(
            "kernel attention, grouped", lambda: Cost("operations", "n"), replaces={"run": _grouped}
        ),
        "two-steps": Falsifier(
            "two steps of attention at once, (P P) v: n³",
            lambda: Cost("operations", "n"),
            replaces={"run": _two_steps},
        ),
        "grouped-bytes": Falsifier(
            "the same, in memory", lambda: Cost("bytes", "n"), replaces={"run": _grouped}
        ),
        "fused-bytes": Falsifier(
            "torch's fused softmax, which takes n² operations in n¹ memory",
            lambda: Cost("bytes", "n", doublings=4, sizes={"n": 64}),
            replaces={"run": _fused},
        ),
    },
)


# ------------------------------------------------------------------------------------- low rank, projection: n k d


def _factors(n: int, k: int, e: int, **_: int) -> Callable[[], Tensor]:
    """U (S (Vᵀ v)), by the shipped operator."""
    u, s, vt, v = _empty(n, k), _empty(k), _empty(k, n), _empty(n, e)
    return lambda: svd_attention(u, s, vt, v)


def _product_first(n: int, k: int, e: int, **_: int) -> Callable[[], Tensor]:
    """Broken: ((U S) Vᵀ) v, P built."""
    u, s, vt, v = _empty(n, k), _empty(k), _empty(k, n), _empty(n, e)
    return lambda: ((u * s) @ vt) @ v


def _rank_fixed(n: int, e: int, **_: int) -> Callable[[], Tensor]:
    """Broken: a rank of 16, whatever k is."""
    return _factors(n=n, k=16, e=e)


LOW_RANK_COST = Claim(
    id="attention.low-rank-cost",
    title="With the factors of P at hand, attention costs n¹ k¹ d¹",
    source="Homework 4, question 1.3.2",
    statement=_statement("U (S (Vᵀ v)) takes 4 n k e operations, for U (n, k), S diagonal and v (n, e)", "1"),
    hypotheses=(*_COUNTED, "the factorisation of P is given: finding it costs more"),
    relation="==",
    measure=partial(_measure_cost, exponent=1, run=_factors),
    subjects={
        "operations-in-n": lambda: Cost("operations", "n"),
        "operations-in-k": lambda: Cost("operations", "k"),
        "operations-in-d": lambda: Cost("operations", "e"),
        "bytes-in-n": lambda: Cost("bytes", "n"),
    },
    falsifiers={
        "product-first": Falsifier(
            "((U S) Vᵀ) v", lambda: Cost("operations", "n"), replaces={"run": _product_first}
        ),
        "rank-fixed": Falsifier(
            "a rank of 16, whatever k is: k⁰", lambda: Cost("operations", "k"), replaces={"run": _rank_fixed}
        ),
        "product-first-bytes": Falsifier(
            "the same, in memory", lambda: Cost("bytes", "n"), replaces={"run": _product_first}
        ),
    },
)


def _projected(n: int, k: int, d: int, e: int, **_: int) -> Callable[[], Tensor]:
    """(Q (C K)ᵀ) (D V), with the projections at hand."""
    c, q, keys, v = _empty(k, n), _empty(n, d), _empty(n, d), _empty(n, e)
    return lambda: (q @ (c @ keys).T) @ (c @ v)


def _projected_from_the_right(n: int, k: int, d: int, **_: int) -> Callable[[], Tensor]:
    """Broken where d = e: Q ((C K)ᵀ (D V)), a product of (n, d) with (d, d)."""
    c, q, keys, v = _empty(k, n), _empty(n, d), _empty(n, d), _empty(n, d)
    return lambda: q @ ((c @ keys).T @ (c @ v))


def _rows_fixed(n: int, d: int, e: int, **_: int) -> Callable[[], Tensor]:
    """Broken: projected to 16 rows, whatever k is."""
    return _projected(n=n, k=16, d=d, e=e)


PROJECTION_COST = Claim(
    id="attention.projection-cost",
    title="Projected to k rows, attention costs n¹ k¹ d¹, grouped from the left",
    source="Homework 4, question 1.3.3",
    statement=_statement(
        "(Q (C K)ᵀ) (D V) takes 4 n k (d + e) operations, for C and D (k, n), Q and K (n, d) and V (n, e)",
        "1",
    ),
    hypotheses=(*_COUNTED, "the projections are given"),
    relation="==",
    measure=partial(_measure_cost, exponent=1, run=_projected),
    subjects={
        "operations-in-n": lambda: Cost("operations", "n"),
        "operations-in-k": lambda: Cost("operations", "k"),
        "operations-in-d": lambda: Cost("operations", "d"),
        "bytes-in-n": lambda: Cost("bytes", "n"),
    },
    falsifiers={
        "from-the-right": Falsifier(
            "Q ((C K)ᵀ (D V)), which costs n d²: more than n k d, as k ≤ d",
            lambda: Cost("operations", "d"),
            replaces={"run": _projected_from_the_right},
        ),
        "rows-fixed": Falsifier(
            "16 rows, whatever k is: k⁰", lambda: Cost("operations", "k"), replaces={"run": _rows_fixed}
        ),
        "softmax": Falsifier(
            "softmax attention", lambda: Cost("operations", "n"), replaces={"run": _softmax}
        ),
    },
)
