"""Convolutions as attention, against torch's own on every row; and soft max pooling with its bound."""

from __future__ import annotations

import math
import warnings

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from layerlab.attention.convolution import RelativeAttention
from layerlab.attention.relative import relative_attention
from layerlab.errors import UserError

INF = float("inf")


def same_as_conv(conv: nn.Conv1d | nn.Conv2d, x: torch.Tensor, attention: RelativeAttention) -> None:
    """Outputs and gradients with respect to the input agree to 1e-12, on every row."""
    mine, theirs = (x.clone().requires_grad_() for _ in range(2))
    with warnings.catch_warnings():
        # torch tells that it copies the input for padding="same" and an even kernel.
        warnings.filterwarnings("ignore", "Using padding='same'", UserWarning)
        out, expected = attention(mine), conv(theirs)
    assert out.shape == expected.shape
    size = max(1.0, float(expected.detach().abs().max()))
    assert (out - expected).abs().max() <= 1e-12 * size
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(4), dtype=out.dtype)
    (got,) = torch.autograd.grad(out, mine, direction)
    (wanted,) = torch.autograd.grad(expected, theirs, direction)
    assert (got - wanted).abs().max() <= 1e-12 * max(1.0, float(wanted.abs().max()))


CONVS_1D = {
    "one channel": {"in_channels": 1, "out_channels": 1, "kernel_size": 3, "padding": 1},
    "several channels": {"in_channels": 3, "out_channels": 5, "kernel_size": 3, "padding": 1},
    "kernel of one": {"in_channels": 2, "out_channels": 2, "kernel_size": 1},
    "kernel of seven": {"in_channels": 2, "out_channels": 3, "kernel_size": 7, "padding": 3},
    "even kernel": {"in_channels": 2, "out_channels": 2, "kernel_size": 4, "padding": 2},
    "same, even kernel": {"in_channels": 2, "out_channels": 2, "kernel_size": 4, "padding": "same"},
    "same, dilated": {
        "in_channels": 2,
        "out_channels": 2,
        "kernel_size": 3,
        "padding": "same",
        "dilation": 3,
    },
    "valid": {"in_channels": 2, "out_channels": 2, "kernel_size": 5, "padding": "valid"},
    "no padding": {"in_channels": 2, "out_channels": 2, "kernel_size": 5},
    "more padding than kernel": {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "padding": 5},
    "stride": {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "padding": 1, "stride": 2},
    "stride past the kernel": {"in_channels": 2, "out_channels": 3, "kernel_size": 2, "stride": 5},
    "stride and dilation": {
        "in_channels": 2,
        "out_channels": 3,
        "kernel_size": 3,
        "padding": 2,
        "stride": 3,
        "dilation": 2,
    },
    "groups": {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"in_channels": 3, "out_channels": 6, "kernel_size": 3, "padding": 1, "groups": 3},
    "no bias": {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "padding": 1, "bias": False},
}


