"""Dense twins of the sparse operators: slow, obvious, and written from the formulas alone.

They share no code with `layerlab.graph.ops`, so that agreement between the two means something. Everything is
differentiable; use them on graphs of up to a few thousand nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def normalized_adjacency(adjacency: Tensor, self_loops: bool = True) -> Tensor:
    """``D^-1/2 (A^T + I) D^-1/2`` with D the row sums; a node that has a loop gets no second one.

    Args:
        adjacency: dense ``(n, n)``, ``A[u, v]`` the weight of the edge u -> v.
        self_loops: whether to add the missing self-loops. Where a degree is 0, ``D^-1/2`` is taken as 0.
    """
    incoming = adjacency.t().clone()
    if self_loops:
        for node in range(len(incoming)):
            if incoming[node, node] == 0:
                incoming[node, node] = 1.0
    degree = incoming.sum(1)
    scale = torch.where(degree > 0, degree.clamp(min=1e-300).rsqrt(), torch.zeros_like(degree))
    return scale[:, None] * incoming * scale[None, :]


def gcn_conv(x: Tensor, operator: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``operator @ (x @ weight.T) + bias``."""
    out = operator @ (x @ weight.t())
    return out if bias is None else out + bias


def sg_conv(x: Tensor, operator: Tensor, weight: Tensor, bias: Tensor | None, steps: int) -> Tensor:
    """``operator^steps @ x @ weight.T + bias``, by the matrix power."""
    out = torch.linalg.matrix_power(operator, steps) @ x @ weight.t()
    return out if bias is None else out + bias


def gat_coefficients(z: Tensor, mask: Tensor, a: Tensor, negative_slope: float = 0.2) -> Tensor:
    """One head's attention: ``softmax over j in N(i) of LeakyReLU(a . [z_i || z_j])``, concatenating every pair.

    Args:
        z: transformed features ``(n, F)``.
        mask: ``(n, n)`` bool, ``mask[i, j]`` whether j is in the neighbourhood of i.
        a: ``(2 F,)``, the receiving node's half first.

    Returns:
        ``(n, n)``, zero outside the mask; a row without neighbours is zero.
    """
    n = z.shape[0]
    pairs = torch.cat([z[:, None, :].expand(n, n, -1), z[None, :, :].expand(n, n, -1)], dim=2)
    scores = torch.nn.functional.leaky_relu(pairs @ a, negative_slope)
    scores = scores.masked_fill(~mask, -torch.inf)
    empty = ~mask.any(1, keepdim=True)
    return torch.softmax(scores.masked_fill(empty, 0.0), dim=1).masked_fill(~mask, 0.0)


def gat_conv(
    x: Tensor,
    mask: Tensor,
    weight: Tensor,
    att_target: Tensor,
    att_source: Tensor,
    bias: Tensor | None = None,
    *,
    concat: bool = True,
    negative_slope: float = 0.2,
) -> Tensor:
    """Multi-head attention layer, head by head on the dense mask.

    Args:
        x: ``(n, in)``.
        mask: ``(n, n)`` bool with the self-loops set.
        weight: ``(heads * out, in)``.
        att_target: ``(heads, out)``, the receiving node's half of the attention vector (``(1, out)`` when shared).
        att_source: likewise, the sending node's half.
        bias: ``(heads * out,)`` when concatenated, ``(out,)`` when averaged, or None.
    """
    out_features = att_target.shape[1]
    heads = []
    for head, block in enumerate(weight.split(out_features)):
        which = head if len(att_target) > 1 else 0
        z = x @ block.t()
        a = torch.cat([att_target[which], att_source[which]])
        heads.append(gat_coefficients(z, mask, a, negative_slope) @ z)
    out = torch.cat(heads, dim=1) if concat else torch.stack(heads).mean(0)
    return out if bias is None else out + bias
