"""Linear attention against its dense twin: masks, lengths, heads, states, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from linear_twin import dense, draw, magnitudes, with_gradients
from torch import Tensor

from layerlab.attention.features import EluPlusOne, FeatureMap, Identity, ReLU, feature_map
from layerlab.attention.linear import CancellationWarning, LinearState, linear_attention
from layerlab.errors import UserError
from layerlab.lab import kernels

LENGTHS = [1, 63, 100, 300]


def compare(q: Tensor, k: Tensor, v: Tensor, grad: Tensor, phi: FeatureMap, **how: Any) -> None:
    """In float64, outputs and gradients of the operator and of its twin."""
    found = with_gradients(lambda *x: linear_attention(*x, feature_map=phi, **how), q, k, v, grad)
    twin = with_gradients(lambda *x: dense(*x, phi, **how), q, k, v, grad)
    sizes = magnitudes(q, k, v, grad, phi, **how)
    for got, expected, size in zip(found, twin, sizes, strict=True):
        assert got.shape == expected.shape
        assert ((got - expected).abs() <= 1e-14 * size + 1e-300).all()


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["elu", "relu"])
def test_output_and_gradients_are_those_of_the_twin(name: str, causal: bool, n: int) -> None:
    compare(*draw(n), feature_map(name), causal=causal)


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["random", "hedgehog"])
def test_maps_that_no_kernel_knows(name: str, causal: bool) -> None:
    q, k, v, grad = draw(100, kv_heads=2)
    phi = feature_map(name, heads=4, head_size=6, kv_heads=2)
    parameters = list(phi.parameters())

    def run(function: Any) -> tuple[Tensor, ...]:
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = function(*leaves)
        return out.detach(), *torch.autograd.grad(out, [*leaves, *parameters], grad)

    found = run(lambda *x: linear_attention(*x, feature_map=phi, causal=causal))
    twin = run(lambda *x: dense(*x, phi, causal=causal))
    for got, expected in zip(found, twin, strict=True):
        # The maps hold float32 numbers, and gradients to them are rounded to float32.
        tolerance = 1e-11 if got.dtype is torch.float64 else 1e-5
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize(("d", "e"), [(1, 1), (8, 16), (33, 20), (64, 64)])
@pytest.mark.parametrize("causal", [False, True])
def test_sizes_of_heads(d: int, e: int, causal: bool) -> None:
    compare(*draw(70, d=d, e=e, batch=1, heads=2), EluPlusOne(), causal=causal)


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_grouped_heads_lengths_and_masks(kv_heads: int, causal: bool) -> None:
    q, k, v, grad = draw(100, kv_heads=kv_heads)
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(2, 4, 1, 100, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([63, 0])
    masks = {
        "of keys": drawn[:1, :1] > 0,
        "of batch": drawn[:, :1] > 0,
        "of heads": drawn > 0,
        "float": drawn[:, :1].masked_fill(drawn[:, :1] > 1, -torch.inf),
        "all": torch.zeros(1, 1, 1, 100, dtype=torch.bool),
        "none": None,
    }
    for mask in masks.values():
        compare(q, k, v, grad, EluPlusOne(), causal=causal, mask=mask, lengths=lengths)
        compare(q, k, v, grad, ReLU(), causal=causal, mask=mask)


@pytest.mark.usefixtures("either_path")
def test_more_keys_than_queries() -> None:
    compare(*draw(63, 130), EluPlusOne())
    compare(*draw(130, 63), EluPlusOne(), lengths=torch.tensor([63, 5]))


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("causal", [False, True])
def test_what_is_hidden_is_not_even_touched(causal: bool) -> None:
    q, k, v, grad = draw(100)
    mask = torch.arange(100).remainder(3).ne(0)[None, None, None]
    lengths = torch.tensor([100, 70])
    how: dict[str, Any] = {"mask": mask, "lengths": lengths, "causal": causal}
    clean = with_gradients(lambda *x: linear_attention(*x, **how), q, k, v, grad)
    for x in (k, v):
        x[:, :, ~mask[0, 0, 0]] = torch.nan
    for x in (q, k, v):
        x[1, :, 70:] = torch.inf
    for got, expected in zip(
        with_gradients(lambda *x: linear_attention(*x, **how), q, k, v, grad), clean, strict=True
    ):
        assert torch.equal(got, expected)


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("causal", [False, True])
def test_a_row_without_a_key_is_zero_and_has_gradient_zero(causal: bool) -> None:
    q, k, v, grad = draw(70)
    q[:, :, 5] = -1.0  # shares no feature with any key
    k[0] = -1.0
    found = with_gradients(lambda *x: linear_attention(*x, feature_map="relu", causal=causal), q, k, v, grad)
    assert all(x.isfinite().all() for x in found)
    assert (found[0][:, :, 5] == 0).all()
    assert all((x[0] == 0).all() for x in found)
    assert (found[0][1] != 0).any(-1).sum() >= 4 * 69 - 8


@pytest.mark.usefixtures("either_path")
def test_very_negative_queries_do_not_underflow() -> None:
    q, k, v, grad = (x.float() for x in draw(70))
    q[:, :, ::3] -= 300.0
    out = linear_attention(q, k, v)
    expected = dense(q.double(), k.double(), v.double(), EluPlusOne())
    # A shift by 300 loses the digits of q itself: 2^-16 in a number of 300.
    assert (out - expected).abs().max() < 1e-4
    found = with_gradients(lambda *x: linear_attention(*x, causal=True), q, k, v, grad)
    assert all(x.isfinite().all() for x in found)


@pytest.mark.usefixtures("either_path")
def test_no_output_depends_on_a_later_key() -> None:
    n = 70
    q, k, v, _ = draw(n, batch=1, heads=1, d=2, e=2)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return linear_attention(q, k, v, causal=True)[0, 0]

    of_q, of_k, of_v = torch.autograd.functional.jacobian(run, (q, k, v))  # type: ignore[no-untyped-call]
    later = torch.ones(n, n, dtype=torch.bool).triu(1)
    for jacobian in (of_k, of_v):
        depends = (jacobian[:, :, 0, 0] != 0).any(-1).any(1)
        assert not depends[later].any()
        # The first row is v_1, whatever k_1 is.
        assert depends[1:][~later[1:]].all()
    depends = (of_q[:, :, 0, 0].abs() > 1e-12).any(-1).any(1)
    assert torch.equal(depends[1:], torch.eye(n, dtype=torch.bool)[1:])


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("cuts", [(1, 64), (63, 100), (0, 128)])
def test_pieces_with_a_state_are_the_whole(cuts: tuple[int, int]) -> None:
    q, k, v, grad = draw(150, kv_heads=2)

    def in_pieces(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        state, outs = None, []
        for start, stop in ((0, cuts[0]), cuts, (cuts[1], 150)):
            piece = (x[:, :, start:stop] for x in (q, k, v))
            out, state = linear_attention(*piece, causal=True, state=state, return_state=True)
            outs.append(out)
        return torch.cat(outs, 2)

    whole = with_gradients(lambda *x: linear_attention(*x, causal=True), q, k, v, grad)
    for got, expected in zip(with_gradients(in_pieces, q, k, v, grad), whole, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("name", ["elu", "relu", "random"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_steps_are_the_whole(name: str, dtype: torch.dtype) -> None:
    q, k, v, _ = (x.to(dtype) for x in draw(20, kv_heads=2))
    phi = feature_map(name, head_size=6)
    whole, last = linear_attention(q, k, v, feature_map=phi, causal=True, return_state=True)
    state = LinearState.empty(2, 2, 6, 5, feature_map=phi)
    size = state.s.nbytes
    outs = [state.step(q[:, :, i : i + 1], k[:, :, i : i + 1], v[:, :, i : i + 1]) for i in range(20)]
    assert outs[0].dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2**-8}[dtype]
    torch.testing.assert_close(torch.cat(outs, 2), whole, rtol=tolerance, atol=tolerance)
    # Sums are formed of float32 products whatever the outputs are rounded to.
    tolerance = min(tolerance, 1e-6)
    torch.testing.assert_close(state.s, last.s, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(state.z, last.z, rtol=tolerance, atol=tolerance)
    assert state.s.nbytes == size


@pytest.mark.usefixtures("either_path")
def test_a_step_without_a_shared_feature_gives_zero() -> None:
    state = LinearState.empty(1, 1, 2, feature_map="relu")
    key, other = torch.tensor([[[[1.0, -1.0]]]]), torch.tensor([[[[-1.0, 1.0]]]])
    assert state.step(other, key, key).tolist() == [[[[0.0, 0.0]]]]
    assert state.step(key, other, other).tolist() == [[[[1.0, -1.0]]]]


def test_a_backward_notices_that_its_state_has_been_stepped_on() -> None:
    q, k, v, _ = draw(5)
    _, state = linear_attention(q, k, v, causal=True, return_state=True)
    out = linear_attention(q.requires_grad_(), k, v, causal=True, state=state)
    state.step(q[:, :, :1], k[:, :, :1], v[:, :, :1])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("causal", [False, True])
def test_a_nan_stays_in_its_sequence(causal: bool) -> None:
    """Blocks are used again for the next sequence; what the last one left behind its end must not count."""
    q, k, v, grad = draw(70)
    clean = with_gradients(lambda *x: linear_attention(*x, causal=causal), q, k, v, grad)
    for x in (q, k, v, grad):
        x[0] = torch.nan
    found = with_gradients(lambda *x: linear_attention(*x, causal=causal), q, k, v, grad)
    for got, expected in zip(found, clean, strict=True):
        assert got[0].isnan().any()
        assert torch.equal(got[1], expected[1])


def test_a_state_is_not_changed_by_attention_and_loses_its_history() -> None:
    q, k, v, _ = draw(5)
    _, state = linear_attention(q, k.requires_grad_(), v, causal=True, return_state=True)
    before = state.s.clone()
    linear_attention(q, k, v, causal=True, state=state)
    assert torch.equal(state.s, before)
    assert state.s.requires_grad
    assert not state.detached().s.requires_grad


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("shape", [(0, 2, 5), (2, 2, 0)])
@pytest.mark.parametrize("causal", [False, True])
def test_nothing_gives_nothing(shape: tuple[int, int, int], causal: bool) -> None:
    q = torch.ones(*shape, 3, requires_grad=True)
    out = linear_attention(q, q, q, causal=causal)
    assert out.shape == (*shape, 3)
    out.sum().backward()
    assert q.grad is not None
    assert q.grad.shape == q.shape


@pytest.mark.usefixtures("either_path")
def test_queries_without_keys_give_zero() -> None:
    q, k = torch.ones(1, 2, 5, 3, requires_grad=True), torch.ones(1, 2, 0, 3)
    out = linear_attention(q, k, k)
    out.sum().backward()
    assert q.grad is not None
    assert out.count_nonzero() == q.grad.count_nonzero() == 0


def test_dropout_drops_keys_and_is_right_on_average() -> None:
    q, k, _, _ = draw(8, batch=1, heads=2, dtype=torch.float32)
    v = torch.eye(8).expand(1, 2, 8, 8)
    weights = linear_attention(q, k, v)
    torch.manual_seed(0)
    first = linear_attention(q, k, v, dropout=0.25)
    torch.manual_seed(0)
    assert torch.equal(linear_attention(q, k, v, dropout=0.25), first)
    shares = first / weights
    kept = shares[:, :, :1] > 0.5
    torch.testing.assert_close(shares, (kept / 0.75).expand_as(shares).float())
    draws = torch.stack([linear_attention(q, k, v, dropout=0.25) for _ in range(2000)])
    # Five standard deviations of the mean, sqrt(p / (1 - p) / draws) of each weight.
    assert ((draws.mean(0) / weights - 1).abs() < 5 * (1 / 3 / 2000) ** 0.5).all()


def test_a_signed_map_must_be_asked_for_and_is_flagged() -> None:
    q, k, v, _ = draw(10, batch=1, heads=1)
    with pytest.raises(UserError, match=r"expected a non-negative feature map, got 'identity'.*signed=True"):
        linear_attention(q, k, v, feature_map="identity")
    plus = q.abs()
    out = linear_attention(plus, plus, v, feature_map="identity", signed=True)
    torch.testing.assert_close(out, dense(plus, plus, v, Identity()))
    for causal in (False, True):
        # q . k = 0 for all keys together, and for the second alone.
        opposite = torch.cat([plus[:, :, :1], -plus[:, :, :1]], 2)
        with pytest.warns(CancellationWarning, match=f"{1 if causal else 2} of 2 denominators cancelled"):
            linear_attention(
                opposite, opposite, v[:, :, :2], feature_map=Identity(), signed=True, causal=causal
            )


def test_under_autocast_sums_stay_in_float32() -> None:
    q, k, v, _ = draw(100, dtype=torch.float32)
    q, k, v = (x.bfloat16() for x in (q, k, v))
    for causal in (False, True):
        plain = linear_attention(q, k, v, causal=causal)
        assert plain.dtype is torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16), kernels.disabled():
            out = linear_attention(q, k, v, causal=causal)
        # Equal but where float32 rounding decides between two neighbours.
        assert (out != plain).float().mean() < 0.01


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "three dimensions": (
        {"q": torch.ones(2, 5, 4)},
        r"expected q as a tensor \(batch, heads, length, size\), got",
    ),
    "integers": (
        {"v": torch.ones(1, 4, 5, 3, dtype=torch.int64)},
        "expected v in float32.*int64; convert it",
    ),
    "complex": ({"k": torch.ones(1, 2, 5, 4, dtype=torch.complex64)}, "expected k in float32"),
    "two dtypes": ({"v": torch.ones(1, 2, 5, 3, dtype=torch.float64)}, "expected q, k, v of one dtype"),
    "heads": ({"q": torch.ones(1, 3, 5, 4)}, "divides the heads of q, got 2 and 3"),
    "head sizes": ({"q": torch.ones(1, 4, 5, 6)}, "expected one head size in q and k"),
    "batches": ({"q": torch.ones(3, 4, 5, 4)}, "expected one batch size"),
    "keys": ({"k": torch.ones(1, 2, 6, 4)}, "as many heads and keys in k as in v"),
    "no size": ({"v": torch.ones(1, 2, 5, 0)}, "a head size of at least 1"),
    "causal lengths": (
        {"q": torch.ones(1, 4, 7, 4), "causal": True},
        "as many queries as keys with causal=True, got 7 and 5",
    ),
    "mask of pairs": (
        {"mask": torch.ones(1, 1, 5, 5) > 0},
        "expected a mask over keys only.*softmax attention",
    ),
    "mask of integers": (
        {"mask": torch.ones(1, 1, 1, 5, dtype=torch.int64)},
        "bool or float mask, got torch.int64",
    ),
    "mask shape": ({"mask": torch.ones(5) > 0}, r"expected a mask \(1 or 1, 4 or 1, 1, 5\), got \(5,\)"),
    "mask heads": ({"mask": torch.ones(1, 2, 1, 5) > 0}, "expected a mask"),
    "lengths of another batch": ({"lengths": torch.tensor([1, 2])}, r"lengths as an int64 tensor \(1,\)"),
    "lengths beyond": ({"lengths": torch.tensor([6])}, "lengths between 0 and 5, got 6"),
    "negative lengths": ({"lengths": torch.tensor([-1])}, "lengths between 0 and 5, got -1"),
    "dropout": ({"dropout": 1.0}, r"dropout probability in \[0, 1\), got 1.0"),
    "map": ({"feature_map": "cosine"}, "expected a FeatureMap or one of elu, relu.*got 'cosine'"),
    "state without causal": ({"return_state": True}, "expected causal=True with a state"),
    "state of another kind": ({"causal": True, "state": (1, 2)}, "expected a LinearState, got tuple"),
    "state of another shape": (
        {"causal": True, "state": LinearState.empty(1, 4, 4)},
        r"state of \(batch, kv_heads, value size\) \(1, 2, 3\)",
    ),
    "another map than the state's": (
        {"causal": True, "state": LinearState.empty(1, 2, 4, 3), "feature_map": ReLU()},
        "expected the feature map that the state was made with",
    ),
    "mask of heads with a state": (
        {"causal": True, "return_state": True, "mask": torch.ones(1, 4, 1, 5) > 0},
        "expected a mask for all heads with a state of grouped heads",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    changes, message = BAD[name]
    given = {"q": torch.ones(1, 4, 5, 4), "k": torch.ones(1, 2, 5, 4), "v": torch.ones(1, 2, 5, 3), **changes}
    with pytest.raises(UserError, match=message) as caught:
        linear_attention(given.pop("q"), given.pop("k"), given.pop("v"), **given)
    assert "\n" not in str(caught.value)


def test_a_step_takes_one_token_of_the_states_shape() -> None:
    state = LinearState.empty(1, 2, 4)
    one, two = torch.ones(1, 2, 1, 4), torch.ones(1, 2, 2, 4)
    with pytest.raises(UserError, match="expected one token, got 2 queries and 2 keys"):
        state.step(two, two, two)
    with pytest.raises(UserError, match="expected a state of"):
        state.step(one.expand(3, 2, 1, 4), one.expand(3, 2, 1, 4), one.expand(3, 2, 1, 4))


@pytest.mark.parametrize("causal", [False, True])
def test_tensors_without_numbers_have_shapes(causal: bool) -> None:
    q, k, v = (torch.empty(2, 4, 9, 8, device="meta", requires_grad=True) for _ in range(3))
    out = linear_attention(q, k, v, causal=causal)
    assert out.shape == q.shape
    out.sum().backward()
    assert k.grad is not None and k.grad.shape == k.shape
