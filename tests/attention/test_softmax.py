"""Exact attention against its dense twin in float64: outputs, gradients, masks, empty rows, dtypes and refusals."""

from __future__ import annotations

import pytest
import torch
from largest_tensor import LargestTensor

from layerlab.attention import reference
from layerlab.attention.softmax import softmax_attention
from layerlab.errors import UserError

INF = float("inf")


def inputs(batch=2, heads=4, kv_heads=2, n=7, m=7, d=5, e=5, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, heads, n, d), (batch, kv_heads, m, d), (batch, kv_heads, m, e)]
    return [
        torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes
    ]


def bools(*shape: int, seed: int = 3, share: float = 0.6) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def with_empty_rows(*shape: int) -> torch.Tensor:
    mask = bools(*shape)
    mask[0, 0, 2] = False
    mask[-1, -1, 0] = False
    return mask


def float_mask(*shape: int) -> torch.Tensor:
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return numbers.masked_fill(~with_empty_rows(*shape), -INF)


CALLS = {
    "plain": {},
    "causal": {"causal": True},
    "lengths": {"lengths": torch.tensor([4, 7])},
    "length 0": {"lengths": torch.tensor([0, 3])},
    "causal lengths": {"causal": True, "lengths": torch.tensor([5, 0])},
    "key mask": {"mask": bools(2, 1, 1, 7)},
    "key mask of one dimension": {"mask": bools(7)},
    "mask for all": {"mask": with_empty_rows(1, 1, 7, 7)},
    "mask for each head": {"mask": with_empty_rows(2, 4, 7, 7)},
    "rows only": {"mask": bools(1, 1, 7, 1)},
    "nothing": {"mask": torch.zeros(1, 1, 7, 7, dtype=torch.bool)},
    "float mask": {"mask": float_mask(2, 1, 7, 7)},
    "float mask over heads": {"mask": float_mask(1, 4, 7, 7), "causal": True},
    "everything": {"mask": with_empty_rows(2, 1, 7, 7), "causal": True, "lengths": torch.tensor([6, 2])},
    "scale": {"scale": -0.3},
    "scale 0": {"scale": 0.0},
}


def twin(q, k, v, **call):
    return reference.apply(reference.softmax_weights(q, k, **call), v)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("kv_heads", "e"), [(4, 5), (2, 5), (1, 3), (2, 8)])
@pytest.mark.parametrize("weights", [False, True])
def test_output_and_gradients_equal_the_dense_twin(name: str, kv_heads: int, e: int, weights: bool) -> None:
    call = CALLS[name]
    q, k, v = inputs(kv_heads=kv_heads, e=e)
    expected = twin(q, k, v, **call)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    out = softmax_attention(q, k, v, weights=weights, **call)
    if weights:
        out, p = out
        torch.testing.assert_close(p, reference.softmax_weights(q, k, **call), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(out, expected, rtol=1e-13, atol=1e-13)
    got = torch.autograd.grad(out, (q, k, v), direction)
    for mine, theirs in zip(got, torch.autograd.grad(expected, (q, k, v), direction), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("call", [{}, {"causal": True}, {"lengths": torch.tensor([1, 60])}])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 4e-3), (torch.float16, 5e-4)]
)
def test_other_dtypes_are_as_near_as_their_rounding(dtype, tolerance: float, call: dict) -> None:
    q, k, v = inputs(n=63, m=63, d=16, e=16, dtype=dtype)
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    expected = twin(*exact, **call)
    out, p = softmax_attention(q, k, v, weights=True, **call)
    fused = softmax_attention(q, k, v, **call)
    assert out.dtype == p.dtype == fused.dtype == dtype
    for got in (out, fused):
        assert (got.double() - expected).abs().max() <= tolerance * expected.abs().max()
    assert (p.double() - reference.softmax_weights(*exact[:2], **call)).abs().max() <= tolerance
    direction = torch.ones_like(expected)
    mine = torch.autograd.grad(fused, (q, k, v), direction.to(dtype))
    theirs = torch.autograd.grad(expected, exact, direction)
    for got, wanted in zip(mine, theirs, strict=True):
        assert got.dtype == dtype
        assert (got.double() - wanted).abs().max() <= 2 * tolerance * wanted.abs().max()


@pytest.mark.parametrize("n", [1, 63, 100])
def test_odd_lengths(n: int) -> None:
    q, k, v = inputs(n=n, m=n, d=16, e=16)
    for causal in (False, True):
        out = softmax_attention(q, k, v, causal=causal)
        torch.testing.assert_close(out, twin(q, k, v, causal=causal), rtol=1e-13, atol=1e-13)


