"""Masks of attention: from torch's layers' convention to ours, and as plainly as they can be said.

Ours is that of `torch.nn.functional.scaled_dot_product_attention`: bool, True takes part, or float, added to the
scores; broadcastable to ``(batch, heads, n, m)``. torch's layers mean the opposite by True.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from layerlab.errors import UserError


def _checked(mask: Tensor, name: str, shapes: tuple[tuple[int, ...], ...], q: Tensor) -> Tensor:
    if not isinstance(mask, Tensor) or not (mask.dtype is torch.bool or mask.is_floating_point()):
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise UserError(f"expected {name} of bool (True hides) or float (added to the scores), got {kind}")
    if tuple(mask.shape) not in shapes:
        expected = " or ".join(map(str, shapes))
        raise UserError(f"expected {name} of shape {expected}, got {tuple(mask.shape)}")
    if mask.device != q.device:
        raise UserError(f"expected {name} on {q.device}, where the query is, got one on {mask.device}")
    return ~mask if mask.dtype is torch.bool else mask.to(q.dtype)


def from_layers(
    key_padding_mask: Tensor | None, attn_mask: Tensor | None, q: Tensor, k: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The masks of `torch.nn.MultiheadAttention` in our convention: over keys alone, and over pairs.

    Args:
        key_padding_mask: ``(batch, m)``, True hides; or float.
        attn_mask: ``(n, m)`` or ``(batch * heads, n, m)``, True hides; or float.
        q: queries ``(batch, heads, n, d)``.
        k: keys ``(batch, kv_heads, m, d)``.

    Returns:
        ``(batch, 1, 1, m)`` or None, and ``(1, 1, n, m)``, ``(batch, heads, n, m)`` or None; True takes part.

    Raises:
        UserError: another shape, dtype or device.

    >>> q = torch.ones(1, 1, 2, 1)
    >>> from_layers(torch.tensor([[False, True]]), None, q, q)
    (tensor([[[[ True, False]]]]), None)
    """
    batch, heads, n, m = *q.shape[:3], k.shape[2]
    keys = pairs = None
    if key_padding_mask is not None:
        keys = _checked(key_padding_mask, "key_padding_mask", ((batch, m),), q)[:, None, None]
    if attn_mask is not None:
        checked = _checked(attn_mask, "attn_mask", ((n, m), (batch * heads, n, m)), q)
        pairs = checked[None, None] if checked.ndim == 2 else checked.view(batch, heads, n, m)
    return keys, pairs


def both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The mask that does what two masks do.

    >>> both(torch.tensor([True, False]), torch.tensor([0.5, 0.5]))
    tensor([0.5000,   -inf])
    """
    if one is None or other is None:
        return other if one is None else one
    if one.dtype is torch.bool and other.dtype is torch.bool:
        return one & other
    if one.dtype is torch.bool or other.dtype is torch.bool:
        keep, added = (one, other) if one.dtype is torch.bool else (other, one)
        return torch.where(keep, added, -math.inf)
    return one + other


def lower_triangle(n: int, m: int, device: torch.device | None = None) -> Tensor:
    """True where query i may see key j <= i: ``(n, m)``.

    >>> lower_triangle(2, 3)
    tensor([[ True, False, False],
            [ True,  True, False]])
    """
    return torch.ones(n, m, dtype=torch.bool, device=device).tril()


def hides_only(mask: Tensor) -> Tensor | None:
    """A mask as bool; None if it does more than hide. The least number of a dtype counts as minus infinity.

    >>> hides_only(torch.tensor([0.0, -torch.inf])), hides_only(torch.tensor([0.5]))
    (tensor([ True, False]), None)
    """
    if mask.dtype is torch.bool:
        return mask
    keep = mask == 0
    return keep if bool((keep | (mask <= torch.finfo(mask.dtype).min)).all()) else None


def plain(mask: Tensor | None, causal: bool, n: int, m: int) -> tuple[Tensor | None, bool]:
    """A mask said as plainly as it can be: what is left of it, and whether later keys are hidden besides.

    One that hides nothing becomes None, one of zeros and minus infinities bool, one that is the same for every query
    gets one row, and one that hides the later keys and some keys from every query falls apart into these two. It reads
    the mask: not for a traced computation.

    Args:
        mask: of 4 dimensions.
        causal: whether query i sees no key j > i in any case; n = m then.
        n: queries.
        m: keys.

    >>> plain(torch.ones(1, 1, 3, 3).tril().bool(), False, 3, 3)
    (None, True)
    >>> plain(torch.tensor([0.0, -torch.inf]).view(1, 1, 1, 2).expand(1, 1, 2, 2), False, 2, 2)
    (tensor([[[[ True, False]]]]), False)
    """
    hidden = None if mask is None else hides_only(mask)
    if mask is None or hidden is None:
        return mask, causal
    hidden = hidden.expand(*hidden.shape[:-1], m)
    # The last query of a causal mask sees every key that is not hidden from all.
    keys = hidden[..., -1:, :]
    if hidden.shape[-2] > 1 and not torch.equal(hidden, keys.expand_as(hidden)):
        triangle = lower_triangle(n, m, mask.device)
        below = keys & triangle
        if n != m or not torch.equal(hidden & triangle if causal else hidden, below.expand_as(hidden)):
            return hidden, causal
        causal = True
    return (None if bool(keys.all()) else keys), causal
