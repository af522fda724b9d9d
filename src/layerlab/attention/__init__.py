"""Attention: exact, linear, low-rank, projected, by relative position; what it costs, and what replacing it does.

The names below are imported on first use: `import layerlab` does not load torch.

>>> import torch
>>> from layerlab import attention
>>> q = k = v = torch.ones(1, 2, 5, 3)
>>> attention.linear_attention(q, k, v).shape
torch.Size([1, 2, 5, 3])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlab.lab.lazy import on_first_use

if TYPE_CHECKING:
    from layerlab.attention.convolution import RelativeAttention
    from layerlab.attention.features import FeatureMap, feature_map
    from layerlab.attention.interop import register_attention
    from layerlab.attention.layers import MultiheadAttention
    from layerlab.attention.linear import LinearState, linear_attention
    from layerlab.attention.low_rank import (
        randomized_attention,
        randomized_svd,
        svd_attention,
    )
    from layerlab.attention.mechanisms import Mechanism, mechanism
    from layerlab.attention.nystrom import nystrom_attention
    from layerlab.attention.projection import projected_attention, projections
    from layerlab.attention.relative import relative_attention
    from layerlab.attention.softmax import softmax_attention
    from layerlab.attention.watching import attention_calls, replacing

_HOMES = {
    "FeatureMap": "features",
    "LinearState": "linear",
    "Mechanism": "mechanisms",
    "MultiheadAttention": "layers",
    "RelativeAttention": "convolution",
    "attention_calls": "watching",
    "feature_map": "features",
    "linear_attention": "linear",
    "mechanism": "mechanisms",
    "nystrom_attention": "nystrom",
    "projected_attention": "projection",
    "projections": "projection",
    "randomized_attention": "low_rank",
    "randomized_svd": "low_rank",
    "register_attention": "interop",
    "relative_attention": "relative",
    "replacing": "watching",
    "softmax_attention": "softmax",
    "svd_attention": "low_rank",
}

__all__ = [
    "FeatureMap",
    "LinearState",
    "Mechanism",
    "MultiheadAttention",
    "RelativeAttention",
    "attention_calls",
    "feature_map",
    "linear_attention",
    "mechanism",
    "nystrom_attention",
    "projected_attention",
    "projections",
    "randomized_attention",
    "randomized_svd",
    "register_attention",
    "relative_attention",
    "replacing",
    "softmax_attention",
    "svd_attention",
]

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
