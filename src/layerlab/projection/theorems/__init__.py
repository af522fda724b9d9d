"""The claims about projections and almost orthogonal vectors. ``docs/theory/projection.md`` has the proofs."""

from __future__ import annotations

from layerlab.claims import Claim
from layerlab.projection.theorems.codes import (
    ALMOST_ORTHOGONAL,
    COUNTS,
    RADEMACHER,
    UNIT_AS_PRINTED,
)
from layerlab.projection.theorems.dimensions import CLASSIC, EIGHT, IMPLIED, MOMENTS, SCIKIT_LEARN
from layerlab.projection.theorems.floors import FLOORS, KERDOCK, REFUSAL
from layerlab.projection.theorems.lemma import CHI_SQUARE, JL

CLAIMS: tuple[Claim, ...] = (
    JL,
    CHI_SQUARE,
    CLASSIC,
    MOMENTS,
    SCIKIT_LEARN,
    IMPLIED,
    EIGHT,
    ALMOST_ORTHOGONAL,
    UNIT_AS_PRINTED,
    COUNTS,
    RADEMACHER,
    FLOORS,
    REFUSAL,
    KERDOCK,
)
