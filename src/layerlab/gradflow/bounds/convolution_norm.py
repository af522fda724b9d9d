"""The spectral norm of a convolution: exact where it is circular, an upper bound where it is padded with zeros."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from layerlab.gradflow.bounds.operator_norms import gram_norms, once

_DENSITIES = (32, 16, 8, 4, 3)  # frequencies for each tap, from exact to cheap
_COST = 4e9  # operations for one convolution: about a second


def convolution_norm(
    weight: Tensor,
    size: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
    circular: bool = False,
    outputs: Sequence[int] | None = None,
) -> tuple[float, bool]:
    """σ_max of x ↦ w ⋆ x, and whether it is exact or an upper bound.

    With stride s, the input is s^D phases of one s-th of its size, and the convolution one of stride 1 from all phases:

        y_o[i] = Σ_{c,t} w[o,c,t] x_c[s i + d t − p],    s a + r = d t − p with 0 ≤ r < s.

    On a circular grid that is block-diagonal in the frequencies, so σ_max is the largest of the blocks' norms (H.
    Sedghi, V. Gupta and P. Long, The singular values of convolutional layers, ICLR 2019). Padded with zeros, it is a
    compression of the circular one on a grid longer by the reach of the kernel, and σ_max at most that one's. On
    large grids a coarser one of N frequencies is used: a trigonometric polynomial with L terms is at most
    1/cos(π(L − 1)/(2N)) times its largest absolute value on N equidistant points (M. Riesz), in each dimension.

    Args:
        weight: (out, in/groups, k_1 ... k_D), as of `torch.nn.functional.conv2d`.
        size: of the input, n_1 ... n_D.
        stride: s_1 ... s_D.
        padding: p_1 ... p_D, in front; behind, what the outputs reach.
        dilation: d_1 ... d_D.
        groups: of channels.
        circular: whether the input repeats itself, instead of zeros.
        outputs: sizes of the output, where circular.

    >>> box = torch.ones(1, 1, 2) / 2
    >>> convolution_norm(box, [8], stride=[1], padding=[1], dilation=[1], circular=True, outputs=[8])
    (1.0, True)
    """
    arguments = (tuple(size), tuple(stride), tuple(padding), tuple(dilation), groups, circular)
    repeated, exact = 1.0, circular
    if circular:
        if outputs is None:
            raise ValueError("a circular convolution needs the sizes of its output")
        whole = [n % s == 0 for n, s in zip(size, stride, strict=True)]
        grid = [n // s if w else n for n, s, w in zip(size, stride, whole, strict=True)]
        exact = all(whole) and list(outputs) == grid
        # More outputs than places: some are repeated. Fewer: some are left out.
        repeated = math.prod(math.ceil(o / n) for o, n in zip(outputs, grid, strict=True)) ** 0.5
        stride = [s if w else 1 for s, w in zip(stride, whole, strict=True)]
    elif 0 in size:
        return 0.0, True
    value, complete = once(
        ("convolution", *arguments),
        weight,
        lambda: _norm(weight.detach().double(), size, stride, padding, dilation, groups, circular),
    )
    return repeated * value, exact and complete


def _norm(
    weight: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    circular: bool,
) -> tuple[float, bool]:
    if weight.numel() == 0:
        return 0.0, True
    if not bool(torch.isfinite(weight).all()):
        return math.inf, False
    kernel = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    phases, shifts, grids, lengths = [], [], [], []
    for n, s, p, d, k in zip(size, stride, padding, dilation, weight.shape[2:], strict=True):
        places = [d * t - p for t in range(k)]
        used = sorted({place % s for place in places})
        first = min(place // s for place in places)
        length = max(place // s for place in places) - first + 1
        grid = n // s if circular else -(-n // s) + length - 1
        phases.append([used.index(place % s) for place in places])
        shifts.append([(place // s - first) % grid for place in places])
        grids.append(grid)
        lengths.append(min(length, grid))
    counts = [max(of) + 1 for of in phases]
    outputs, inputs = kernel.shape[1], kernel.shape[2]
    spread = torch.zeros(*kernel.shape[:3], *counts, *lengths, dtype=torch.float64)
    for taps in itertools.product(*(range(k) for k in weight.shape[2:])):
        place = [of[t] for of, t in zip((*phases, *shifts), taps * 2, strict=True)]
        target: Any = (..., *place)
        source: Any = (..., *taps)
        spread[target] += kernel[source]
    spread = spread.reshape(groups, outputs, inputs * math.prod(counts), *lengths)
    grids, excess = _affordable(grids, lengths, spread.shape[:3])
    if math.prod(grids) > 1:
        dims = tuple(range(3, 3 + len(grids)))
        blocks = torch.fft.rfftn(spread, s=grids, dim=dims)
    else:
        blocks = spread.sum(tuple(range(3, 3 + len(grids))), keepdim=True)
    blocks = blocks.flatten(3).permute(3, 0, 1, 2).reshape(-1, outputs, spread.shape[2])
    value = max(float(gram_norms(part).max()) for part in blocks.split(256))
    return excess * value, excess == 1.0


def _affordable(grids: list[int], lengths: list[int], shape: Sequence[int]) -> tuple[list[int], float]:
    """How many frequencies to look at in each dimension, and by what the norm may exceed what is found there."""
    # One tap alone has the same norm at every frequency.
    full = [1 if length == 1 else grid for grid, length in zip(grids, lengths, strict=True)]
    groups, outputs, inputs = shape
    each = groups * min(outputs, inputs) ** 2 * (8 * max(outputs, inputs) + 30 * min(outputs, inputs))
    if each * math.prod(full) / 2 <= _COST:
        return full, 1.0
    for density in _DENSITIES:
        coarse = [
            min(grid, density * (length - 1)) if length > 1 else 1
            for grid, length in zip(grids, lengths, strict=True)
        ]
        if each * math.prod(coarse) / 2 <= _COST:
            break
    excess = 1.0
    for taken, grid, length in zip(coarse, full, lengths, strict=True):
        if taken < grid:
            excess /= math.cos(math.pi * (length - 1) / (2 * taken))
    return coarse, excess
