"""The claims about score-function estimators; ``docs/theory/estimators.md`` has the proofs."""

from __future__ import annotations

from layerlab.claims import Claim
from layerlab.estimators.theorems.baselines import BASELINE, BEST_BASELINE, MEAN_BASELINE
from layerlab.estimators.theorems.reinforce import (
    CLOSED_FORM,
    HINT_AS_PRINTED,
    SLOW_LEARNING,
    UNBIASED,
    UNBIASED_SAMPLED,
    VARIANCE,
    VARIANCE_LARGEST,
    VARIANCE_SAMPLED,
)
from layerlab.estimators.theorems.several import (
    ARM,
    DISARM,
    DISARM_VARIANCE,
    LOO,
    LOO_NOT_ABOVE,
    LOO_VARIANCE,
)

CLAIMS: tuple[Claim, ...] = (
    CLOSED_FORM,
    UNBIASED,
    UNBIASED_SAMPLED,
    VARIANCE,
    VARIANCE_SAMPLED,
    VARIANCE_LARGEST,
    HINT_AS_PRINTED,
    SLOW_LEARNING,
    BASELINE,
    BEST_BASELINE,
    MEAN_BASELINE,
    LOO,
    LOO_VARIANCE,
    LOO_NOT_ABOVE,
    ARM,
    DISARM,
    DISARM_VARIANCE,
)
