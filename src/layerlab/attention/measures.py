"""What the weights of one head look like: how spread, how local, of what rank, and what a lower rank would cost.

P is ``(..., n, m)`` throughout: row i holds the weights of query i, which sum to 1 or, where it sees no key, to 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Share of the squared singular values that counts as the whole.
ENERGY = 0.99


def entropy(p: Tensor) -> Tensor:
    """``-sum_j p_ij log p_ij`` of each row in nats, ``(..., n)``: 0 for one key, log m for all alike.

    >>> entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    return torch.special.entr(p).sum(-1)


def effective_rank(sigma: Tensor) -> Tensor:
    """exp of the entropy of ``sigma_k / sum sigma``: how many singular values there would be if all were alike.

    Reference: Roy and Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007.

    Args:
        sigma: singular values ``(..., k)``.

    Returns:
        ``(...)``; 0 for a matrix of zeros.

    >>> effective_rank(torch.tensor([[2.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])).round(decimals=4)
    tensor([2., 1., 0.])
    """
    total = sigma.sum(-1, keepdim=True)
    shares = sigma / total.where(total > 0, 1.0)
    return entropy(shares).exp() * (total[..., 0] > 0)


def numerical_rank(sigma: Tensor, energy: float = ENERGY) -> Tensor:
    """The smallest k with ``sum_{i<=k} sigma_i^2 >= energy sum_i sigma_i^2``.

    Args:
        sigma: singular values ``(..., k)``, descending.
        energy: share of the squares, in (0, 1].

    Returns:
        ``(...)``, int64; 0 for a matrix of zeros.

    >>> numerical_rank(torch.tensor([20.0, 1.0, 0.5])), numerical_rank(torch.tensor([1.0, 1.0, 1.0]))
    (tensor(1), tensor(3))
    """
    squares = sigma.double().square().cumsum(-1)
    total = squares[..., -1:]
    short = squares < energy * total
    return (short.sum(-1) + 1) * (total[..., 0] > 0)


def eckart_young(sigma: Tensor, ranks: Sequence[int]) -> Tensor:
    """``||P - P_k||_F / ||P||_F`` for each rank k, P_k being the best of that rank: no factorisation does better.

    Reference: Eckart and Young, The approximation of one matrix by another of lower rank, Psychometrika 1936.

    Args:
        sigma: all singular values ``(..., r)``, descending.
        ranks: at least 1 each.

    Returns:
        ``(..., len(ranks))``; 0 for a matrix of zeros.

    >>> eckart_young(torch.tensor([4.0, 3.0]), [1, 2, 9])
    tensor([0.6000, 0.0000, 0.0000])
    """
    return _rest(sigma.double().square(), ranks).to(sigma.dtype)


def output_floor(p: Tensor, v: Tensor, ranks: Sequence[int], u: Tensor | None = None) -> Tensor:
    """``||P V - P_k V||_F / ||P V||_F`` for each rank k, P_k being the best approximation of P of that rank.

    With ``P = U S W^T`` the square of the numerator is ``sum_{i>k} ||u_i^T P V||^2``.

    Args:
        p: ``(..., n, m)``.
        v: ``(..., m, e)``.
        ranks: at least 1 each.
        u: the left singular vectors ``(..., n, r)`` of P where they are known, at least the first ``max(ranks)``.

    Returns:
        ``(..., len(ranks))``; 0 where PV is 0.

    >>> output_floor(torch.diag(torch.tensor([4.0, 3.0])), torch.tensor([[0.0], [1.0]]), [1, 2])
    tensor([1., 0.])
    """
    if u is None:
        u = torch.linalg.svd(p, full_matrices=False).U
    output = p @ v
    parts = (u.mT @ output).double().square().sum(-1)
    if u.shape[-1] < min(p.shape[-2:]):
        # What lies in the directions that are not known, as one more of them.
        rest = output.double().square().sum((-2, -1)) - parts.sum(-1)
        parts = torch.cat([parts, rest.clamp(min=0)[..., None]], -1)
    return _rest(parts, ranks).to(p.dtype)


def distance(p: Tensor, first: int = 0) -> Tensor:
    """``sum_ij p_ij |i - j| / sum_ij p_ij``: how far away a token looks on average, in tokens, ``(...)``.

    Args:
        p: ``(..., n, m)``, or a block of its rows.
        first: number of the block's first row.

    >>> distance(torch.eye(3)), distance(torch.full((2, 2), 0.5))
    (tensor(0.), tensor(0.5000))
    """
    return (p * _apart(p, first)).sum((-2, -1)) / p.sum((-2, -1)).clamp(min=torch.finfo(p.dtype).tiny)


def within(p: Tensor, window: int, first: int = 0) -> Tensor:
    """The share of the weight on keys with ``|i - j| <= window``, ``(...)``.

    Args:
        p: ``(..., n, m)``, or a block of its rows.
        window: in tokens, to either side.
        first: number of the block's first row.

    >>> within(torch.full((4, 4), 0.25), 1)
    tensor(0.6250)
    """
    return (p * (_apart(p, first) <= window)).sum((-2, -1)) / p.sum((-2, -1)).clamp(
        min=torch.finfo(p.dtype).tiny
    )


def sink(p: Tensor) -> Tensor:
    """The share of the weight on the first key, ``(...)``: far above 1/m where a head parks it there.

    Reference: Xiao et al., Efficient streaming language models with attention sinks, ICLR 2024.

    >>> sink(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor(0.7500)
    """
    return p[..., 0].sum(-1) / p.sum((-2, -1)).clamp(min=torch.finfo(p.dtype).tiny)


def _apart(p: Tensor, first: int) -> Tensor:
    n, m = p.shape[-2:]
    return (
        (torch.arange(first, first + n, device=p.device)[:, None] - torch.arange(m, device=p.device))
        .abs()
        .to(p.dtype)
    )


def _rest(squares: Tensor, ranks: Sequence[int]) -> Tensor:
    """Root of the share of ``squares`` (float64) that is left behind each rank."""
    # Summed from the end: what is left is small, and a difference of large sums would lose it.
    left = squares.flip(-1).cumsum(-1).flip(-1)
    total = left[..., :1]
    left = torch.cat([left, torch.zeros_like(total)], -1)
    at = torch.tensor([min(k, squares.shape[-1]) for k in ranks], device=squares.device)
    return (left[..., at] / total.where(total > 0, 1.0)).sqrt()
