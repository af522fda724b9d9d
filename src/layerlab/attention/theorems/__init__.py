"""The claims about attention. ``docs/theory/attention.md`` has the proofs."""

from __future__ import annotations

from layerlab.attention.theorems.causal import FULL_RANK_CAUSAL
from layerlab.attention.theorems.convolution import CONV1D, CONV1D_EDGES_AS_PRINTED, CONV1D_SHIFT_AS_PRINTED
from layerlab.attention.theorems.costs import LINEAR_COST, LOW_RANK_COST, PROJECTION_COST, SOFTMAX_COST
from layerlab.attention.theorems.kernel import (
    KERNEL_DENOMINATOR_AS_PRINTED,
    KERNEL_LINEAR,
    KERNEL_RECURRENT,
    KERNEL_SIGN_AS_PRINTED,
)
from layerlab.attention.theorems.low_rank import (
    ECKART_YOUNG,
    ECKART_YOUNG_FLOOR,
    LOW_RANK_SVD,
    LOW_RANK_SVD_AS_PRINTED,
)
from layerlab.attention.theorems.pooling import MAX_POOL, MAX_POOL_SHARP, OWN_QUERY_POOL
from layerlab.attention.theorems.pooling_printed import MAX_POOL_AS_PRINTED, MAX_POOL_WEIGHTS_AS_PRINTED
from layerlab.attention.theorems.projection import PROJECTION
from layerlab.claims import Claim

CLAIMS: tuple[Claim, ...] = (
    KERNEL_LINEAR,
    LINEAR_COST,
    SOFTMAX_COST,
    KERNEL_RECURRENT,
    KERNEL_SIGN_AS_PRINTED,
    KERNEL_DENOMINATOR_AS_PRINTED,
    LOW_RANK_SVD,
    LOW_RANK_COST,
    LOW_RANK_SVD_AS_PRINTED,
    PROJECTION,
    PROJECTION_COST,
    ECKART_YOUNG,
    ECKART_YOUNG_FLOOR,
    FULL_RANK_CAUSAL,
    CONV1D,
    CONV1D_EDGES_AS_PRINTED,
    CONV1D_SHIFT_AS_PRINTED,
    MAX_POOL,
    MAX_POOL_SHARP,
    OWN_QUERY_POOL,
    MAX_POOL_AS_PRINTED,
    MAX_POOL_WEIGHTS_AS_PRINTED,
)
