"""Antithetic pairs of bits, exactly: the second moments of ARM and DisARM from one table of values.

A pair shares its uniforms: ``b = 1(u > 1 - mu)`` and ``b~ = 1(u < mu)``, bit by bit. A second moment of ARM or DisARM
is a bilinear form ``f^T (M_1 x ... x M_n) f`` of Kronecker products of 2 x 2 matrices, one for each bit's joint
distribution, in which the matrix of bit i is exchanged. All n of them are found in O(2^n n log n) steps, not the 4^n
of going over all pairs.

References: Yin and Zhou, ARM, ICLR 2019; Dong, Mnih and Tucker, DisARM, NeurIPS 2020.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from layerlab.estimators.enumeration import Moments

Pairing = Literal["arm", "disarm"]

_GROUP = 4  # bits whose matrices are multiplied out: 16 x 16


def joint_of_pair(chances: Tensor) -> Tensor:
    """Joint distribution of the two bits of a pair.

    Args:
        chances: ``(bits, 2)``: probabilities of 0 and 1.

    Returns:
        ``(bits, 2, 2)``, symmetric.

    >>> joint_of_pair(torch.tensor([[0.75, 0.25]])).tolist()
    [[[0.5, 0.25], [0.25, 0.0]]]
    """
    least = chances.amin(-1)
    return _symmetric(least, (chances - least[:, None]).clamp_min(0))


def second_moments(values: Tensor, moments: Moments, kind: Pairing) -> Tensor:
    """E[g_i^2] of one pair's estimate, two evaluations, for every bit.

    ARM: ``g = (f(b) - f(b~)) (u - 1/2)``. DisARM: the same with u averaged out given the pair,
    ``g_i = (f(b) - f(b~)) (-1)^b~_i 1(b_i != b~_i) max(mu_i, 1 - mu_i) / 2``.

    Args:
        values: ``(2 ** bits,)``, see `layerlab.estimators.enumeration.tabulate`.
        moments: of these values.
        kind: "arm" or "disarm".

    Returns:
        ``(bits,)`` float64.
    """
    chances = moments.chances
    weights = _weights(chances, kind)
    # E[(f - f~)^2 w_i] = E[f^2 w_i] + E[f~^2 w_i] - 2 E[f f~ w_i], and the pair is exchangeable.
    own = (moments.parts[2] / chances * weights.sum(-1)).sum(-1)
    return 2 * (own - _crossed(values - moments.mean, joint_of_pair(chances), weights))


def _weights(chances: Tensor, kind: Pairing) -> Tensor:
    """The integral of the squared factor of ``f(b) - f(b~)`` over the uniforms of each cell, ``(bits, 2, 2)``."""
    least, most = chances.amin(-1), chances.amax(-1)
    if kind == "disarm":
        return _symmetric(least * most**2 / 4, torch.zeros_like(chances))
    equal = 2 * ((most - least) / 2) ** 3 / 3
    agreeing = torch.where(chances > least[:, None], equal[:, None], torch.zeros_like(chances))
    return _symmetric((1 / 12 - equal) / 2, agreeing)


def _symmetric(off: Tensor, diagonal: Tensor) -> Tensor:
    return torch.diag_embed(diagonal) + off[:, None, None] * (1 - torch.eye(2, dtype=off.dtype))


def _crossed(values: Tensor, matrices: Tensor, exchanged: Tensor) -> Tensor:
    """``values^T (M_1 x ... W_i ... x M_n) values`` for every i, where W_i stands in the place of M_i."""
    bits = len(matrices)
    bounds = [*range(0, bits, _GROUP), bits]
    groups = [slice(a, b) for a, b in pairwise(bounds)]
    found = torch.empty(bits, dtype=torch.float64)

    def apart(applied: Tensor, first: int, last: int) -> None:
        """``applied``: the values with the matrices of all groups but ``first`` to ``last`` applied."""
        if last - first == 1:
            group = groups[first]
            size = 2 ** (group.stop - group.start)
            shape = (2**group.start, size, -1)
            left, right = (
                part.reshape(shape).transpose(0, 1).reshape(size, -1) for part in (values, applied)
            )
            paired = left @ right.T
            for bit in range(group.start, group.stop):
                chosen = matrices[group].clone()
                chosen[bit - group.start] = exchanged[bit]
                found[bit] = (paired * _kronecker(chosen)).sum()
            return
        middle = (first + last) // 2
        for others, inner in (((middle, last), (first, middle)), ((first, middle), (middle, last))):
            rest = applied
            for position in range(*others):
                rest = _applied(rest, matrices[groups[position]], groups[position].start)
            apart(rest, *inner)

    apart(values, 0, len(groups))
    return found


def _applied(tensor: Tensor, matrices: Tensor, start: int) -> Tensor:
    """The Kronecker product of ``matrices`` applied to the bits from ``start`` on."""
    matrix = _kronecker(matrices)
    apart = tensor.reshape(2**start, len(matrix), -1)
    if apart.shape[-1] == 1:  # Thousands of products with one column are slow.
        return (apart[..., 0] @ matrix.T).reshape(-1)
    return torch.matmul(matrix, apart).reshape(-1)


def _kronecker(matrices: Tensor) -> Tensor:
    product = matrices[0]
    for matrix in matrices[1:]:
        product = torch.kron(product, matrix)
    return product
