"""Random numbers from a `torch.Generator` and nothing else: the global state is neither read nor moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from layerlab.errors import UserError


def drawn(
    draw: Callable[..., Tensor], shape: Sequence[int], generator: torch.Generator, like: Tensor
) -> Tensor:
    """Random numbers of ``shape`` from ``generator``, in the dtype and on the device of ``like``.

    Args:
        draw: `torch.rand`, `torch.randn` or another with their keywords.

    >>> drawn(torch.rand, (2,), torch.Generator().manual_seed(0), torch.zeros(1)).dtype
    torch.float32
    """
    if not isinstance(generator, torch.Generator):
        raise UserError(
            f"expected a torch.Generator, got {type(generator).__name__}; "
            "pass torch.Generator().manual_seed(0)"
        )
    numbers = draw(tuple(shape), generator=generator, dtype=like.dtype, device=generator.device)
    return numbers.to(like.device)


def uniform(n: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Uniform numbers ``(n, *like.shape)`` on [0, 1), float64 whatever ``like`` is.

    Those of float32 are multiples of 2^-24: a probability below that would be drawn far too often.
    """
    return drawn(torch.rand, (n, *like.shape), generator, like.to(torch.float64))


def exponential(
    shape: Sequence[int], *, generator: torch.Generator, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Standard exponential numbers, for `drawn`; a third of the time that torch's own take.

    From uniform numbers of float64: those of float32 would end at 16.6, and come near 0 too rarely.
    """
    uniforms = torch.rand(shape, generator=generator, dtype=torch.float64, device=device)
    # They are multiples of 2^-53, so that 1 - u is exact, and log quicker than log1p.
    return uniforms.neg_().add_(1).log_().neg_().to(dtype)