def test_cross_attention_with_lengths_keeps_all_queries() -> None:
    q, k, v = inputs(n=3, m=7)
    lengths = torch.tensor([2, 0])
    out = softmax_attention(q, k, v, lengths=lengths)
    torch.testing.assert_close(out[:1], softmax_attention(q[:1], k[:1, :, :2], v[:1, :, :2]))
    assert not out[1].any()


def test_a_row_that_sees_nothing_is_exactly_zero_and_passes_no_gradient() -> None:
    q, k, v = inputs()
    mask = torch.ones(2, 1, 7, 7, dtype=torch.bool)
    mask[0, 0, 3] = False
    out = softmax_attention(q, k, v, mask=mask)
    assert (out[0, :, 3] == 0).all()
    out.sum().backward()
    assert (q.grad[0, :, 3] == 0).all()
    assert (q.grad[0, :, 2] != 0).any()


@pytest.mark.parametrize("poison", [float("nan"), INF])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_what_stands_beyond_a_length_does_not_matter(poison: float, causal: bool, weights: bool) -> None:
    clean = inputs()
    lengths = torch.tensor([4, 7])
    dirty = [x.detach().clone() for x in clean]
    for x in dirty:
        x[0, :, 4:] = poison
        x.requires_grad_()
    results = []
    for q, k, v in (clean, dirty):
        out = softmax_attention(q, k, v, lengths=lengths, causal=causal, weights=weights)
        out = out[0] if weights else out
        results.append((out, *torch.autograd.grad(out.square().sum(), (q, k, v))))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_a_key_that_a_mask_hides_from_all_may_be_infinite() -> None:
    q, k, v = (x.detach() for x in inputs())
    mask = torch.ones(1, 1, 1, 7, dtype=torch.bool)
    mask[..., 5] = False
    expected = softmax_attention(q, k, v, mask=mask)
    k[:, :, 5], v[:, :, 5] = INF, float("nan")
    torch.testing.assert_close(softmax_attention(q, k, v, mask=mask), expected, rtol=0, atol=0)


def test_an_infinite_query_spoils_its_own_row_only() -> None:
    q, k, v = (x.detach() for x in inputs())
    expected = softmax_attention(q, k, v)
    q[0, 0, 2, 0] = INF
    out = softmax_attention(q, k, v)
    assert out[0, 0, 2].isnan().all()
    out[0, 0, 2] = expected[0, 0, 2]
    torch.testing.assert_close(out, expected, rtol=0, atol=0)


def test_causality_by_jacobian() -> None:
    q, _, _ = inputs(batch=1, heads=1, kv_heads=1, n=5, m=5, d=2, e=2)

    def of_token(x: torch.Tensor) -> torch.Tensor:
        return softmax_attention(x, x, x, causal=True).sum(-1).flatten()

    jacobian = torch.autograd.functional.jacobian(of_token, q.detach()).abs().sum(-1).reshape(5, 5)
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian.diagonal() > 0).all()


def test_dropout_drops_weights_and_keeps_the_mean() -> None:
    q, k, _ = (x.detach() for x in inputs(n=40, m=40))
    v = torch.ones(2, 2, 40, 1, dtype=torch.float64)
    torch.manual_seed(0)
    for weights in (False, True):
        out = softmax_attention(q, k, v, dropout=0.5, weights=weights)
        if weights:
            out, p = out
            torch.testing.assert_close(p.sum(-1), torch.ones_like(p.sum(-1)))
        assert out.std() > 0.05
        assert abs(out.mean() - 1) < 0.05
    torch.manual_seed(1)
    first = softmax_attention(q, k, v, dropout=0.5)
    torch.manual_seed(1)
    torch.testing.assert_close(softmax_attention(q, k, v, dropout=0.5), first, rtol=0, atol=0)


@pytest.mark.parametrize("sizes", [{"n": 0}, {"m": 0}, {"batch": 0}, {"n": 0, "m": 0}])
def test_nothing_to_attend_gives_zeros_with_gradients(sizes: dict) -> None:
    q, k, v = inputs(**sizes)
    out, p = softmax_attention(q, k, v, weights=True)
    assert out.shape == (q.shape[0], 4, q.shape[2], 5)
    assert p.shape == (q.shape[0], 4, q.shape[2], k.shape[2])
    assert not out.any()
    softmax_attention(q, k, v).sum().backward()
    assert not q.grad.any()


