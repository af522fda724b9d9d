"""Relative-position attention against its dense twin: outputs, gradients, pads, lengths, memory and refusals."""

from __future__ import annotations

import pytest
import torch
from largest_tensor import LargestTensor

from layerlab.attention import reference, relative
from layerlab.attention.relative import relative_attention
from layerlab.errors import UserError

INF = float("inf")


def inputs(batch=2, heads=4, kv_heads=2, n=9, d=3, e=2, w=5, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, heads, n, d), (batch, kv_heads, n, d), (batch, kv_heads, n, e), (heads, w)]
    return [
        torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes
    ]


def twin(q, k, v, p, offsets, pads=(0, 0), scale=None):
    p = p.expand(4 if q is not None else len(p), -1)
    return reference.apply_padded(
        reference.relative_weights(q, k, p, v.shape[2], offsets, pads=pads, scale=scale), v, pads
    )


WINDOWS = {
    "centred": (range(-2, 3), (0, 0)),
    "one pad each": (range(-2, 3), (1, 1)),
    "all pads": (range(-2, 3), (2, 2)),
    "more pads than are seen": (range(-2, 3), (5, 7)),
    "pads before only": (range(-2, 3), (2, 0)),
    "causal": (range(5), (0, 0)),
    "causal with pads": (range(5), (4, 0)),
    "strictly future": ([-1, -2, -3, -4, -5], (0, 0)),
    "dilated, out of order": ([4, -4, 0, 2, -2], (0, 3)),
    "all offsets": (range(-8, 9), (0, 0)),
    "out of the sequence": ([20, -20, 0], (0, 0)),
    "never inside": ([20, -20], (0, 0)),
}


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("name", WINDOWS)
def test_output_and_gradients_equal_the_dense_twin(name: str, closed: bool, content: bool) -> None:
    offsets, pads = WINDOWS[name]
    q, k, v, p = inputs(w=len(offsets))
    if closed:
        shut = torch.rand(p.shape, generator=torch.Generator().manual_seed(1)) < 0.4
        shut[0] = True
        p = p.detach().masked_fill(shut, -INF).requires_grad_()
    if not content:
        q = k = None
    expected = twin(q, k, v, p, offsets, pads)
    out = relative_attention(q, k, v, p, offsets=offsets, pads=pads)
    torch.testing.assert_close(out, expected, rtol=1e-13, atol=1e-13)
    if closed:
        assert (out[:, 0] == 0).all()
    over = [x for x in (q, k, v, p) if x is not None]
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    # The twin of a window that meets nothing has no graph to q and k: their gradients are 0.
    theirs = torch.autograd.grad(expected, over, direction, allow_unused=True, materialize_grads=True)
    for got, wanted in zip(torch.autograd.grad(out, over, direction), theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-13)


WIDE = {
    "centred": (range(-10, 11), (0, 0)),
    "with pads": (range(-10, 11), (3, 12)),
    "causal": (range(20), (0, 0)),
    "causal with pads": (range(20), (19, 0)),
    "strictly future": (range(-25, -3), (0, 2)),
    "some left out, out of order": ([*range(20, 0, -2), *range(-9, 1)], (1, 1)),
}


