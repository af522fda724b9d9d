"""The claims about gradients and depth; ``docs/theory/gradflow.md`` has the proofs."""

from __future__ import annotations

from layerlab.claims import Claim
from layerlab.gradflow.theorems.precision import UNDERFLOW
from layerlab.gradflow.theorems.products import ATTAINED, LIPSCHITZ_CHAIN, PRODUCT
from layerlab.gradflow.theorems.recurrent import (
    RNN_SIGMOID,
    RNN_TANH,
    SIGMOID_LAYER,
    SIGMOID_LAYER_AS_PRINTED,
)
from layerlab.gradflow.theorems.scalar import RELU_CHAIN, SIGMOID_CHAIN, TANH_CHAIN

CLAIMS: tuple[Claim, ...] = (
    SIGMOID_CHAIN,
    TANH_CHAIN,
    RELU_CHAIN,
    RNN_TANH,
    RNN_SIGMOID,
    SIGMOID_LAYER,
    SIGMOID_LAYER_AS_PRINTED,
    PRODUCT,
    LIPSCHITZ_CHAIN,
    ATTAINED,
    UNDERFLOW,
)
