"""What every attention refuses (shapes, dtypes and devices that do not go together), and what all of them form."""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor

from layerlab.errors import UserError

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise UserError unless q, k and v have the shapes of an attention, one float dtype and one device.

    >>> check(torch.ones(1, 4, 3, 2), torch.ones(1, 2, 5, 2), torch.ones(1, 2, 5, 7))
    >>> check(torch.ones(1, 3, 3, 2), torch.ones(1, 2, 5, 2), torch.ones(1, 2, 5, 7))
    Traceback (most recent call last):
    ...
    layerlab.errors.UserError: expected a number of key heads that divides the heads of q, got 2 and 3; ...
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, Tensor) or x.ndim != 4:
            got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise UserError(f"expected {name} as a tensor (batch, heads, length, size), got {got}")
        if x.dtype not in FLOATS:
            raise UserError(
                f"expected {name} in float32, float64, float16 or bfloat16, got {x.dtype}; convert it"
            )
    if not q.dtype == k.dtype == v.dtype:
        raise UserError(f"expected q, k, v of one dtype, got {q.dtype}, {k.dtype}, {v.dtype}; convert them")
    if not q.device == k.device == v.device:
        raise UserError(f"expected q, k, v on one device, got {q.device}, {k.device}, {v.device}; move them")
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.shape[0] == k.shape[0] == v.shape[0]:
        raise UserError(f"expected one batch size, got {shapes}; expand what is shared")
    if k.shape[1] != v.shape[1] or k.shape[2] != v.shape[2]:
        raise UserError(f"expected as many heads and keys in k as in v, got {shapes}")
    if q.shape[3] != k.shape[3]:
        raise UserError(f"expected one head size in q and k, got {shapes}")
    if min(q.shape[1], k.shape[1], q.shape[3], v.shape[3]) == 0:
        raise UserError(f"expected at least one head and a head size of at least 1, got {shapes}")
    if q.shape[1] % k.shape[1]:
        raise UserError(
            f"expected a number of key heads that divides the heads of q, got {k.shape[1]} and {q.shape[1]};"
            " each key head serves as many heads of q"
        )


def check_causal(q: Tensor, k: Tensor) -> None:
    """Raise UserError unless there are as many queries as keys."""
    if q.shape[2] != k.shape[2]:
        raise UserError(
            f"expected as many queries as keys with causal=True, got {q.shape[2]} and {k.shape[2]}; give the piece of"
            " the sequence that both belong to, and what came before as a state"
        )


def check_lengths(lengths: Tensor, k: Tensor) -> None:
    """Raise UserError unless ``lengths`` is ``(batch,)``, int64, each in 0 ... m (values not while torch traces)."""
    if not isinstance(lengths, Tensor) or lengths.dtype is not torch.int64 or lengths.shape != k.shape[:1]:
        got = f"{lengths.dtype} {tuple(lengths.shape)}" if isinstance(lengths, Tensor) else repr(lengths)
        raise UserError(f"expected lengths as an int64 tensor ({k.shape[0]},), got {got}")
    if lengths.device != k.device:
        raise UserError(f"expected lengths on {k.device}, got {lengths.device}; move them")
    if torch.compiler.is_compiling() or not len(lengths):
        return
    least, most = int(lengths.min()), int(lengths.max())
    if least < 0 or most > k.shape[2]:
        raise UserError(f"expected lengths between 0 and {k.shape[2]}, got {least if least < 0 else most}")


def check_dropout(p: float) -> None:
    """Raise UserError unless p is in [0, 1)."""
    if not 0.0 <= p < 1.0:
        raise UserError(f"expected a dropout probability in [0, 1), got {p}")


def refuse_causal(operator: str, causal: bool) -> None:
    """Raise UserError where an operator that has no causal form is to be causal."""
    if causal:
        raise UserError(
            f"{operator} cannot be causal: an approximation of low rank has weights above the diagonal, so that a "
            "token would see later ones; use linear attention or softmax"
        )


def check_mask(mask: Tensor | None, q: Tensor, k: Tensor) -> None:
    """Raise UserError unless the mask is bool or float, on q's device, and broadcasts to ``(batch, heads, n, m)``."""
    if mask is None:
        return
    if not isinstance(mask, Tensor) or not (mask.dtype is torch.bool or mask.is_floating_point()):
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise UserError(f"expected a bool or float mask, got {got}; convert it with mask.bool()")
    if mask.device != q.device:
        raise UserError(f"expected the mask on {q.device}, got {mask.device}; move it")
    full = (*q.shape[:3], k.shape[2])
    sizes = zip(reversed(mask.shape), reversed(full), strict=False)
    if mask.ndim > 4 or any(have not in (1, want) for have, want in sizes):
        raise UserError(
            f"expected a mask that broadcasts to (batch, heads, n, m) = {full}, got {tuple(mask.shape)}"
        )