@pytest.mark.parametrize("n", [1, 5, 32, 45, 70])
@pytest.mark.parametrize("name", WIDE)
def test_wide_windows_equal_the_dense_twin(name: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets, pads = WIDE[name]
    monkeypatch.setattr(relative, "attend", None)
    q, k, v, p = inputs(n=n, w=len(offsets), heads=2, kv_heads=1)
    p = p.detach()
    p[0, ::3] = -INF
    p[1, 7:] = -INF
    p.requires_grad_()
    weights = reference.relative_weights(q, k, p, n, offsets, pads=pads, scale=0.4)
    expected = reference.apply_padded(weights, v, pads)
    out = relative_attention(q, k, v, p, offsets=offsets, pads=pads, scale=0.4)
    torch.testing.assert_close(out, expected, rtol=1e-13, atol=1e-13)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    over = (q, k, v, p)
    theirs = torch.autograd.grad(expected, over, direction, allow_unused=True, materialize_grads=True)
    for got, wanted in zip(torch.autograd.grad(out, over, direction), theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-13)


def test_wide_windows_stop_at_each_length() -> None:
    q, k, v, p = (x.detach() for x in inputs(batch=3, n=40, w=21))
    lengths = torch.tensor([17, 40, 0])
    for x in (q, k, v):
        x[0, :, 17:] = float("nan")
    out = relative_attention(q, k, v, p, pads=(1, 2), lengths=lengths)
    alone = relative_attention(q[:1, :, :17], k[:1, :, :17], v[:1, :, :17], p, pads=(1, 2))
    torch.testing.assert_close(out[:1, :, :17], alone, rtol=1e-13, atol=1e-14)
    assert (out[0, :, 17:] == 0).all()
    assert (out[2] == 0).all()
    torch.testing.assert_close(out[1:2], relative_attention(q[1:2], k[1:2], v[1:2], p, pads=(1, 2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wide_windows_in_other_dtypes(dtype: torch.dtype) -> None:
    arguments = inputs(n=50, w=21, dtype=dtype)
    out = relative_attention(*arguments, pads=1)
    assert out.dtype == dtype
    expected = twin(*(x.detach().double() for x in arguments), range(-10, 11), (1, 1))
    assert (out.double() - expected).abs().max() <= 2 * torch.finfo(dtype).eps * expected.abs().max() + 1e-6


@pytest.mark.parametrize("n", [1, 63, 100])
def test_odd_lengths_and_one_score_for_all_heads(n: int) -> None:
    q, k, v, p = inputs(n=n)
    out = relative_attention(q, k, v, p[:1], pads=1, scale=0.7)
    expected = twin(q, k, v, p[:1], range(-2, 3), (1, 1), 0.7)
    torch.testing.assert_close(out, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)]
)
def test_other_dtypes_are_as_near_as_their_rounding(dtype, tolerance: float) -> None:
    arguments = inputs(n=50, dtype=dtype)
    out = relative_attention(*arguments, pads=1)
    assert out.dtype == dtype
    expected = twin(*(x.detach().double() for x in arguments), range(-2, 3), (1, 1))
    assert (out.double() - expected).abs().max() <= tolerance * expected.abs().max()


def test_scores_without_a_window_are_plain_attention() -> None:
    q, k, v, _ = inputs()
    out = relative_attention(q, k, v, q.new_zeros(1, 17))
    expected = reference.apply(reference.softmax_weights(q, k), v)
    torch.testing.assert_close(out, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("w", [5, 21])
def test_more_keys_than_queries(w: int) -> None:
    q, k, v, p = inputs(batch=1, w=w)
    out = relative_attention(q[:, :, :4], k, v, p, pads=2)
    torch.testing.assert_close(out, relative_attention(q, k, v, p, pads=2)[:, :, :4])


@pytest.mark.parametrize("content", [True, False])
def test_a_sequence_of_some_length_is_as_if_alone(content: bool) -> None:
    q, k, v, p = (x.detach() for x in inputs(batch=3))
    lengths = torch.tensor([4, 9, 0])
    for x in (q, k, v):
        x[0, :, 4:] = float("nan")
    if content:
        out = relative_attention(q, k, v, p, pads=(2, 1), lengths=lengths)
        alone = relative_attention(q[:1, :, :4], k[:1, :, :4], v[:1, :, :4], p, pads=(2, 1))
    else:
        out = relative_attention(None, None, v, p, pads=(2, 1), lengths=lengths)
        alone = relative_attention(None, None, v[:1, :, :4], p, pads=(2, 1))
    torch.testing.assert_close(out[:1, :, :4], alone, rtol=1e-14, atol=1e-15)
    assert (out[0, :, 4:] == 0).all()
    assert (out[2] == 0).all()
    assert (out[1] != 0).all()


def test_the_field_of_a_row_is_its_window_by_jacobian() -> None:
    p = torch.tensor([[0.0, -INF, 1.0, 2.0]], dtype=torch.float64)

    def of_token(x: torch.Tensor) -> torch.Tensor:
        x = x.view(1, 1, -1, 1)
        return relative_attention(x, x, x, p, offsets=[2, 1, 0, -3]).flatten()

    x = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(of_token, x)
    offsets = torch.arange(8)[:, None] - torch.arange(8)
    inside = (offsets == 2) | (offsets == 0) | (offsets == -3)
    assert ((jacobian != 0) == inside).all()


def test_gradcheck_with_closed_offsets_and_empty_rows() -> None:
    q, k, v, p = inputs(batch=1, heads=2, kv_heads=1, n=4, d=2, w=3)
    p = p.detach()
    p[0, 1:] = -INF
    offsets = [1, 0, -1]
    assert torch.autograd.gradcheck(lambda *x: relative_attention(*x, p, offsets=offsets), (q, k, v))
    open_p = p.masked_fill(p == -INF, 0.3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: relative_attention(q.detach(), k.detach(), v.detach(), x, pads=1), open_p
    )


def test_no_tensor_grows_as_the_square_of_the_length() -> None:
    q, k, v, p = inputs(batch=1, heads=2, kv_heads=2, n=1000, d=4, e=4, w=5)
    with LargestTensor() as largest:
        relative_attention(q, k, v, p, pads=2).sum().backward()
    assert largest.numbers <= 2 * 1004 * 5
    wide = torch.zeros(2, 33, dtype=q.dtype)
    with LargestTensor() as largest:
        relative_attention(q, k, v, wide, pads=2).sum().backward()
    assert largest.numbers <= 2 * 1056 * 66


@pytest.mark.parametrize("sizes", [{"n": 0}, {"batch": 0}])
def test_nothing_to_attend(sizes: dict) -> None:
    q, k, v, p = inputs(**sizes)
    out = relative_attention(q, k, v, p, pads=1)
    assert out.shape == (q.shape[0], 4, q.shape[2], 2)
    out.sum().backward()


BAD = {
    "q without k": ({"k": None}, "both q and k"),
    "p of one dimension": ({"p": torch.zeros(5, dtype=torch.float64)}, "expected p"),
    "p without columns": ({"p": torch.zeros(4, 0, dtype=torch.float64)}, "expected p"),
    "p of other heads": ({"p": torch.zeros(3, 5, dtype=torch.float64)}, "4 heads"),
    "p of another dtype": ({"p": torch.zeros(4, 5)}, "expected p in"),
    "p as a list": ({"p": [[0.0]]}, "list"),
    "p plus infinity": ({"p": torch.full((4, 5), INF, dtype=torch.float64)}, "infinity"),
    "p NaN": ({"p": torch.full((4, 5), float("nan"), dtype=torch.float64)}, "NaN"),
    "an even window": ({"p": torch.zeros(4, 4, dtype=torch.float64)}, "even"),
    "too few offsets": ({"offsets": [0, 1]}, "offset"),
    "an offset twice": ({"offsets": [0, 1, 2, 3, 3]}, "offset"),
    "offsets between tokens": ({"offsets": [0, 0.5, 1, 2, 3]}, "whole number"),
    "half a pad": ({"pads": 0.5}, "pad tokens"),
    "pads below 0": ({"pads": -1}, "pad tokens"),
    "three pads": ({"pads": (1, 1, 1)}, "pad tokens"),
    "too long": ({"lengths": torch.tensor([10, 1])}, "got 10"),
    "heads that do not divide": ({"q": torch.ones(2, 3, 9, 3, dtype=torch.float64)}, "divides"),
    "lengths over others": (
        {"q": torch.ones(2, 4, 8, 3, dtype=torch.float64), "lengths": torch.tensor([8, 8])},
        "as many queries",
    ),
    "endless scale": ({"scale": INF}, "scale"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(name: str) -> None:
    changes, says = BAD[name]
    q, k, v, p = (x.detach() for x in inputs())
    arguments = {"q": q, "k": k, "v": v, "p": p, **changes}
    with pytest.raises(UserError, match=says) as caught:
        relative_attention(**arguments)
    assert "\n" not in str(caught.value)


def test_position_heads_must_divide_among_the_values() -> None:
    _, _, v, _ = inputs()
    with pytest.raises(UserError, match="divides the 3"):
        relative_attention(None, None, v, torch.zeros(3, 5, dtype=torch.float64))
    assert relative_attention(None, None, v, torch.zeros(1, 5, dtype=torch.float64)).shape == (2, 2, 9, 2)


@pytest.mark.parametrize("w", [5, 21])
def test_it_compiles_into_one_graph(w: int) -> None:
    q, k, v, p = (x.detach() for x in inputs(n=30, w=w))
    lengths = torch.tensor([12, 30])
    compiled = torch.compile(relative_attention, backend="eager", fullgraph=True)
    for call in ({"pads": 1}, {"pads": (0, 2), "lengths": lengths}):
        torch.testing.assert_close(compiled(q, k, v, p, **call), relative_attention(q, k, v, p, **call))


def test_no_step_of_a_row_that_sees_nothing_is_nan() -> None:
    q, k, v, p = inputs()
    with torch.autograd.set_detect_anomaly(True):
        relative_attention(q, k, v, torch.full_like(p, -INF)).sum().backward()
    assert not q.grad.any()