@pytest.mark.parametrize("e", [8, 3, 20])
@pytest.mark.parametrize("call", [{}, {"causal": True}, {"lengths": torch.tensor([400])}])
def test_the_weights_are_never_formed(e: int, call: dict) -> None:
    q, k, v = inputs(batch=1, heads=2, n=500, m=500, d=8, e=e, dtype=torch.float32)
    with LargestTensor() as largest:
        softmax_attention(q, k, v, **call).sum().backward()
    assert largest.numbers <= 2 * 500 * max(8, e)
    with LargestTensor() as largest:
        softmax_attention(q, k, v, weights=True)
    assert largest.numbers == 2 * 500 * 500


def test_it_compiles_into_one_graph() -> None:
    q, k, v = inputs(dtype=torch.float32)
    lengths = torch.tensor([4, 7])
    compiled = torch.compile(softmax_attention, backend="eager", fullgraph=True)
    for call in ({"causal": True}, {"lengths": lengths}, {"mask": with_empty_rows(2, 1, 7, 7)}):
        torch.testing.assert_close(compiled(q, k, v, **call), softmax_attention(q, k, v, **call))


def test_gradcheck() -> None:
    q, k, v = inputs(batch=1, heads=2, kv_heads=1, n=3, m=3, d=2, e=2)
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    assert torch.autograd.gradcheck(lambda *x: softmax_attention(*x, mask=mask), (q, k, v))
    bias = torch.randn(1, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        lambda b: softmax_attention(q.detach(), k.detach(), v.detach(), mask=b), bias.requires_grad_()
    )


BAD = {
    "a list": ({"q": [1.0]}, "tensor"),
    "three dimensions": ({"q": torch.ones(2, 7, 5)}, "batch, heads"),
    "integers": ({"q": torch.ones(2, 4, 7, 5, dtype=torch.int64)}, "int64"),
    "complex": ({"q": torch.ones(2, 4, 7, 5, dtype=torch.complex64)}, "complex64"),
    "two dtypes": ({"k": torch.ones(2, 2, 7, 5)}, "one dtype"),
    "two devices": ({"k": torch.ones(2, 2, 7, 5, dtype=torch.float64, device="meta")}, "device"),
    "another batch": ({"q": torch.ones(3, 4, 7, 5, dtype=torch.float64)}, "batch"),
    "heads that do not divide": ({"q": torch.ones(2, 3, 7, 5, dtype=torch.float64)}, "divides"),
    "another head size": ({"q": torch.ones(2, 4, 7, 6, dtype=torch.float64)}, "head size"),
    "fewer values": ({"v": torch.ones(2, 2, 6, 5, dtype=torch.float64)}, "keys"),
    "head size 0": (
        {
            "q": torch.ones(2, 4, 7, 0, dtype=torch.float64),
            "k": torch.ones(2, 2, 7, 0, dtype=torch.float64),
        },
        "head size",
    ),
    "causal over others": ({"q": torch.ones(2, 4, 6, 5, dtype=torch.float64), "causal": True}, "causal"),
    "mask of numbers": ({"mask": torch.ones(7, 7, dtype=torch.int64)}, "mask"),
    "mask of another size": ({"mask": torch.ones(7, 6, dtype=torch.bool)}, "broadcasts"),
    "mask of five dimensions": ({"mask": torch.ones(1, 1, 1, 7, 7, dtype=torch.bool)}, "broadcasts"),
    "mask on another device": ({"mask": torch.ones(7, 7, dtype=torch.bool, device="meta")}, "mask on"),
    "mask as a list": ({"mask": [[True]]}, "mask"),
    "too long": ({"lengths": torch.tensor([8, 1])}, "got 8"),
    "negative": ({"lengths": torch.tensor([7, -1])}, "got -1"),
    "one length": ({"lengths": torch.tensor([7])}, "lengths"),
    "lengths as a list": ({"lengths": [7, 7]}, "lengths"),
    "endless scale": ({"scale": INF}, "scale"),
    "dropout 1": ({"dropout": 1.0}, "dropout"),
    "dropout below 0": ({"dropout": -0.1}, "dropout"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(name: str) -> None:
    changes, says = BAD[name]
    q, k, v = (x.detach() for x in inputs())
    with pytest.raises(UserError, match=says) as caught:
        softmax_attention(**{"q": q, "k": k, "v": v, **changes})
    assert "\n" not in str(caught.value)


def test_columns_side_by_side_are_fused_too() -> None:
    q, k, v = (
        x.detach().mT.contiguous().mT for x in inputs(batch=1, heads=2, n=300, m=300, dtype=torch.float32)
    )
    assert v.stride(-1) != 1
    with LargestTensor() as largest:
        softmax_attention(q, k, v)
    assert largest.numbers <= 2 * 300 * 5