def check_whole(name: str, value: int, least: int) -> None:
    """Raise UserError unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"expected {name} as a whole number of at least {least}, got {value!r}")


def check_finite(name: str, value: float) -> float:
    """``value``; UserError where it is no finite number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"expected a finite {name}, got {value!r}")
    return value


def thin_svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The thin singular value decomposition of what was made of q and k; UserError where they are not finite."""
    try:
        u, s, vt = torch.linalg.svd(x, full_matrices=False)
    except RuntimeError as error:
        if bool(torch.isfinite(x).all()):
            raise
        raise UserError(
            "expected finite numbers in q and k, of which singular vectors are formed, got NaN or infinity, or products"
            " that leave the dtype; look for what makes them"
        ) from error
    return u, s, vt


def scale_of(scale: float | None, q: Tensor) -> float:
    """The factor of the scores: ``1 / sqrt(d)`` where None is given.

    >>> scale_of(None, torch.ones(1, 1, 1, 16)), scale_of(2.0, torch.ones(1, 1, 1, 16))
    (0.25, 2.0)
    """
    return 1 / math.sqrt(q.shape[-1]) if scale is None else check_finite("scale", scale)


def inside(lengths: Tensor, size: int) -> Tensor:
    """``(batch, size)``: True at the positions before each sequence's length.

    >>> inside(torch.tensor([1, 3]), 3).int().tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def check_keys(
    mask: Tensor | None, lengths: Tensor | None, q: Tensor, k: Tensor, operator: str
) -> Tensor | None:
    """The keys that take part, bool ``(batch or 1, heads or 1, 1, m)``, or None for all of them.

    Raises:
        UserError: a mask that is not bool, or differs from query to query: what has no weights of single pairs can
            leave out a key, not a pair.
    """
    check_mask(mask, q, k)
    if lengths is not None:
        check_lengths(lengths, k)
    if mask is not None and (mask.dtype is not torch.bool or mask.ndim != 4 or mask.shape[2] != 1):
        raise UserError(
            f"expected a bool mask over keys only for {operator}, (batch, heads or 1, 1, {k.shape[2]}), got"
            f" {mask.dtype} {tuple(mask.shape)}: it forms no weights of single pairs; use softmax attention"
        )
    seen = None if mask is None else mask.expand(-1, -1, -1, k.shape[2])
    if lengths is None:
        return seen
    before = inside(lengths, k.shape[2])[:, None, None]
    return before if seen is None else seen & before


def rows_within(lengths: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """The queries before each sequence's length, ``(batch, 1, n, 1)``; None where all count, as they do if n != m."""
    if lengths is None or q.shape[2] != k.shape[2]:
        return None
    return inside(lengths, q.shape[2])[:, None, :, None]


def spread(x: Tensor, heads: int) -> Tensor:
    """Each head of ``x`` once for every query head it serves: ``(batch, kv_heads, ...)`` to ``(batch, heads, ...)``.

    >>> spread(torch.tensor([[1.0, 2.0]]), 4)
    tensor([[1., 1., 2., 2.]])
    """
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def wide(x: Tensor) -> Tensor:
    """``x`` in the dtype that sums are formed in: float32 for float16 and bfloat16."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def softmax_where(scores: Tensor, seen: Tensor) -> Tensor:
    """Softmax over the last dimension where ``seen``; 0 with gradient 0 elsewhere, and in rows that see nothing."""
    some = seen.any(-1, keepdim=True)
    return scores.masked_fill(~seen, -torch.inf).masked_fill(~some, 0.0).softmax(-1).masked_fill(~some, 0.0)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch gives it no types
def _has_autocast(device_type: str) -> bool:
    """Never another answer for the same device; the compiler of torch 2.11 cannot look inside under Python 3.13."""
    return torch.amp.is_autocast_available(device_type)


def without_autocast(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Inside, products keep the dtypes that they are given; a device without autocast (meta) needs nothing for it.

    >>> with without_autocast(torch.ones(1, device="meta")):
    ...     pass
    """
    if _has_autocast(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return contextlib.nullcontext()
