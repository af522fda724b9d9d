"""What every attention refuses: shapes, dtypes and devices that do not go together."""

from __future__ import annotations

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
