"""Nystrom attention: against its dense twin, exact where it must be, P never formed."""

from __future__ import annotations

import pytest
import torch
from largest_tensor import LargestTensor

from layerlab.attention import reference
from layerlab.attention.nystrom import nystrom_attention
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


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("kv_heads", [4, 1])
def test_with_a_landmark_for_each_token_it_is_exact(name: str, kv_heads: int) -> None:
    q, k, v = inputs(kv_heads=kv_heads)
    out = nystrom_attention(q, k, v, 12, **KEYS[name])
    torch.testing.assert_close(out, softmax_attention(q, k, v, **KEYS[name]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("ridge", [0.0, 1e-8])
def test_with_a_landmark_for_each_token_that_takes_part_it_is_exact(ridge: float) -> None:
    q, k, v = inputs(n=20, m=20, d=9)
    mask = torch.zeros(2, 1, 1, 20, dtype=torch.bool)
    mask[..., 3:11] = True
    lengths = torch.tensor([9, 6])
    for call in ({"lengths": lengths}, {"lengths": lengths, "mask": mask}):
        out = nystrom_attention(q, k, v, 9, ridge=ridge, **call)
        torch.testing.assert_close(out, softmax_attention(q, k, v, **call), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("n", "m"), [(12, 12), (13, 13), (63, 100), (100, 7), (1, 9)])
@pytest.mark.parametrize("landmarks", [1, 5, 8])
@pytest.mark.parametrize("ridge", [0.0, 3e-4])
def test_it_is_its_dense_twin_at_any_length(n: int, m: int, landmarks: int, ridge: float) -> None:
    q, k, v = (x.requires_grad_() for x in inputs(n=n, m=m, d=9))
    out = nystrom_attention(q, k, v, landmarks, ridge=ridge)
    expected = reference.apply(reference.nystrom_weights(q, k, landmarks, ridge), v)
    assert (out - expected).norm() <= 1e-8 * expected.norm()
    direction = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(0))
    mine, theirs = (torch.autograd.grad(y, (q, k, v), direction) for y in (out, expected))
    for got, wanted in zip(mine, theirs, strict=True):
        assert (got - wanted).norm() <= 1e-6 * wanted.norm()


def test_gradcheck_with_a_mask() -> None:
    q, k, v = (x.requires_grad_() for x in inputs(batch=1, heads=2, kv_heads=1, n=5, m=5, d=2, e=2))
    mask = torch.tensor([True, True, False, True, True]).view(1, 1, 1, 5)
    assert torch.autograd.gradcheck(
        lambda *x: nystrom_attention(*x, 2, ridge=0.05, mask=mask), (q, k, v), atol=1e-4
    )


@pytest.mark.parametrize("poison", [0.0, float("nan"), INF])
def test_a_sequence_of_some_length_is_as_if_alone(poison: float) -> None:
    q, k, v = inputs(batch=3, n=20, m=20)
    lengths = torch.tensor([11, 20, 0])
    for x in (q, k, v):
        x[0, :, 11:] = poison
    out = nystrom_attention(q, k, v, 4, lengths=lengths)
    alone = nystrom_attention(q[:1, :, :11], k[:1, :, :11], v[:1, :, :11], 4)
    torch.testing.assert_close(out[:1, :, :11], alone, rtol=1e-9, atol=1e-10)
    assert (out[0, :, 11:] == 0).all()
    assert (out[2] == 0).all()
    whole = nystrom_attention(q[1:2], k[1:2], v[1:2], 4)
    torch.testing.assert_close(out[1:2], whole, rtol=1e-9, atol=1e-10)


def test_keys_out_of_the_mask_are_as_if_not_there() -> None:
    q, k, v = inputs(n=20, m=20)
    mask = torch.ones(1, 1, 1, 20, dtype=torch.bool)
    mask[..., [2, 3, 11, 19]] = False
    kept = mask.flatten()
    out = nystrom_attention(q, k, v, 6, mask=mask)
    expected = nystrom_attention(q, k[:, :, kept], v[:, :, kept], 6)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-10)


def test_float32_is_near_float64_where_the_small_matrix_is_near_singular() -> None:
    q, k, v = inputs(n=500, m=500, d=16, e=16)
    exact = softmax_attention(0.2 * q, k, v)
    double = nystrom_attention(0.2 * q, k, v, 64)
    single = nystrom_attention(0.2 * q.float(), k.float(), v.float(), 64)
    assert (single - double).norm() <= 1e-5 * exact.norm()
    # The pseudo-inverse itself magnifies what the landmarks miss.
    assert (double - exact).norm() < 0.3 * (nystrom_attention(0.2 * q, k, v, 64, ridge=0) - exact).norm()


def test_the_iteration_of_the_paper_tends_to_the_pseudo_inverse() -> None:
    # Four tokens, each of them repeated: the landmarks are the tokens, and the small matrix is far from singular.
    q, k, v = (x.repeat_interleave(7, 2) for x in inputs(n=4, m=4))
    target = nystrom_attention(3 * q, 3 * k, v, 4, ridge=0)
    torch.testing.assert_close(target, softmax_attention(3 * q, 3 * k, v), rtol=1e-9, atol=1e-9)
    errors = [
        (nystrom_attention(3 * q, 3 * k, v, 4, pinv_iterations=steps) - target).norm().item()
        for steps in (2, 6, 20)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-9


def test_nystrom_never_forms_the_weights() -> None:
    n = 600
    q, k, v = (x.requires_grad_() for x in inputs(batch=1, heads=2, n=n, m=n, d=8, e=8, dtype=torch.float32))
    for call in ({}, {"lengths": torch.tensor([500])}):
        with LargestTensor() as largest:
            nystrom_attention(q, k, v, 10, **call).sum().backward()
        assert largest.numbers <= 2 * n * 10


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
        nystrom_attention(**{"q": q, "k": k, "v": v, **changes}, landmarks=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "3"])
def test_sizes_are_whole_and_positive(size: object) -> None:
    with pytest.raises(UserError, match="whole number of at least 1"):
        nystrom_attention(*inputs(), size)


@pytest.mark.parametrize("how", [{"ridge": -1e-3}, {"ridge": INF}, {"pinv_iterations": 0}])
def test_other_numbers_that_are_refused(how: dict) -> None:
    with pytest.raises(UserError, match=next(iter(how))):
        nystrom_attention(*inputs(), 3, **how)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    q, k, v = inputs(n=50, m=50, dtype=dtype)
    out = nystrom_attention(q, k, v, 6)
    assert out.dtype == dtype
    torch.testing.assert_close(out, nystrom_attention(q.float(), k.float(), v.float(), 6).to(dtype))


@pytest.mark.parametrize("sizes", [{"n": 0}, {"m": 0}, {"batch": 0}])
def test_nothing_to_attend(sizes: dict) -> None:
    q, k, v = inputs(**sizes)
    out = nystrom_attention(q, k, v, 3)
    assert out.shape == (q.shape[0], 4, q.shape[2], 3)
    assert not out.any()
