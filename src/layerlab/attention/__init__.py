"""Attention: exact, linear, low-rank, projected, by relative position; what it costs, and what replacing it does.

The names below are imported on first use: `import layerlab` does not load torch.

>>> import torch
>>> from layerlab import attention
>>> q = k = v = torch.ones(1, 2, 5, 3)
>>> attention.linear_attention(q, k, v).shape
torch.Size([1, 2, 5, 3])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlab.attention.features import FeatureMap, feature_map
    from layerlab.attention.linear import LinearState, linear_attention

_HOMES = {
    "FeatureMap": "features",
    "LinearState": "linear",
    "feature_map": "features",
    "linear_attention": "linear",
}

__all__ = [
    "FeatureMap",
    "LinearState",
    "feature_map",
    "linear_attention",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
