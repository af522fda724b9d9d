"""The fast Walsh-Hadamard transform: H x in d log₂ d additions, H never formed.

H is the symmetric matrix of signs (-1)^(number of ones that i and j share in binary), d a power of two; H H = d I.
Being symmetric it is its own adjoint, so the gradient is the transform of the gradient, as often as one likes.

float32 and float64 on a CPU go to a kernel that keeps a row in the cache. Elsewhere H is a product of Kronecker factors
of at most 64 rows, each a matrix product: d · 64 · ⌈log₂ d/6⌉ multiplications, which accelerators are built for.

Reference: B. Fino and V. Algazi, "Unified matrix treatment of the fast Walsh-Hadamard transform", IEEE Trans. Computers
25 (1976), 1142-1146.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.lab import kernels
from layerlab.lab.kernels import threads
from layerlab.lab.kernels.registration import operator

# Rows of a Kronecker factor are 2 to this power.
_FACTOR = 6


def hadamard(x: Tensor) -> Tensor:
    """The transform of the last dimension, x H, not normalised.

    Args:
        x: ``(..., d)``, floating point; d a power of two.

    Returns:
        The same shape and dtype.

    Raises:
        UserError: d is no power of two, or x is no floating-point tensor.

    >>> hadamard(torch.tensor([1.0, 0.0, 0.0, 2.0])).tolist()
    [3.0, -1.0, -1.0, 3.0]
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim == 0:
        raise UserError("expected a floating-point tensor (..., d) to transform; convert it with .float()")
    size = x.shape[-1]
    if size < 1 or size & (size - 1):
        raise UserError(f"expected vectors of length 1, 2, 4, 8 ..., got {size}; fill them up with zeros")
    if x.numel() == 0 or size == 1:
        return x.clone()
    return _operator(x) if kernels.serve(x) else _by_factors(x)


def subsampled(x: Tensor, signs: Tensor, rows: Tensor) -> Tensor:
    """The fast random map, (H D x)[rows]/√n: signs, transform, n of its rows; costs d log₂ d a vector, not n d.

    Args:
        x: ``(..., d)``, float16, bfloat16, float32 or float64.
        signs: ``(d,)``, the diagonal of D, +1 or -1.
        rows: ``(n,)`` int64, distinct, below the least power of two from d on, to which x is filled up with zeros.

    Returns:
        ``(..., n)``, the dtype of x.

    >>> subsampled(torch.ones(3), torch.tensor([1, -1, 1]), torch.tensor([0, 3])).tolist()
    [0.7071067690849304, 0.7071067690849304]
    """
    padded = padded_size(x.shape[-1])
    signed = torch.nn.functional.pad(x * signs.to(x.dtype), (0, padded - x.shape[-1]))
    scale: float = len(rows) ** -0.5
    return hadamard(signed).index_select(-1, rows) * scale


def padded_size(size: int) -> int:
    """The least power of two that is not below.

    >>> [padded_size(size) for size in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (size - 1).bit_length()


def _by_factors(x: Tensor) -> Tensor:
    size = x.shape[-1]
    bits = size.bit_length() - 1
    pieces = -(-bits // _FACTOR)
    rows = x.reshape(-1, size)
    for piece in range(pieces):
        width = 1 << ((bits + piece) // pieces)
        # The first digit of the index is transformed and becomes the last; after all pieces each is in its place.
        turned = rows.view(len(rows), width, size // width).transpose(1, 2)
        rows = (turned @ _small(width, x)).reshape(len(rows), size)
    return rows.view(x.shape)


def _small(size: int, like: Tensor) -> Tensor:
    matrix = like.new_ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def _cpu(x: Tensor) -> Tensor:
    # numba takes half a second to import, and the kernel is compiled (once a machine) at its first call.
    from layerlab.projection.kernels import hadamard_cpu

    size = x.shape[-1]
    given = x.detach().contiguous().view(-1, size)
    out = torch.empty_like(given)
    # A nanosecond for eight numbers a pass, measured.
    work = given.numel() * size.bit_length() // 8
    threads.run(hadamard_cpu.transform, (given.numpy(), out.numpy()), threads.even_parts(len(given), work))
    return out.view(x.shape)


class _Hadamard(torch.autograd.Function):
    call: Any

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _Hadamard.call(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return hadamard(gradient)


def _fake(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


_operator = operator("hadamard(Tensor x) -> Tensor", _cpu, _fake, _Hadamard)
