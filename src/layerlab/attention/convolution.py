"""Convolutions and max pooling as relative-position attention: a module, and how to make it from torch's layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from layerlab.attention.arguments import check_finite, check_whole
from layerlab.attention.relative import Window, attend
from layerlab.errors import UserError

Split = Literal["auto", "sign", "tap"]


class RelativeAttention(nn.Module):
    """Relative-position attention over a sequence or an image, ``y_i = bias + sum_h W_h sum_j P_h[i, j] x_j``.

    ``P_h[i, j] = softmax_j(query_h . x_j + p_h[i - j])``, over the offsets that p has scores for; pad tokens beyond
    the edges have the value 0 and the score p. Without queries the scores depend on the position alone. Build it
    with `from_conv1d`, `from_conv2d` or `as_max_pool`, or from its parts; p, W and the bias are parameters.

    Reference: the course's assignment, questions 1.4.1 and 1.4.2; Cordonnier, Loukas and Jaggi, On the Relationship
    between Self-Attention and Convolutional Layers, ICLR 2020.

    Args:
        p: scores, ``(heads, w)``; minus infinity closes an offset.
        value: W, ``(heads, out, in)``. None treats each channel by itself, with one head and the identity.
        bias: ``(out,)`` or None.
        offsets: w offsets i - j: whole numbers on a sequence, tuples of them on a grid of more axes.
        pads: number of pad tokens (before, after) along each axis; None for no pad tokens.
        stride: step from a query to the next along each axis; None for 1.
        shrink: how many fewer queries than tokens there are along each axis, at stride 1; None for 0.
        query: constant queries, ``(heads, in)``, ``(1, 1)`` where each channel is by itself, or None.

    Raises:
        UserError: sizes that do not fit.

    >>> conv = torch.nn.Conv1d(1, 1, 3, padding=1, bias=False)
    >>> _ = conv.weight.data.copy_(torch.tensor([[[2.0, 0.0, 1.0]]]))
    >>> attention = RelativeAttention.from_conv1d(conv)
    >>> attention.heads, attention.split
    (1, 'sign')
    >>> attention(torch.tensor([[[1.0, 2.0, 4.0]]])).detach()
    tensor([[[2., 6., 4.]]])
    """

    split: Literal["sign", "tap"] | None = None

    def __init__(
        self,
        p: Tensor,
        value: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        offsets: Sequence[int] | Sequence[tuple[int, ...]],
        pads: Sequence[tuple[int, int]] | None = None,
        stride: Sequence[int] | None = None,
        shrink: Sequence[int] | None = None,
        query: Tensor | None = None,
    ) -> None:
        super().__init__()
        tuples = tuple((o,) if isinstance(o, int) else tuple(o) for o in offsets)
        axes = len(tuples[0]) if tuples else 0
        if p.ndim != 2 or p.shape[1] != len(tuples) or any(len(o) != axes for o in tuples) or axes == 0:
            raise UserError(
                f"expected p of shape (heads, w) and w offsets of as many axes as each other, got {tuple(p.shape)} and "
                f"{len(tuples)} offsets"
            )
        if value is None and p.shape[0] != 1:
            raise UserError(
                f"expected one head where each channel is by itself, got {p.shape[0]}; give a value"
            )
        if value is not None and (value.ndim != 3 or value.shape[0] != p.shape[0]):
            raise UserError(f"expected value of shape ({p.shape[0]}, out, in), got {tuple(value.shape)}")
        if bias is not None and (value is None or bias.shape != value.shape[1:2]):
            raise UserError(f"expected a bias for each channel of the value, got {tuple(bias.shape)}")
        channels = 1 if value is None else value.shape[2]
        if query is not None and query.shape != (p.shape[0], channels):
            raise UserError(f"expected queries of shape ({p.shape[0]}, {channels}), got {tuple(query.shape)}")
        self.window = Window(tuples, tuple(pads or ((0, 0),) * axes), tuple(stride or (1,) * axes))
        self.shrink = tuple(shrink or (0,) * axes)
        if not len(self.window.pads) == len(self.window.stride) == len(self.shrink) == axes:
            raise UserError(f"expected pads, stride and shrink along {axes} axes, as the offsets have")
        self.p = nn.Parameter(p)
        self.value = None if value is None else nn.Parameter(value)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.query = None if query is None else nn.Parameter(query)

    @property
    def heads(self) -> int:
        return self.p.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """x ``(batch, in, *grid)`` or ``(in, *grid)`` to ``(batch, out, *counts)`` or ``(out, *counts)``."""
        axes = len(self.shrink)
        if not isinstance(x, Tensor) or x.ndim not in (axes + 1, axes + 2):
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise UserError(
                f"expected (batch, channels, ...) or (channels, ...) with {axes} more axes, got {got}"
            )
        if x.dtype != self.p.dtype or x.device != self.p.device:
            raise UserError(
                f"expected {self.p.dtype} on {self.p.device}, as the module is, got {x.dtype} on {x.device}; convert it"
            )
        if x.ndim == axes + 1:
            return self(x[None])[0]
        batch, channels, *grid = x.shape
        counts = tuple(
            (size - 1 - less) // step + 1
            for size, less, step in zip(grid, self.shrink, self.window.stride, strict=True)
        )
        if min(counts) < 1 or min(grid) < 1:
            raise UserError(f"expected an input as large as the window at least, got {tuple(grid)}")
        if self.value is None:
            tokens = x.reshape(batch * channels, 1, *grid, 1)
        elif channels != self.value.shape[2]:
            raise UserError(f"expected {self.value.shape[2]} channels, got {channels}")
        else:
            tokens = x.movedim(1, -1)[:, None]
        query = keys = None
        if self.query is not None:
            shape = (self.heads, *(1,) * axes, self.query.shape[1])
            query = self.query.view(shape).expand(len(tokens), -1, *counts, -1)
            keys = tokens
        seen = attend(query, keys, tokens, self.p, self.window, counts, scale=1.0)
        if self.value is None:
            return seen.reshape(batch, channels, *counts)
        mixing = self.value.transpose(1, 2).flatten(0, 1)
        out = seen.movedim(1, -2).flatten(-2) @ mixing
        return (out if self.bias is None else out + self.bias).movedim(-1, 1)

    def extra_repr(self) -> str:
        means = "" if self.split is None else f", one head for each {self.split}"
        window = self.window
        return f"heads={self.heads}{means}, offsets={len(window.offsets)}, pads={window.pads}, stride={window.stride}"

    @classmethod
    def from_conv1d(cls, conv: nn.Conv1d, heads: Split = "auto") -> RelativeAttention:
        """The attention that computes what a `torch.nn.Conv1d` does, on every row, for weights of any sign.

        The weights of a softmax are not negative, so that one head serves one sign of one kernel, with p the logarithm
        of the weights and W their sum; or one head serves one tap of all kernels, with p closed but for that tap and W
        the weights of the tap. Zero padding is done by pad tokens.

        Args:
            conv: with any number of channels, groups, bias, kernel size, stride, dilation and zero padding.
            heads: "sign" takes one head for each sign of each kernel (a pair of an input and an output channel), "tap"
                one for each tap with a weight that is not 0. "auto" takes what needs fewer heads, "tap" for as many;
                `split` tells which.

        Returns:
            The module, with a copy of the weights, in their dtype and on their device.

        Raises:
            UserError: another layer, padding by other than zeros, weights that are not finite.
        """
        return _from_conv(cls, conv, nn.Conv1d, heads)

    @classmethod
    def from_conv2d(cls, conv: nn.Conv2d, heads: Split = "auto") -> RelativeAttention:
        """The attention that computes what a `torch.nn.Conv2d` does; see `from_conv1d`."""
        return _from_conv(cls, conv, nn.Conv2d, heads)

    @classmethod
    def as_max_pool(
        cls, window: int | tuple[int, ...], c: float, *, dtype: torch.dtype | None = None
    ) -> RelativeAttention:
        """Soft max pooling with stride 1: ``0 <= max - output <= log(window) / c`` for numbers of any sign.

        The query is the constant c, the key is x_j itself: ``out_i = sum_j softmax_j(c x_j) x_j`` over the window
        around i, clipped at the edges. That is the maximum less (H(P_i) - log(sum_j exp(c (x_j - max))))/ c, and the
        entropy H is at most the logarithm of the window. (With the query x_i in place of the constant, as in the
        solution printed for the course, it is the minimum where x_i < 0.)

        Args:
            window: 2 k + 1, odd; for images a pair of them, whose product stands in the bound.
            c: positive; the larger, the nearer to the maximum.
            dtype: of the module, torch's default if None.

        Raises:
            UserError: an even window, or c not positive.

        >>> pool = RelativeAttention.as_max_pool(3, c=100.0)
        >>> pool(torch.tensor([[[-1.0, -3.0, -2.0, 5.0, 2.0]]])).detach()
        tensor([[[-1., -1.,  5.,  5.,  5.]]])
        """
        sizes = (window,) if isinstance(window, int) else tuple(window)
        for size in sizes:
            check_whole("window", size, 1)
            if size % 2 == 0:
                raise UserError(f"expected an odd window 2 k + 1, got {size}")
        if check_finite("c", c) <= 0:
            raise UserError(f"expected c > 0, got {c}")
        offsets = list(itertools.product(*(range(-(size // 2), size // 2 + 1) for size in sizes)))
        p = torch.zeros(1, len(offsets), dtype=dtype)
        return cls(p, offsets=offsets, query=torch.full((1, 1), float(c), dtype=p.dtype))


def _from_conv(
    cls: type[RelativeAttention],
    conv: nn.Conv1d | nn.Conv2d,
    kind: type[nn.Conv1d] | type[nn.Conv2d],
    heads: Split,
) -> RelativeAttention:
    if not isinstance(conv, kind):
        raise UserError(f"expected a torch.nn.{kind.__name__}, got {type(conv).__name__}")
    if heads not in ("auto", "sign", "tap"):
        raise UserError(f"expected heads as 'auto', 'sign' or 'tap', got {heads!r}")
    if conv.padding_mode != "zeros":
        raise UserError(
            f"expected a convolution padded with zeros, got padding_mode={conv.padding_mode!r}; pad tokens have the "
            "value 0, so pad the input beforehand and take padding=0"
        )
    if isinstance(conv.weight, nn.UninitializedParameter):
        raise UserError("expected a convolution with weights, got a lazy one; call it once on an input first")
    weight = conv.weight.detach()
    if not weight.is_floating_point() or not bool(weight.isfinite().all()):
        raise UserError(
            f"expected finite weights in floating-point numbers, got {weight.dtype} or infinities"
        )
    kernel, dilation = weight.shape[2:], conv.dilation
    spans = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
    if conv.padding == "same":
        pads = [(span // 2, span - span // 2) for span in spans]
    elif isinstance(conv.padding, str):
        pads = [(0, 0) for _ in spans]
    else:
        pads = [(pad, pad) for pad in conv.padding]
    taps = itertools.product(*(range(size) for size in kernel))
    offsets = [
        tuple(pad[0] - step * at for pad, step, at in zip(pads, dilation, tap, strict=True)) for tap in taps
    ]
    dense = _ungrouped(weight, conv.groups).flatten(2)
    p, value, split = _heads_of(dense, heads)
    module = cls(
        p,
        value,
        None if conv.bias is None else conv.bias.detach().clone(),
        offsets=offsets,
        pads=pads,
        stride=conv.stride,
        shrink=[span - sum(pad) for span, pad in zip(spans, pads, strict=True)],
    )
    module.split = split
    return module


def _ungrouped(weight: Tensor, groups: int) -> Tensor:
    """``(out, in / groups, ...)`` as ``(out, in, ...)`` with zeros between the groups."""
    out, per_group = weight.shape[:2]
    dense = weight.new_zeros(out, per_group * groups, *weight.shape[2:])
    for group in range(groups):
        rows = slice(group * out // groups, (group + 1) * out // groups)
        dense[rows, group * per_group : (group + 1) * per_group] = weight[rows]
    return dense


def _heads_of(weight: Tensor, heads: Split) -> tuple[Tensor, Tensor, Literal["sign", "tap"]]:
    """p ``(heads, w)`` and W ``(heads, out, in)`` of a weight ``(out, in, w)``."""
    out, channels, width = weight.shape
    taps = weight.flatten(0, 1).any(0).nonzero().flatten()
    signed = torch.stack([weight.clamp(min=0.0), (-weight).clamp(min=0.0)])
    kernels = signed.any(-1).nonzero()
    if heads == "tap" or (heads == "auto" and len(taps) <= len(kernels)):
        # A kernel of zeros still needs a head.
        taps = taps if len(taps) else taps.new_zeros(1)
        p = weight.new_full((len(taps), width), -math.inf)
        p[torch.arange(len(taps)), taps] = 0.0
        return p, weight[..., taps].permute(2, 0, 1).contiguous(), "tap"
    if len(kernels) == 0:
        return weight.new_zeros(1, width), weight.new_zeros(1, out, channels), "sign"
    sign, row, column = kernels.unbind(1)
    shares = signed[sign, row, column]
    value = weight.new_zeros(len(kernels), out, channels)
    value[torch.arange(len(kernels)), row, column] = shares.sum(-1) * (1.0 - 2.0 * sign)
    # Relative to the largest, so that rounding of the logarithm is smallest where it counts.
    return (shares / shares.amax(-1, keepdim=True)).log(), value, "sign"
