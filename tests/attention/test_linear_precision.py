"""How exact linear attention is in float32 and below, against its dense twin in float64."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from linear_twin import dense, draw, magnitudes, with_gradients
from torch import Tensor

from layerlab.attention.features import EluPlusOne, ReLU
from layerlab.attention.linear import LinearState, linear_attention

UNIT = 2.0**-24  # the rounding of float32


@cache
def exact(
    map_of: type[EluPlusOne | ReLU], causal: bool, n: int
) -> tuple[list[Tensor], dict[str, Any], list[tuple[Tensor, Tensor]]]:
    """Inputs, options, and what must come out, with the sum of its terms' sizes; once for both paths."""
    phi = map_of()
    given = draw(n, batch=1, heads=2, kv_heads=1, d=64, e=33, dtype=torch.float32)
    how = {"causal": causal, "lengths": torch.tensor([n - n // 5])}
    twin = with_gradients(lambda *x: dense(*x, phi, **how), *(x.double() for x in given))
    return given, how, list(zip(twin, magnitudes(*given, phi, **how), strict=True))


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("n", [1, 63, 100, 1000])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("map_of", [EluPlusOne, ReLU])
def test_float32_is_within_rounding_of_float64(map_of: type[EluPlusOne | ReLU], causal: bool, n: int) -> None:
    """Measured: 6 units at most of the sum of the terms' sizes, a dozen of roundings as a random walk.

    Sums do not add to that as they grow longer, since they are formed in parts.
    """
    given, how, twin = exact(map_of, causal, n)
    found = with_gradients(lambda *x: linear_attention(*x, feature_map=map_of(), **how), *given)
    bound = 8 * UNIT
    for got, (expected, size) in zip(found, twin, strict=True):
        assert got.dtype is torch.float32
        error = (got - expected).abs()
        assert (error <= bound * size + 1e-37).all(), float((error / (size + 1e-37)).max() / bound)


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
def test_half_precision_is_float32_rounded_once(dtype: torch.dtype, causal: bool) -> None:
    *qkv, grad = (x.to(dtype) for x in draw(300, kv_heads=2))
    found = with_gradients(lambda *x: linear_attention(*x, causal=causal), *qkv, grad)
    wide = with_gradients(lambda *x: linear_attention(*x, causal=causal), *(x.float() for x in (*qkv, grad)))
    for got, expected in zip(found, wide, strict=True):
        assert got.dtype == dtype
        assert torch.equal(got, expected.to(dtype))


@pytest.mark.parametrize("causal", [False, True])
def test_a_million_tokens_carry_the_rounding_of_a_few(causal: bool) -> None:
    """Were chunks added in float32 throughout, the last row of the causal form would be off by 35 units."""
    n = 1_048_576
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.rand(1, 1, n, 4, generator=generator) for _ in range(3))
    fq, fk = q[0, 0].double() + 1, k[0, 0].double() + 1
    s, z = fk.T @ v[0, 0].double(), fk.sum(0)
    out = linear_attention(q, k, v, causal=causal)[0, 0]
    last = slice(n - 1, n) if causal else slice(n - 100, n)
    expected = (fq[last] @ s) / (fq[last] @ z)[:, None]
    assert ((out[last] / expected - 1).abs() <= 8 * UNIT).all()


def test_a_million_steps_carry_the_rounding_of_one() -> None:
    state = LinearState.empty(1, 1, 1, 1, feature_map="relu")
    # One step after 2^24 of them, which float32 would not see.
    state.s += 2.0**24
    state.z += 2.0**24
    one = torch.ones(1, 1, 1, 1)
    state.step(one, one, one)
    assert float(state.s) == float(state.z) == 2.0**24 + 1
