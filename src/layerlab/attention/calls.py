"""One computation of attention in a model: its queries, keys and values, and what was seen of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from layerlab.attention import masks


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """Attention as a model computes it at one place.

    The mask is said as plainly as it can be: one that only hides what comes later is ``causal=True``, one that hides
    nothing is None, one of zeros and minus infinities is boolean, one that is the same for every query, head or
    example has one of them.

    Attributes:
        site: the name of the place, ``module`` and, from its second call on, ``#1``, ``#2``...
        module: path of the innermost module, "" for the model itself.
        kind: class of that module.
        call: how many calls in that module came before.
        place: file and line of the code that asks for attention, "" where it is torch's own.
        q: queries ``(batch, heads, n, d)``.
        k: keys ``(batch, kv_heads, m, d)``; ``kv_heads`` divides ``heads``.
        v: values ``(batch, kv_heads, m, e)``.
        mask: bool (True takes part) or float (added to the scores), broadcastable to ``(batch, heads, n, m)``; None.
        causal: query i sees the keys j <= i.
        scale: factor of the scores.
        dropout: share of the weights set to 0.
        compute: the output as the model computes it.
    """

    site: str
    module: str
    kind: str
    call: int
    place: str
    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    causal: bool
    scale: float
    dropout: float
    compute: Callable[[], Tensor]

    @cached_property
    def output(self) -> Tensor:
        """What the model computes here, ``(batch, heads, n, e)``; where a call is replaced, computed when asked for."""
        return self.compute()

    @property
    def heads(self) -> int:
        """Heads of the queries."""
        return self.q.shape[1]

    @property
    def length(self) -> int:
        """Number of keys."""
        return self.k.shape[2]


def mask_rows(
    mask: Tensor | None, causal: bool, start: int, stop: int, m: int, device: torch.device
) -> Tensor | None:
    """The mask of the queries from ``start`` to ``stop``, the causal one in it.

    Args:
        mask: of all queries, or of one row for all; None.
        causal: query i sees the keys j <= i.
        start: the first query.
        stop: the one after the last.
        m: keys.
        device: of the queries.

    >>> mask_rows(None, True, 1, 2, 3, torch.device("cpu"))
    tensor([[[[ True,  True, False]]]])
    """
    if mask is not None and mask.shape[-2] > 1:
        mask = mask[..., start:stop, :]
    if not causal:
        return mask
    earlier = torch.arange(m, device=device) <= torch.arange(start, stop, device=device)[:, None]
    if mask is None:
        return earlier[None, None]
    return mask & earlier if mask.dtype == torch.bool else mask.masked_fill(~earlier, -math.inf)


def plain_mask(
    mask: Tensor | None, causal: bool, n: int, m: int, device: torch.device | None = None
) -> tuple[Tensor | None, bool]:
    """A mask of torch's operator, as plainly as it can be said: what is left of it, and whether it is causal.

    As `layerlab.attention.masks.plain`; and one that is the same for every example or head has one of them.

    Args:
        mask: as `torch.nn.functional.scaled_dot_product_attention` takes it, of 4 dimensions.
        causal: whether it was said to be so.
        n: queries.
        m: keys.
        device: of the queries.

    >>> plain_mask(torch.ones(1, 1, 3, 3).tril().bool(), False, 3, 3)
    (None, True)
    >>> plain_mask(torch.tensor([0.0, -torch.inf]).view(1, 1, 1, 2).expand(1, 1, 2, 2), False, 2, 2)
    (tensor([[[[ True, False]]]]), False)
    """
    if causal and n != m:
        # Of a rectangle torch hides what is above the diagonal from the upper left corner.
        mask, causal = masks.lower_triangle(n, m, device)[None, None], False
    if mask is None:
        return None, causal
    if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == -math.inf)).all()):
        # The least number of a dtype is no minus infinity here: where it hides a whole row, torch's weights are not 0.
        return mask, causal
    mask, causal = masks.plain(mask, causal, n, m)
    if mask is None:
        return None, causal
    for axis in (0, 1):
        # torch's own layers write one copy for every head.
        one = mask.narrow(axis, 0, 1)
        mask = one if torch.equal(mask, one.expand_as(mask)) else mask
    return mask, causal
