"""The claims about almost orthogonal vectors: how many there are, and what is printed of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerlab.claims import Claim, Falsifier, Measurement, confidence, exact, rounding
from layerlab.errors import UserError
from layerlab.projection.bounds import document_count, most, rademacher_count
from layerlab.projection.certificate import certify
from layerlab.projection.document import document_codebook

# Fixed in advance; so is the confidence.
DRAWS, FULL_DRAWS = 200, 2_000
LEVEL = 0.999999


@dataclass(frozen=True)
class Request:
    """A dimension n and a coherence δ; None takes all vectors that the theorem promises."""

    dim: int
    coherence: float
    count: int | None = None


def measured_coherence(vectors: Tensor) -> float:
    """What the coherence certainly does not exceed, over all pairs."""
    return certify(vectors, bins=0).upper


Make = Callable[[Request, int], Tensor]


def _document(given: Request, seed: int) -> Tensor:
    return document_codebook(given.dim, given.coherence, given.count, seed=seed).vectors


def _a_sixtieth(given: Request, seed: int) -> Tensor:
    """Broken: as many vectors from a map to a sixtieth of the dimension. (A tenth holds: the theorem is that loose.)"""
    count = document_count(given.dim, given.coherence)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, given.dim // 60, generator=generator, dtype=torch.float64)


def _one_twice(given: Request, seed: int) -> Tensor:
    """Broken: the last vector is the first, a little turned."""
    vectors = _document(given, seed)
    vectors[-1] = vectors[0] + 0.1 * vectors[-1]
    return vectors


def _measure_document(
    given: Request, generator: np.random.Generator, *, make: Make = _document
) -> Measurement:
    if not 0 < given.coherence < 1:
        return Measurement.unmet_because("the claim is trivial for δ ≥ 1")
    try:
        vectors = make(given, int(generator.integers(2**31)))
    except UserError as error:
        return Measurement.unmet_because(str(error))
    if given.count is None and len(vectors) != document_count(given.dim, given.coherence):
        return Measurement.unmet_because("fewer vectors than promised")
    return Measurement(
        measured_coherence(vectors),
        given.coherence,
        exact("the coherence is an upper end, rounding included"),
    )


ALMOST_ORTHOGONAL = Claim(
    id="projection.almost-orthogonal",
    title="R^n holds ⌊exp(n δ²/72)⌋ − 1 unit vectors with all |cos| ≤ δ",
    source="Solutions, question 2.1.1",
    statement=(
        "the proof's construction (columns of a map that keeps the distances of 0, e_1 … e_d within 1 ± δ/3, over their"
        " norms) gives d = ⌊exp(n δ²/72)⌋ − 1 vectors; measured: their coherence over all pairs; bound: δ"
    ),
    hypotheses=("0 < δ < 1", "the theorem promises two vectors at least", "no floor excludes the request"),
    relation="<=",
    measure=_measure_document,
    subjects={
        "n-1000-delta-half": lambda: Request(1_000, 0.5),
        "n-1000-delta-0.3": lambda: Request(1_000, 0.3),
        "n-2000-delta-0.45": lambda: Request(2_000, 0.45),
    },
    falsifiers={
        "a-sixtieth": Falsifier(
            "as many vectors in a sixtieth of the dimensions",
            lambda: Request(1_000, 0.5),
            replaces={"make": _a_sixtieth},
        ),
        "one-twice": Falsifier(
            "one vector nearly twice", lambda: Request(1_000, 0.5), replaces={"make": _one_twice}
        ),
        "below-the-floor": Falsifier(
            "10,000 vectors of R^100 at 0.1, below the floors of Welch and Levenshtein: refused",
            lambda: Request(100, 0.1, 10_000),
            expected="hypotheses unmet",
        ),
        "nothing-promised": Falsifier(
            "n = 100, δ = 0.5, where ⌊exp(n δ²/72)⌋ − 1 = 0: refused",
            lambda: Request(100, 0.5),
            expected="hypotheses unmet",
        ),
    },
)


def _as_written(given: Request, seed: int) -> Tensor:
    return document_codebook(given.dim, given.coherence, seed=seed).as_written


def _over_the_norm(given: Request, seed: int) -> Tensor:
    return document_codebook(given.dim, given.coherence, seed=seed).vectors


def _of_the_identity(given: Request, seed: int) -> Tensor:
    """Where all norms are 1 already."""
    return torch.eye(given.dim, dtype=torch.float64)


def _measure_unit(given: Request, generator: np.random.Generator, *, make: Make = _as_written) -> Measurement:
    vectors = make(given, int(generator.integers(2**31)))
    off = float((vectors.norm(dim=1) - 1).abs().max())
    return Measurement(off, 0.0, rounding("float64", vectors.shape[1], scale=1.0))


UNIT_AS_PRINTED = Claim(
    id="projection.unit-vectors-as-printed",
    title="As printed: M e_i over its squared norm is a unit vector",
    source="Solutions, question 2.1.1, as printed",
    statement=(
        "U = {M e_i/‖M e_i‖²} has ‖u‖ = 1 for all u. False: ‖u‖ = 1/‖M e_i‖, which is 1 only where the map keeps the "
        "length exactly; M e_i/‖M e_i‖ has; measured: the largest |‖u‖ − 1|; bound: 0"
    ),
    hypotheses=("the theorem promises two vectors at least",),
    relation="==",
    measure=_measure_unit,
    subjects={
        "n-1000-delta-half": lambda: Request(1_000, 0.5),
        "n-1000-delta-0.3": lambda: Request(1_000, 0.3),
    },
    falsifiers={
        "over-the-norm": Falsifier(
            "divided by the norm, as corrected",
            lambda: Request(1_000, 0.5),
            replaces={"make": _over_the_norm},
            expected="holds",
        ),
        "identity": Falsifier(
            "M = I: there it is true",
            lambda: Request(8, 0.5),
            replaces={"make": _of_the_identity},
            expected="holds",
        ),
    },
    expected="refuted",
)


def _promise(given: Request) -> int:
    return document_count(given.dim, given.coherence)


def _two_in_place_of_72(given: Request) -> int:
    """Broken: exp(n δ²/2)."""
    return math.floor(math.exp(given.dim * given.coherence**2 / 2))


def _measure_counts(
    given: Request, generator: np.random.Generator, *, promise: Callable[[Request], int] = _promise
) -> Measurement:
    found = promise(given)
    signs = rademacher_count(given.dim, given.coherence)
    # Two bounds in one: the signs that exist are no more than a floor leaves.
    return Measurement(found, min(signs, most(given.dim, given.coherence)), exact("whole numbers"))


COUNTS = Claim(
    id="projection.counts",
    title="Random signs give at least as many vectors as the document promises",
    source="Beyond the document: Hoeffding's inequality and the union over pairs",
    statement=(
        "⌊exp(n δ²/72)⌋ − 1 ≤ ⌊exp(n δ²/4)⌋, and no more than the floors of Welch and Levenshtein leave; measured: the "
        "left side; bound: the smaller of the others"
    ),
    hypotheses=("0 < δ < 1",),
    relation="<=",
    measure=_measure_counts,
    subjects={
        "n-1000-delta-half": lambda: Request(1_000, 0.5),
        "n-1000-delta-0.3": lambda: Request(1_000, 0.3),
        "n-10-delta-0.1": lambda: Request(10, 0.1),
        "n-500-delta-0.6": lambda: Request(500, 0.6),
    },
    falsifiers={
        "two-in-place-of-72": Falsifier(
            "⌊exp(n δ²/2)⌋",
            lambda: Request(1_000, 0.3),
            replaces={"promise": _two_in_place_of_72},
        )
    },
)


@dataclass(frozen=True)
class Signs:
    """So many random sign vectors of R^n, and the probability that some pair has |cos| > δ."""

    dim: int
    coherence: float
    failure: float


def _whole_dim(given: Signs) -> int:
    return given.dim


def _tenth(given: Signs) -> int:
    """Broken: a tenth of the dimension."""
    return given.dim // 10


def _measure_rademacher(
    given: Signs,
    generator: np.random.Generator,
    *,
    dim: Callable[[Signs], int] = _whole_dim,
    draws: int = DRAWS,
) -> Measurement:
    count = rademacher_count(given.dim, given.coherence, given.failure)
    if count < 2:
        return Measurement.unmet_because("there is no pair")
    n, failures = dim(given), 0
    for _ in range(draws):
        signs = 2 * generator.integers(0, 2, (count, n)).astype(np.float32) - 1
        products = np.abs(signs @ signs.T)  # whole numbers, exact in float32
        np.fill_diagonal(products, 0)
        failures += bool(products.max() > given.coherence * n)
    spread = math.sqrt(given.failure * (1 - given.failure))
    return Measurement(failures / draws, given.failure, confidence(spread, draws, LEVEL))


RADEMACHER = Claim(
    id="projection.rademacher",
    title="⌊√p exp(n δ²/4)⌋ random sign vectors stay below δ, but for the probability p",
    source="Hoeffding 1963, and the union over all pairs",
    statement=(
        "N (N − 1) exp(−n δ²/2) bounds the probability that a pair of N random sign vectors has |cos| > δ; measured: "
        f"the share of {DRAWS} draws ({FULL_DRAWS:,} with --full) with such a pair; bound: p"
    ),
    hypotheses=("N ≥ 2", "the number of draws is fixed in advance"),
    relation="<=",
    measure=_measure_rademacher,
    full={"draws": FULL_DRAWS},
    subjects={
        "n-100": lambda: Signs(100, 0.45, 0.2),
        "n-64": lambda: Signs(64, 0.5, 0.1),
        "n-301": lambda: Signs(301, 0.25, 0.3),
    },
    falsifiers={
        "a-tenth": Falsifier(
            "a tenth of the dimension", lambda: Signs(100, 0.45, 0.2), replaces={"dim": _tenth}
        )
    },
)
