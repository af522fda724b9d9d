"""The claims about the least coherence: floors that nothing is below, Kerdock sets, which reach one, and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerlab.claims import Claim, Falsifier, Measurement, exact, rounding
from layerlab.errors import UserError
from layerlab.projection.bounds import floor, kerdock_count
from layerlab.projection.certificate import certify
from layerlab.projection.codebooks import ImpossibleError, codebook
from layerlab.projection.frames import optimised_frame
from layerlab.projection.kerdock import Kerdock
from layerlab.projection.simplex import simplex
from layerlab.projection.theorems.codes import measured_coherence

Vectors = Callable[[], Tensor]


def _random(count: int, dim: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, dim, generator=generator, dtype=torch.float64)


def _sic() -> Tensor:
    """Four equiangular lines of C²: |cos| = 1/√3, below what any four lines of R² have."""
    turn = 2 * math.pi / 3
    phases = torch.tensor([1.0, math.cos(turn), math.cos(2 * turn)], dtype=torch.float64) + 1j * torch.tensor(
        [0.0, math.sin(turn), math.sin(2 * turn)], dtype=torch.float64
    )
    first = torch.tensor([[1.0, 0.0]], dtype=torch.complex128)
    others = torch.stack([torch.full((3,), 3**-0.5, dtype=torch.complex128), phases * (2 / 3) ** 0.5], dim=1)
    return torch.cat([first, others])


def _floor(vectors: Tensor) -> float:
    return floor(vectors.shape[1], len(vectors), "complex" if vectors.is_complex() else "real").value


def _for_twice_as_many(vectors: Tensor) -> float:
    """Broken: the floor of twice as many vectors."""
    return floor(vectors.shape[1], 2 * len(vectors)).value


def _as_if_real(vectors: Tensor) -> float:
    """Broken: the floor of real vectors for complex ones."""
    return floor(vectors.shape[1], len(vectors), "real").value


def _mean_cosine(vectors: Tensor) -> float:
    """Broken: the mean in place of the maximum."""
    units = vectors / vectors.norm(dim=1, keepdim=True)
    cosines = (units @ units.mH).abs()
    return float((cosines.sum() - len(units)) / (len(units) * (len(units) - 1)))


def _measure_floor(
    make: Vectors,
    generator: np.random.Generator,
    *,
    coherence: Callable[[Tensor], float] = measured_coherence,
    bound: Callable[[Tensor], float] = _floor,
) -> Measurement:
    vectors = make()
    lower = bound(vectors)
    if lower == 0:
        return Measurement.unmet_because("up to n vectors can be orthogonal: there is no floor")
    # The eigenvalue behind the floor is right to about 1e-9 of it.
    return Measurement(coherence(vectors), lower, rounding("float64", 10**6, scale=lower))


FLOORS = Claim(
    id="projection.floors",
    title="No vectors are less coherent than the floors of Welch and Levenshtein",
    source="Welch 1974; Levenshtein 1992; Conway, Hardin and Sloane 1996 (orthoplex)",
    statement=(
        "max |cos| of N > n vectors is at least the largest of Welch's bounds √((N M_k − 1)/(N − 1)) (2k-th root),"
        " Levenshtein's, and 1/√n for N > n (n + 1)/2; measured: the coherence; bound: the floor"
    ),
    hypotheses=("N > n: up to n vectors can be orthogonal",),
    relation=">=",
    measure=_measure_floor,
    subjects={
        "simplex-of-R5": lambda: lambda: simplex(5),
        "six-diagonals-of-the-icosahedron": lambda: lambda: optimised_frame(3, 6).vectors,
        "kerdock-16": lambda: lambda: Kerdock(16).vectors(),
        "random-200-in-R20": lambda: lambda: _random(200, 20),
        "four-lines-of-C2": lambda: _sic,
    },
    falsifiers={
        "for-twice-as-many": Falsifier(
            "the floor of twice as many vectors",
            lambda: lambda: simplex(5),
            replaces={"bound": _for_twice_as_many},
        ),
        "as-if-real": Falsifier(
            "the floor of real vectors for complex ones", lambda: _sic, replaces={"bound": _as_if_real}
        ),
        "mean-cosine": Falsifier(
            "the mean cosine in place of the largest",
            lambda: lambda: _random(200, 20),
            replaces={"coherence": _mean_cosine},
        ),
        "orthonormal": Falsifier(
            "four vectors of R^4", lambda: lambda: torch.eye(4), expected="hypotheses unmet"
        ),
    },
)


def _kerdock(dim: int) -> Tensor:
    return Kerdock(dim).vectors()


def _random_signs(dim: int) -> Tensor:
    """Broken: random signs in place of quadratic forms."""
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randint(0, 2, (kerdock_count(dim), dim), generator=generator).double() - 1


def _one_more(dim: int) -> Tensor:
    """Broken: a line more."""
    return torch.cat([Kerdock(dim).vectors().double(), _random(1, dim)])


def _measure_kerdock(
    dim: int, generator: np.random.Generator, *, lines: Callable[[int], Tensor] = _kerdock
) -> Measurement:
    vectors = lines(dim)
    if len(vectors) < kerdock_count(dim):
        return Measurement.unmet_because("lines are missing")
    found = certify(vectors, bins=0)
    return Measurement(found.coherence, dim**-0.5, rounding("float64", 4 * dim, scale=1.0))


KERDOCK = Claim(
    id="projection.kerdock",
    title="(n² + 2n)/2 lines of R^n meet at 1/√n, for n = 4^k",
    source="Kerdock 1972; Cameron and Seidel 1973; Calderbank, Cameron, Kantor and Seidel 1997",
    statement=(
        "n/2 + 1 orthonormal bases, all cosines between them ±1/√n; measured: the coherence over all pairs; bound: "
        "1/√n, which is Levenshtein's floor for that count"
    ),
    hypotheses=("n = 4^k", "all (n² + 2n)/2 lines"),
    relation="==",
    extreme="least",
    measure=_measure_kerdock,
    subjects={"n-4": lambda: 4, "n-16": lambda: 16, "n-64": lambda: 64},
    falsifiers={
        "random-signs": Falsifier("as many random signs", lambda: 64, replaces={"lines": _random_signs}),
        "one-more": Falsifier(
            "a line more than Levenshtein allows", lambda: 16, replaces={"lines": _one_more}
        ),
    },
)


@dataclass(frozen=True)
class Asked:
    """A codebook of so many vectors of R^n with |cos| ≤ δ."""

    dim: int
    count: int
    coherence: float


def _shipped(asked: Asked) -> str | None:
    """The words of a refusal because there are no such vectors; None: it was not refused for that."""
    try:
        codebook(asked.dim, asked.count, asked.coherence)
    except ImpossibleError as error:
        return str(error)
    except UserError:
        return None
    return None


def _never(asked: Asked) -> str | None:
    """Broken: takes every request."""
    return None


def _unnamed(asked: Asked) -> str | None:
    """Broken: a refusal that does not say why."""
    return "no"


def _measure_refusal(
    asked: Asked, generator: np.random.Generator, *, refusal: Callable[[Asked], str | None] = _shipped
) -> Measurement:
    bound = floor(asked.dim, asked.count)
    if not bound.excludes(asked.coherence):
        return Measurement.unmet_because(f"no floor excludes it: {bound.name} is {bound.value:.4g}")
    words = refusal(asked)
    named = words is not None and bound.name.partition(",")[0] in words
    return Measurement(float(named), 1.0, exact("a truth value"))


REFUSAL = Claim(
    id="projection.refusal",
    title="A codebook below a floor is refused, and the floor is named",
    source="Beyond the document",
    statement=(
        "`codebook` refuses N vectors of R^n with |cos| ≤ δ where δ is below a floor, by that floor's name; measured: 1"
        " if it does, else 0"
    ),
    hypotheses=("a floor excludes the request",),
    relation="==",
    extreme="greatest",
    measure=_measure_refusal,
    subjects={
        "ten-thousand-of-R100": lambda: Asked(100, 10_000, 0.1),
        "one-more-than-kerdock": lambda: Asked(16, 145, 0.25),
        "four-of-the-plane": lambda: Asked(2, 4, 0.7),
        "below-welch": lambda: Asked(50, 60, 0.05),
    },
    falsifiers={
        "never": Falsifier(
            "every request is taken", lambda: Asked(100, 10_000, 0.1), replaces={"refusal": _never}
        ),
        "unnamed": Falsifier(
            "a refusal without a reason", lambda: Asked(100, 10_000, 0.1), replaces={"refusal": _unnamed}
        ),
        "kerdock": Falsifier(
            "a Kerdock set, which exists", lambda: Asked(16, 144, 0.25), expected="hypotheses unmet"
        ),
    },
)
