"""Linear attention against its dense twin, `layerlab.attention.reference`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from layerlab.attention import reference
from layerlab.attention.features import FeatureMap, feature_map
from layerlab.attention.linear import linear_attention


def draw(
    n: int,
    m: int | None = None,
    *,
    batch: int = 2,
    heads: int = 4,
    kv_heads: int | None = None,
    d: int = 6,
    e: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    kv_heads, m = kv_heads or heads, n if m is None else m
    shapes = (batch, heads, n, d), (batch, kv_heads, m, d), (batch, kv_heads, m, e)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def dense(q: Tensor, k: Tensor, v: Tensor, phi: FeatureMap, **how: object) -> Tensor:
    return reference.apply(reference.linear_weights(q, k, phi, **how), v)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 63, 100, 129, 300])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["elu", "relu", "random", "hedgehog"])
def test_linear_attention_is_its_dense_twin(name: str, causal: bool, n: int) -> None:
    q, k, v = draw(n)
    phi = feature_map(name, heads=4, head_size=6)
    out = linear_attention(q, k, v, feature_map=phi, causal=causal)
    torch.testing.assert_close(out, dense(q, k, v, phi, causal=causal), rtol=1e-11, atol=1e-12)