@pytest.mark.parametrize("heads", ["auto", "sign", "tap"])
@pytest.mark.parametrize("name", CONVS_1D)
def test_conv1d_of_any_sign_on_every_row(name: str, heads: str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(**CONVS_1D[name], dtype=torch.float64)
    attention = RelativeAttention.from_conv1d(conv, heads)
    for n in (7, 12):
        same_as_conv(conv, torch.randn(2, conv.in_channels, n, dtype=torch.float64), attention)


CONVS_2D = {
    "one channel": {"in_channels": 1, "out_channels": 1, "kernel_size": 3, "padding": 1},
    "several channels": {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "padding": 1},
    "oblong": {"in_channels": 2, "out_channels": 3, "kernel_size": (3, 5), "padding": (0, 2)},
    "stride, dilation, groups": {
        "in_channels": 4,
        "out_channels": 4,
        "kernel_size": (3, 2),
        "padding": (2, 1),
        "stride": (2, 3),
        "dilation": (1, 2),
        "groups": 2,
    },
    "same": {"in_channels": 1, "out_channels": 2, "kernel_size": (2, 3), "padding": "same"},
}


@pytest.mark.parametrize("heads", ["auto", "sign", "tap"])
@pytest.mark.parametrize("name", CONVS_2D)
def test_conv2d_of_any_sign_on_every_row(name: str, heads: str) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(**CONVS_2D[name], dtype=torch.float64)
    attention = RelativeAttention.from_conv2d(conv, heads)
    same_as_conv(conv, torch.randn(2, conv.in_channels, 6, 9, dtype=torch.float64), attention)


def with_kernel(taps: list[float], bias: bool = False) -> nn.Conv1d:
    conv = nn.Conv1d(1, 1, len(taps), padding=len(taps) // 2, bias=bias, dtype=torch.float64)
    conv.weight.data[0, 0] = torch.tensor(taps, dtype=torch.float64)
    return conv


def test_the_example_of_the_course_takes_one_head_and_its_edges_are_right() -> None:
    conv = with_kernel([2.0, 0.0, 1.0])
    attention = RelativeAttention.from_conv1d(conv)
    assert (attention.heads, attention.split) == (1, "sign")
    x = torch.tensor([[[1.0, 2.0, 4.0, 8.0]]], dtype=torch.float64)
    expected = torch.tensor([[[2.0, 6.0, 12.0, 8.0]]], dtype=torch.float64)
    torch.testing.assert_close(conv(x), expected)
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-14)
    # p_1 - p_{-1} = ln 2 and W = 3, as printed.
    assert (attention.p[0, 0] - attention.p[0, 2]).item() == pytest.approx(math.log(2))
    assert attention.value.item() == pytest.approx(3)
    # Without the pad tokens the softmax renormalises over what is left: the printed edges are 3x, not x and 2x.
    bare = RelativeAttention(attention.p.detach(), attention.value.detach(), offsets=[1, 0, -1])
    torch.testing.assert_close(bare(x)[0, 0, 0], 3 * x[0, 0, 1])
    torch.testing.assert_close(bare(x)[0, 0, 3], 3 * x[0, 0, 2])
    torch.testing.assert_close(bare(x)[0, 0, 1:3], expected[0, 0, 1:3])


@pytest.mark.parametrize(
    ("taps", "heads", "split"),
    [
        ([2.0, 0.0, 1.0], 1, "sign"),
        ([2.0, -1.0, 1.0], 2, "sign"),
        ([-2.0, -1.0, -1.0], 1, "sign"),
        ([2.0, 0.0, -1.0], 2, "tap"),
        ([0.0, 3.0, 0.0], 1, "tap"),
        ([0.0, 0.0, 0.0], 1, "tap"),
    ],
)
def test_auto_takes_the_split_with_fewer_heads(taps: list[float], heads: int, split: str) -> None:
    attention = RelativeAttention.from_conv1d(with_kernel(taps))
    assert (attention.heads, attention.split) == (heads, split)
    assert f"one head for each {split}" in repr(attention)
    same_as_conv(with_kernel(taps), torch.randn(1, 1, 5, dtype=torch.float64), attention)


def test_a_kernel_of_zeros_by_sign() -> None:
    attention = RelativeAttention.from_conv1d(with_kernel([0.0, 0.0, 0.0]), "sign")
    assert not attention(torch.ones(1, 1, 4, dtype=torch.float64)).any()


def test_several_channels_take_one_head_for_each_tap() -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(4, 4, 3, padding=1)
    assert RelativeAttention.from_conv1d(conv).heads == 3
    assert RelativeAttention.from_conv1d(conv, "sign").heads > 16


def test_weights_of_very_different_sizes() -> None:
    conv = with_kernel([1e-12, 1e12, -1e-3])
    same_as_conv(conv, torch.ones(1, 1, 6, dtype=torch.float64), RelativeAttention.from_conv1d(conv, "sign"))


def test_float32_and_an_input_without_batch() -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(3, 4, 5, padding=2)
    x = torch.randn(3, 20)
    out = RelativeAttention.from_conv1d(conv)(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, conv(x), rtol=1e-5, atol=1e-6)


def test_the_weights_are_copies_and_can_be_trained() -> None:
    conv = with_kernel([2.0, -3.0, 1.0], bias=True)
    attention = RelativeAttention.from_conv1d(conv, "sign")
    x = torch.randn(1, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = conv(x).detach()
    attention(x).square().sum().backward()
    optimizer = torch.optim.SGD(attention.parameters(), lr=0.1)
    optimizer.step()
    assert all(parameter.grad.isfinite().all() for parameter in attention.parameters())
    assert not attention(x).isnan().any()
    torch.testing.assert_close(conv(x), before, rtol=0, atol=0)
    other = RelativeAttention.from_conv1d(with_kernel([1.0, -1.0, 1.0], bias=True), "sign")
    other.load_state_dict(attention.state_dict())
    torch.testing.assert_close(other(x), attention(x), rtol=0, atol=0)


def pooled(x: torch.Tensor, window: int) -> torch.Tensor:
    return nn.functional.max_pool1d(x, window, stride=1, padding=window // 2)


numbers = arrays.arrays(
    "float64", st.tuples(st.just(2), st.integers(1, 3), st.integers(1, 12)), elements=st.floats(-1e3, 1e3)
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(x=numbers, k=st.integers(0, 4), c=st.floats(1e-3, 1e4))
def test_soft_max_pooling_is_within_its_bound_for_any_sign(x, k: int, c: float) -> None:
    x, window = torch.from_numpy(x), 2 * k + 1
    out = RelativeAttention.as_max_pool(window, c, dtype=torch.float64)(x)
    gap = pooled(x, window) - out
    rounding = 1e-14 * max(1.0, float(x.abs().max())) * window
    assert gap.min() >= -rounding
    assert gap.max() <= math.log(window) / c + rounding


def test_the_bound_of_soft_max_pooling_is_nearly_reached() -> None:
    # The gap log(w) / c is the limit of a window whose other tokens lie just so far below the maximum.
    pool, worst = RelativeAttention.as_max_pool(101, c=1.0, dtype=torch.float64), 0.0
    for below in torch.linspace(0, 5, 51, dtype=torch.float64):
        x = torch.full((1, 1, 101), -float(below), dtype=torch.float64)
        x[0, 0, 50] = 0.0
        worst = max(worst, -pool(x)[0, 0, 50].item())
    assert 0.5 * math.log(101) < worst <= math.log(101)


def test_edges_of_soft_max_pooling_are_clipped_and_not_padded() -> None:
    x = torch.tensor([[[-5.0, -4.0, -6.0]]])
    out = RelativeAttention.as_max_pool(3, 50.0)(x)
    torch.testing.assert_close(out, torch.tensor([[[-4.0, -4.0, -4.0]]]))


def test_the_query_of_the_printed_solution_gives_the_minimum_where_x_is_negative() -> None:
    x = torch.tensor([-3.0, -1.0, -2.0, 0.0, 1.0, 3.0]).view(1, 1, -1, 1)
    out = relative_attention(100 * x, 100 * x, x, torch.zeros(1, 3), scale=1.0).flatten()
    torch.testing.assert_close(out, torch.tensor([-3.0, -3.0, -2.0, -1 / 3, 3.0, 3.0]))


def test_soft_max_pooling_of_images() -> None:
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = RelativeAttention.as_max_pool((3, 5), 40.0, dtype=torch.float64)(x)
    gap = nn.functional.max_pool2d(x, (3, 5), stride=1, padding=(1, 2)) - out
    assert gap.min() >= -1e-13
    assert 0 < gap.max() <= math.log(15) / 40


def padded(mode: str) -> nn.Conv1d:
    return nn.Conv1d(1, 1, 3, padding=1, padding_mode=mode)


def infinite() -> nn.Conv1d:
    conv = nn.Conv1d(1, 1, 3)
    conv.weight.data[0, 0, 1] = INF
    return conv


BAD_LAYERS = {
    "another layer": (lambda: nn.Linear(2, 2), "Conv1d"),
    "transposed": (lambda: nn.ConvTranspose1d(1, 1, 3), "ConvTranspose1d"),
    "two axes": (lambda: nn.Conv2d(1, 1, 3), "Conv2d"),
    "circular": (lambda: padded("circular"), "circular"),
    "reflected": (lambda: padded("reflect"), "reflect"),
    "infinite": (infinite, "finite"),
    "complex": (lambda: nn.Conv1d(1, 1, 3, dtype=torch.complex64), "complex64"),
    "lazy": (lambda: nn.LazyConv1d(1, 3), "lazy"),
}


@pytest.mark.parametrize("name", BAD_LAYERS)
def test_layers_that_are_no_such_attention_are_refused(name: str) -> None:
    make, says = BAD_LAYERS[name]
    with pytest.raises(UserError, match=says):
        RelativeAttention.from_conv1d(make())


def test_other_refusals() -> None:
    conv = nn.Conv1d(2, 3, 5)
    with pytest.raises(UserError, match="heads"):
        RelativeAttention.from_conv1d(conv, "both")
    attention = RelativeAttention.from_conv1d(conv)
    for x, says in [
        (torch.ones(1, 3, 8), "2 channels"),
        (torch.ones(1, 2, 4), "as large as the window"),
        (torch.ones(1, 2, 0), "as large as the window"),
        (torch.ones(8), "channels"),
        ([1.0], "list"),
        (torch.ones(1, 2, 8, dtype=torch.float64), "float32"),
    ]:
        with pytest.raises(UserError, match=says):
            attention(x)
    for window, c, says in [
        (2, 1.0, "odd"),
        (0, 1.0, "window"),
        (3, 0.0, "c > 0"),
        (3, INF, "c"),
        ((3, 2), 1.0, "odd"),
    ]:
        with pytest.raises(UserError, match=says):
            RelativeAttention.as_max_pool(window, c)
    p = torch.zeros(2, 3)
    for arguments, says in [
        ({"p": p, "offsets": [0, 1]}, "offsets"),
        ({"p": p, "offsets": [(0, 0), (1, 0), (1,)]}, "offsets"),
        ({"p": p, "offsets": [0, 1, 2]}, "one head"),
        ({"p": p, "offsets": [0, 1, 2], "value": torch.ones(3, 2, 2)}, "value"),
        ({"p": p, "offsets": [0, 1, 2], "value": torch.ones(2, 2, 2), "bias": torch.ones(3)}, "bias"),
        ({"p": p, "offsets": [0, 1, 2], "value": torch.ones(2, 2, 2), "query": torch.ones(1, 2)}, "queries"),
        ({"p": p, "offsets": [0, 1, 2], "value": torch.ones(2, 2, 2), "stride": (1, 1)}, "axes"),
    ]:
        with pytest.raises(UserError, match=says):
            RelativeAttention(**arguments)


def test_the_module_exports() -> None:
    torch.manual_seed(0)
    attention = RelativeAttention.from_conv1d(nn.Conv1d(2, 3, 3, padding=1))
    x = torch.randn(2, 2, 9)
    exported = torch.export.export(attention, (x,))
    torch.testing.assert_close(exported.module()(x), attention(x), rtol=0, atol=0)
