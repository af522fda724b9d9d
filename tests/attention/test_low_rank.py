"""Low-rank attention: exact where it must be, near the best rank where it cannot, and P never formed."""

from __future__ import annotations

import pytest
import torch
from largest_tensor import LargestTensor

from layerlab.attention import low_rank, reference
from layerlab.attention.low_rank import randomized_attention, randomized_svd, svd_attention
from layerlab.attention.softmax import softmax_attention
from layerlab.errors import UserError

INF = float("inf")


def inputs(batch=2, heads=4, kv_heads=2, n=12, m=12, d=5, e=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, heads, n, d), (batch, kv_heads, m, d), (batch, kv_heads, m, e)]
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def key_mask(*shape: int) -> torch.Tensor:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(7)) < 0.6
    mask[0, 0] = False
    return mask


KEYS = {
    "none": {},
    "mask": {"mask": key_mask(2, 1, 1, 12)},
    "mask for each head": {"mask": key_mask(2, 4, 1, 12)},
    "lengths": {"lengths": torch.tensor([7, 12])},
    "length 0": {"lengths": torch.tensor([0, 5])},
    "both": {"mask": key_mask(1, 4, 1, 12), "lengths": torch.tensor([9, 2])},
}


# ----- given factors


@pytest.mark.parametrize("rank", [1, 3, 12])
def test_svd_attention_is_the_product_with_the_weights_of_that_rank(rank: int) -> None:
    q, k, v = inputs()
    p = reference.low_rank_weights(reference.softmax_weights(q, k), rank)
    u, s, vt = torch.linalg.svd(p, full_matrices=False)
    out = svd_attention(u[..., :rank], s[..., :rank], vt[..., :rank, :], v)
    torch.testing.assert_close(out, reference.apply(p, v), rtol=1e-12, atol=1e-13)


def test_svd_attention_forms_nothing_of_the_size_of_p_and_has_gradients() -> None:
    u, s, vt, v = (torch.randn(size, dtype=torch.float64) for size in [(90, 2), (2,), (2, 80), (80, 3)])
    with LargestTensor() as largest:
        svd_attention(u, s, vt, v)
    assert largest.numbers <= 90 * 3
    small = [x.requires_grad_() for x in (u[:4], s, vt[:, :3], v[:3])]
    assert torch.autograd.gradcheck(svd_attention, small)


def test_svd_attention_in_half_precision_is_summed_in_float32() -> None:
    u, s, vt = torch.ones(1, 1), torch.ones(1), torch.ones(1, 4096)
    v = torch.full((4096, 1), 1.0, dtype=torch.float16)
    out = svd_attention(u, s, vt, v)
    assert out.dtype == torch.float16
    assert out.item() == 4096


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(4, 2), (3,), (2, 5), (5, 1)], "expected u"),
        ([(4, 2), (2,), (2, 5), (4, 1)], "expected u"),
        ([(4,), (2,), (2, 5), (5, 1)], "expected u"),
        ([(3, 4, 2), (3, 2), (2, 2, 5), (5, 1)], "broadcast"),
    ],
)
def test_factors_that_do_not_fit_are_refused(shapes: list, says: str) -> None:
    with pytest.raises(UserError, match=says):
        svd_attention(*(torch.ones(shape) for shape in shapes))


def test_factors_of_other_kinds_are_refused() -> None:
    u, s, vt, v = torch.ones(4, 2), torch.ones(2), torch.ones(2, 5), torch.ones(5, 1)
    for arguments, says in [
        ((u, [1.0], vt, v), "list"),
        ((u, s, vt, v.long()), "int64"),
        ((u, s, vt, v.double()), "one dtype"),
        ((u, s, vt, v.to("meta")), "device"),
    ]:
        with pytest.raises(UserError, match=says):
            svd_attention(*arguments)


