"""Projected attention: exact without the softmax for P of low rank, Linformer's with it."""

from __future__ import annotations

import pytest
import torch
from largest_tensor import LargestTensor

from layerlab.attention import reference
from layerlab.attention.projection import projected_attention, projections
from layerlab.errors import UserError


def inputs(batch=2, heads=4, kv_heads=2, n=12, m=10, d=5, e=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, heads, n, d), (batch, kv_heads, m, d), (batch, kv_heads, m, e)]
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def of_rank(rank: int, n: int = 12, m: int = 10, d: int = 5) -> list[torch.Tensor]:
    """q and k whose product has the rank, although both have d columns."""
    q, k, v = inputs(n=n, m=m, d=d)
    generator = torch.Generator().manual_seed(3)
    left, right = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)
    mix = left[:, :rank] @ right[:rank]
    return [q @ mix, k, v]


def product(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return reference.apply(reference.scores(q, k), v)


@pytest.mark.parametrize(("n", "m"), [(12, 10), (3, 100), (100, 3), (1, 1), (63, 63)])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_without_softmax_the_projections_are_exact(n: int, m: int, kv_heads: int) -> None:
    q, k, v = inputs(n=n, m=m, kv_heads=kv_heads)
    c, d = projections(q, k)
    assert c.shape == (2, 4, min(n, m, 5), m)
    expected = product(q, k, v)
    out = projected_attention(q, k, v, c, d)
    assert (out - expected).abs().max() <= 1e-13 * m * expected.abs().max()


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_rank_is_that_of_the_product_and_not_of_its_factors(rank: int) -> None:
    q, k, v = of_rank(rank)
    c, d = projections(q, k)
    assert c.shape[-2] == rank
    expected = product(q, k, v)
    assert (projected_attention(q, k, v, c, d) - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_they_are_the_right_singular_vectors() -> None:
    q, k, _ = of_rank(3)
    c, d = projections(q, k)
    assert c is d
    torch.testing.assert_close(
        c @ c.mT, torch.eye(3, dtype=torch.float64).expand(2, 4, 3, 3), rtol=0, atol=1e-13
    )
    vt = torch.linalg.svd(reference.scores(q, k)).Vh[..., :3, :]
    torch.testing.assert_close(c.mT @ c, vt.mT @ vt, rtol=0, atol=1e-12)


def test_a_smaller_rank_is_the_best_of_that_rank() -> None:
    q, k, v = inputs()
    out = projected_attention(q, k, v, *projections(q, k, rank=2))
    expected = reference.apply(reference.low_rank_weights(reference.scores(q, k), 2), v)
    torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-12)


def test_with_the_softmax_put_back_the_equality_is_lost() -> None:
    q, k, v = inputs()
    c, d = projections(q, k)
    exact = reference.apply(reference.softmax_weights(q, k), v)
    assert (projected_attention(q, k, v, c, d, softmax=True) - exact).norm() > 0.1 * exact.norm()


def test_nothing_of_the_size_of_p_is_formed() -> None:
    q, k, v = inputs(batch=1, heads=1, kv_heads=1, n=300, m=300)
    with LargestTensor() as largest:
        projected_attention(q, k, v, *projections(q, k))
    assert largest.numbers <= 300 * 5


def test_zero_queries_have_rank_0() -> None:
    q, k, v = inputs()
    c, d = projections(torch.zeros_like(q), k)
    assert c.shape == (2, 4, 0, 10)
    assert not projected_attention(torch.zeros_like(q), k, v, c, d).any()


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("leading", [(), (1,), (2,), (4,), (2, 4), (1, 2), (2, 1)])
def test_projections_may_be_shared(softmax: bool, leading: tuple[int, ...]) -> None:
    q, k, v = (x.requires_grad_() for x in inputs())
    generator = torch.Generator().manual_seed(1)
    c, d = (
        torch.randn(*leading, 6, 10, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in "cd"
    )

    def for_each_head(x: torch.Tensor) -> torch.Tensor:
        x = x.view(*(1,) * (4 - x.ndim), *x.shape)
        return x.repeat_interleave(4 // x.shape[1], 1)

    keys = for_each_head(c) @ k.repeat_interleave(2, 1)
    values = for_each_head(d) @ v.repeat_interleave(2, 1)
    scores = q @ keys.mT
    expected = ((scores / 5**0.5).softmax(-1) if softmax else scores) @ values
    out = projected_attention(q, k, v, c, d, softmax=softmax)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    mine, theirs = (torch.autograd.grad(y, (q, k, v, c, d), direction) for y in (out, expected))
    for got, wanted in zip(mine, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("softmax", [False, True])
def test_what_takes_no_part_does_not_matter(softmax: bool) -> None:
    q, k, v = inputs(n=10, m=10)
    c, d = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    lengths = torch.tensor([6, 0])
    expected = projected_attention(
        q[:, :, :6], k[:, :, :6], v[:, :, :6], c[:, :6], d[:, :6], softmax=softmax
    )[0]
    for x in (k, v):
        x[0, :, 6:] = float("nan")
    out = projected_attention(q, k, v, c, d, softmax=softmax, lengths=lengths)
    torch.testing.assert_close(out[0, :, :6], expected, rtol=1e-12, atol=1e-13)
    assert (out[0, :, 6:] == 0).all()
    assert (out[1] == 0).all()
    mask = torch.ones(2, 4, 1, 10, dtype=torch.bool)
    mask[0, 1:, :, 6:] = False
    k, v = k.nan_to_num(1.0), v.nan_to_num(1.0)
    by_mask = projected_attention(q, k, v, c, d, softmax=softmax, mask=mask)
    torch.testing.assert_close(by_mask[0, 1:, :6], expected[1:], rtol=1e-12, atol=1e-13)
    assert (by_mask[0, 0, :6] - expected[0]).abs().max() > 1e-3


def test_dropout_and_scale_belong_to_the_softmax() -> None:
    q, k, v = inputs()
    c = torch.randn(4, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.manual_seed(0)
    dropped = projected_attention(q, k, v, c, c, softmax=True, dropout=0.5)
    assert (dropped - projected_attention(q, k, v, c, c, softmax=True)).abs().max() > 0.01
    torch.testing.assert_close(
        projected_attention(q, k, v, c, c, scale=3.0), 3 * projected_attention(q, k, v, c, c)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    q, k, v = inputs(dtype=dtype)
    c, d = projections(q, k)
    assert c.dtype == torch.float32
    out = projected_attention(q, k, v, c, d)
    assert out.dtype == dtype
    expected = product(q.double(), k.double(), v.double())
    assert (out.double() - expected).abs().max() <= 2 * torch.finfo(dtype).eps * expected.abs().max() * (
        10 if dtype == torch.float32 else 1
    )


def wrong(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype)


BAD = {
    "another length": ({"c": wrong(6, 9)}, "expected c of shape"),
    "other heads": ({"d": wrong(3, 6, 10)}, "expected d of shape"),
    "another batch": ({"d": wrong(3, 4, 6, 10)}, "expected d of shape"),
    "one dimension": ({"c": wrong(10)}, "expected c of shape"),
    "other ranks": ({"c": wrong(5, 10)}, "as many rows"),
    "another dtype": ({"c": wrong(6, 10, dtype=torch.float32)}, "as q is"),
    "a list": ({"c": [[1.0]]}, "list"),
    "dropout without softmax": ({"dropout": 0.1}, "dropout"),
    "endless scale": ({"scale": float("nan")}, "scale"),
    "a mask over pairs": ({"mask": torch.ones(1, 1, 12, 10, dtype=torch.bool)}, "over keys only"),
    "too long": ({"lengths": torch.tensor([11, 1])}, "got 11"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(name: str) -> None:
    changes, says = BAD[name]
    q, k, v = inputs()
    arguments = {"q": q, "k": k, "v": v, "c": wrong(6, 10), "d": wrong(6, 10), **changes}
    with pytest.raises(UserError, match=says) as caught:
        projected_attention(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rank", [-1, 6])
def test_a_rank_that_there_is_not(rank: int) -> None:
    q, k, _ = inputs()
    with pytest.raises(UserError, match="rank from 0 to"):
        projections(q, k, rank=rank)


@pytest.mark.parametrize("sizes", [{"n": 0}, {"m": 0}, {"batch": 0}])
@pytest.mark.parametrize("softmax", [False, True])
def test_nothing_to_attend(sizes: dict, softmax: bool) -> None:
    q, k, v = inputs(**sizes)
    c, d = projections(q, k)
    assert c.shape[-2] == 0
    out = projected_attention(q, k, v, c, d, softmax=softmax)
    assert out.shape == (q.shape[0], 4, q.shape[2], 3)
    assert not out.any()


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_named(poison: float) -> None:
    q, k = torch.full((1, 1, 4, 3), poison), torch.ones(1, 1, 5, 3)
    with pytest.raises(UserError, match="expected finite numbers in q and k"):
        projections(q, k)
