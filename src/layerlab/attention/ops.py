"""Public operators of attention, in one place."""

from __future__ import annotations

from layerlab.attention.linear import LinearState, linear_attention
from layerlab.attention.low_rank import (
    Factors,
    randomized_attention,
    randomized_svd,
    svd_attention,
)
from layerlab.attention.nystrom import nystrom_attention
from layerlab.attention.projection import projected_attention, projections
from layerlab.attention.relative import relative_attention
from layerlab.attention.softmax import softmax_attention

__all__ = [
    "Factors",
    "LinearState",
    "linear_attention",
    "nystrom_attention",
    "projected_attention",
    "projections",
    "randomized_attention",
    "randomized_svd",
    "relative_attention",
    "softmax_attention",
    "svd_attention",
]