# ----- the randomised SVD


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("kv_heads", [4, 1])
def test_with_the_full_rank_it_is_exact(name: str, kv_heads: int) -> None:
    q, k, v = inputs(kv_heads=kv_heads)
    out = randomized_attention(q, k, v, 12, **KEYS[name])
    torch.testing.assert_close(out, softmax_attention(q, k, v, **KEYS[name]), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", KEYS)
def test_the_factors_are_those_of_the_weights(name: str) -> None:
    q, k, _ = inputs()
    p = reference.softmax_weights(q, k, **KEYS[name])
    u, s, vt = randomized_svd(q, k, 5, power_iterations=8, **KEYS[name])
    torch.testing.assert_close(s, torch.linalg.svdvals(p)[..., :5], rtol=1e-8, atol=1e-10)
    nearest = reference.low_rank_weights(p, 5)
    torch.testing.assert_close(u @ (s[..., None] * vt), nearest, rtol=0, atol=1e-6)
    # What takes no part gets exactly nothing.
    hidden = p.sum(-2) == 0
    assert (vt.movedim(-2, -1)[hidden] == 0).all()
    assert (u[p.sum(-1) == 0] == 0).all()


@pytest.mark.parametrize(("n", "m"), [(40, 25), (25, 40), (1, 1), (63, 63)])
@pytest.mark.parametrize("block", [1, 7, 64])
def test_the_error_is_near_the_best_of_its_rank_in_any_block(n: int, m: int, block: int) -> None:
    q, k, _ = inputs(n=n, m=m, d=3)
    p = reference.softmax_weights(q, k)
    rank = min(4, n, m)
    u, s, vt = randomized_svd(q, k, 4, block=block)
    assert u.shape[-1] == s.shape[-1] == vt.shape[-2] == rank
    error = torch.linalg.matrix_norm(p - u @ (s[..., None] * vt))
    best = torch.linalg.matrix_norm(p - reference.low_rank_weights(p, rank))
    assert (error <= 1.05 * best + 1e-12).all()
    assert (error >= best - 1e-12).all()


@pytest.mark.parametrize("poison", [float("nan"), INF])
@pytest.mark.parametrize("gradient", [False, True])
def test_what_stands_beyond_a_length_does_not_matter(poison: float, gradient: bool) -> None:
    clean = inputs()
    lengths = torch.tensor([7, 12])
    dirty = [x.clone() for x in clean]
    for x in dirty:
        x[0, :, 7:] = poison
    outs = [
        randomized_attention(*(x.requires_grad_(gradient) for x in given), 3, lengths=lengths)
        for given in (clean, dirty)
    ]
    torch.testing.assert_close(outs[0], outs[1], rtol=0, atol=0)


def test_small_singular_values_survive_many_iterations_in_float32() -> None:
    q, k, _ = inputs(n=60, m=60, d=2)
    q = 0.1 * q
    s = randomized_svd(q.float(), k.float(), 12, power_iterations=6).s
    exact = torch.linalg.svdvals(reference.softmax_weights(q, k))[..., :12]
    assert exact.min() < 1e-4
    assert ((s - exact).abs() <= 2e-6 * exact[..., :1]).all()


def test_power_iterations_and_oversampling_lower_the_error() -> None:
    q, k, _ = inputs(n=60, m=60, d=8)
    p = reference.softmax_weights(q, k)

    def error(**how: int) -> float:
        u, s, vt = randomized_svd(q, k, 5, **how)
        return torch.linalg.matrix_norm(p - u @ (s[..., None] * vt)).mean().item()

    plain = error(oversampling=0, power_iterations=0)
    assert error(oversampling=10, power_iterations=0) < 0.95 * plain
    assert error(oversampling=0, power_iterations=3) < 0.95 * plain


def test_the_seed_decides() -> None:
    q, k, v = inputs(n=30, m=30)
    first = randomized_attention(q, k, v, 3, power_iterations=0, seed=1)
    assert torch.equal(randomized_attention(q, k, v, 3, power_iterations=0, seed=1), first)
    assert not torch.equal(randomized_attention(q, k, v, 3, power_iterations=0, seed=2), first)
    torch.manual_seed(5)
    drawn = randomized_attention(q, k, v, 3, power_iterations=0, seed=None)
    torch.manual_seed(5)
    assert torch.equal(randomized_attention(q, k, v, 3, power_iterations=0, seed=None), drawn)
    assert not torch.equal(randomized_attention(q, k, v, 3, power_iterations=0, seed=None), drawn)


def test_gradients_hold_the_range_fixed_and_the_output_is_the_same() -> None:
    q, k, v = inputs(n=9, m=9)
    plain = randomized_attention(q, k, v, 3)
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    out = randomized_attention(*leaves, 3)
    torch.testing.assert_close(out, plain, rtol=1e-10, atol=1e-12)
    u = randomized_svd(q, k, 3).u
    twins = [x.clone().requires_grad_() for x in (q, k, v)]
    expected = u @ u.mT @ reference.apply(reference.softmax_weights(*twins[:2]), twins[2])
    direction = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(0))
    mine, theirs = (torch.autograd.grad(y, over, direction) for y, over in ((out, leaves), (expected, twins)))
    for got, wanted in zip(mine, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
    only_v = v.clone().requires_grad_()
    (got,) = torch.autograd.grad(randomized_attention(q, k, only_v, 3), only_v, direction)
    torch.testing.assert_close(got, theirs[2], rtol=1e-9, atol=1e-11)


def test_the_weights_are_never_formed() -> None:
    n, rank = 600, 10
    q, k, v = inputs(batch=1, heads=2, n=n, m=n, d=8, e=8, dtype=torch.float32)
    with LargestTensor() as largest:
        randomized_svd(q, k, rank, block=16)
    assert largest.numbers <= 2 * n * max(16, rank + 8)
    with LargestTensor() as largest:
        out = randomized_attention(q, k, v, rank)
    assert out.shape == v.shape


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = inputs(batch=1, heads=2, n=600, m=600, d=8, e=8, dtype=torch.float32)
    monkeypatch.setattr(low_rank, "_BLOCK_NUMBERS", 1 << 14)
    with LargestTensor() as largest:
        randomized_attention(q, k, v, 10)
    assert largest.numbers <= 2 * 600 * 18


SQUARE = torch.ones(1, 1, 12, 12, dtype=torch.bool)
BAD = {
    "causal": ({"causal": True}, "cannot be causal"),
    "a mask over pairs": ({"mask": SQUARE}, "over keys only"),
    "a float mask": ({"mask": torch.zeros(1, 1, 1, 12)}, "over keys only"),
    "a mask of two dimensions": ({"mask": SQUARE[0, 0, :1]}, "over keys only"),
    "too long": ({"lengths": torch.tensor([13, 1])}, "got 13"),
    "endless scale": ({"scale": INF}, "scale"),
    "heads that do not divide": ({"q": torch.ones(2, 3, 12, 5, dtype=torch.float64)}, "divides"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(name: str) -> None:
    changes, says = BAD[name]
    q, k, v = inputs()
    with pytest.raises(UserError, match=says) as caught:
        randomized_attention(**{"q": q, "k": k, "v": v, **changes}, rank=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "3"])
def test_sizes_are_whole_and_positive(size: object) -> None:
    with pytest.raises(UserError, match="whole number of at least 1"):
        randomized_attention(*inputs(), size)


@pytest.mark.parametrize("name", ["oversampling", "power_iterations", "block"])
def test_other_numbers_that_are_refused(name: str) -> None:
    q, k, _ = inputs()
    with pytest.raises(UserError, match=name):
        randomized_svd(q, k, 3, **{name: -1})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    q, k, v = inputs(n=50, m=50, dtype=dtype)
    out = randomized_attention(q, k, v, 6)
    assert out.dtype == dtype
    torch.testing.assert_close(out, randomized_attention(q.float(), k.float(), v.float(), 6).to(dtype))


@pytest.mark.parametrize("sizes", [{"n": 0}, {"m": 0}, {"batch": 0}])
def test_nothing_to_attend(sizes: dict) -> None:
    q, k, v = inputs(**sizes)
    out = randomized_attention(q, k, v, 3)
    assert out.shape == (q.shape[0], 4, q.shape[2], 3)
    assert not out.any()


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_named(poison: float) -> None:
    q, k = torch.full((1, 1, 4, 3), poison), torch.ones(1, 1, 5, 3)
    with pytest.raises(UserError, match="expected finite numbers in q and k"):
        randomized_svd(q, k, 2)
