"""Upper bounds of σ_max(∂s_t/∂s_1): for any input, and at the gates that were measured.

A bound is a comparison: nonnegative numbers N_t such that the norms of the parts of J_t v are at most N_t times those
of v. For one part (h of an RNN or GRU) N_t is a number, for two (h and c of an LSTM) a 2×2 matrix, and

    σ_max(J_t ⋯ J_2) ≤ σ_max(N_t ⋯ N_2),

for entrywise N_t ⋯ N_2 (‖v_h‖, ‖v_c‖) bounds the norms of the parts, and nonnegative matrices keep ≤. Throughout
‖·‖ = σ_max, ‖D[a]‖ = max |a_i|; the letters are those of `layerlab.gradflow.recurrent.steps`.

**tanh, relu.** J = D[φ'(a)] W, so N = max φ'(a_i) ‖W‖ ≤ ‖W‖: the classical ‖W‖^(t−1) for any input.

**gru.** J = D[z] + Σ_k D[s_k] W_k over the gates k = r, z, n, so with measured slopes

    N = max z_i + min(Σ_k max |s_k| ‖W_k‖, max_i √(Σ_k s_(k,i)²) ‖W‖).

The second is ‖[D[s_r] D[s_z] D[s_n]]‖ times ‖W‖ of the stacked rows. For any input: every h_t is, unit by unit,
between h_(t−1) and n ∈ (−1, 1), so |h_t| ≤ C := max(1, max |h_0|), |h − n| ≤ 1 + C and z(1−z) ≤ 1/4. Apart from the
term of W_z, J v = z ∘ v + (1 − z) ∘ u with u = D[r(1−n²)] W_n v + D[(1−n²) m r(1−r)] W_r v, and in each unit
(z v + (1−z) u)² ≤ z v² + (1−z) u² ≤ v² + u². So

    N = √(1 + K²) + (1 + C)/4 ‖W_z‖,   K = ‖W_n‖ + M/4 ‖W_r‖,   M = max_i (C Σ_j |W_(n,ij)| + |b_(n,i)|) ≥ max |m_i|.

It exceeds 1 always: no weight makes a GRU forget on every input.

**lstm.** dc' = D[f] dc + E dh with E = Σ_k D[s_k] W_k over i, f, g; dq = D[s_o] W_o dh + D[κ] dc'; dh' = W_p dq:

    N = [ p (α + κ e)   p κ φ ]    e = min(Σ_k max |s_k| ‖W_k‖, max_i √(Σ_k s_(k,i)²) ‖[W_i; W_f; W_g]‖),
        [ e             φ     ]    α = max |s_o| ‖W_o‖,  κ = max κ_i,  φ = max f_i,  p = ‖W_p‖ (1 without).

For any input: φ ≤ 1, κ ≤ 1, α ≤ ‖W_o‖/4 and, as |c_t| ≤ |c_(t−1)| + 1 gives |c_(t−1)| ≤ C_0 + t − 1 with
C_0 = max |c_0|, e ≤ ‖W_i‖/4 + (C_0 + t − 1)/4 ‖W_f‖ + ‖W_g‖. It grows with t because a cell may: no constant will do.

The bounds hold in exact arithmetic; in floating point to rounding.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.gradflow.recurrent.steps import StepJacobians, Weights

Values = NDArray[np.float64]


def theorem(weights: Weights, steps: int, largest_start: float) -> Values:
    """log of the bound that holds for any input, at lags 0, …, ``steps``.

    Args:
        weights: of the layer.
        steps: Jacobians in the longest product: T − 1.
        largest_start: of |h_0| for a GRU, of |c_0| for an LSTM; not used for tanh and relu.

    Returns:
        (steps + 1) float64.

    >>> weights = Weights("tanh", torch.zeros(2, 1), torch.eye(2).double() / 2, torch.zeros(2), torch.zeros(2))
    >>> np.exp(theorem(weights, 3, 0.0)).round(12).tolist()
    [1.0, 0.5, 0.25, 0.125]
    """
    norms = [_norm(gate) for gate in weights.gates()]
    if weights.kind == "gru":
        return _products([[[_any_gru(weights, norms, max(1.0, largest_start))]]] * steps)
    if weights.kind == "lstm":
        of_i, of_f, of_g, of_o = norms
        p = 1.0 if weights.projection is None else _norm(weights.projection)
        # The Jacobian at lag 1 is that of step t = 2.
        into = [of_i / 4 + (largest_start + t - 1) / 4 * of_f + of_g for t in range(2, steps + 2)]
        return _products([[[p * (of_o / 4 + e), p], [e, 1.0]] for e in into])
    return _products([[[norms[0]]]] * steps)


def at_gates(jacobians: StepJacobians, samples: int) -> Values:
    """log of the bound from the gates and slopes at hand, for each sample.

    Args:
        jacobians: of the steps 2, …, T, the samples of a step side by side.
        samples: B.

    Returns:
        (B, T) float64: lags 0, …, T − 1.

    >>> weights = Weights("relu", torch.zeros(1, 1), 2 * torch.eye(1), torch.zeros(1), torch.zeros(1))
    >>> slopes = torch.tensor([[1.0], [1.0], [0.0]])
    >>> np.exp(at_gates(StepJacobians(weights, slopes), 1)).tolist()
    [[1.0, 2.0, 4.0, 0.0]]
    """
    weights = jacobians.weights
    if weights.kind == "lstm":
        into = _gated(jacobians, (0, 1, 2))
        assert jacobians.carry is not None and jacobians.read is not None
        forget, read = _peak(jacobians.carry), _peak(jacobians.read)
        out = _peak(jacobians.gate(3)) * _norm(weights.gates()[3])
        p = 1.0 if weights.projection is None else _norm(weights.projection)
        upper = torch.stack([p * (out + read * into), p * read * forget], dim=1)
        comparison = torch.stack([upper, torch.stack([into, forget], dim=1)], dim=1)
    else:
        total = _gated(jacobians, tuple(range(len(weights.gates()))))
        if jacobians.carry is not None:
            total = total + _peak(jacobians.carry)
        comparison = total[:, None, None]
    by_sample = comparison.reshape(-1, samples, *comparison.shape[1:]).transpose(0, 1)
    return np.stack([_products(one.tolist()) for one in by_sample])


def of_steps(log_norms: Values) -> Values:
    """log of the product of the steps' own norms, which bounds that of their product.

    Args:
        log_norms: (B, T − 1), log σ_max of the Jacobian of each step.

    Returns:
        (B, T): lags 0, …, T − 1.

    >>> of_steps(np.array([[-1.0, -2.0]]))
    array([[ 0., -1., -3.]])
    """
    start = np.zeros((log_norms.shape[0], 1))
    return np.concatenate([start, np.cumsum(log_norms, axis=1)], axis=1)


def _any_gru(weights: Weights, norms: list[float], largest: float) -> float:
    of_r, of_z, of_n = norms
    rows = weights.gates()[2].abs().sum(dim=1)
    m = float((largest * rows + weights.recurrent_bias[2 * weights.hidden :].abs()).max())
    k = of_n + m / 4 * of_r
    return math.hypot(1.0, k) + (1 + largest) / 4 * of_z


def _gated(jacobians: StepJacobians, gates: tuple[int, ...]) -> Tensor:
    """A bound of ‖Σ_k D[s_k] W_k‖, (N)."""
    blocks = [jacobians.weights.gates()[gate] for gate in gates]
    slopes = torch.stack([jacobians.gate(gate) for gate in gates])
    norms = torch.tensor([_norm(block) for block in blocks], dtype=slopes.dtype)
    apart = slopes.abs().amax(dim=2).t() @ norms
    together = slopes.square().sum(dim=0).sqrt().amax(dim=1) * _norm(torch.cat(blocks))
    return torch.minimum(apart, together)


def _peak(values: Tensor) -> Tensor:
    return values.abs().amax(dim=1)


def _norm(matrix: Tensor) -> float:
    """σ_max by the smaller Gram matrix: to rounding for the largest value, and many times faster than all of them."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()
    return math.sqrt(max(float(torch.linalg.eigvalsh(wide @ wide.t())[-1]), 0.0))


def _products(factors: list[list[list[float]]]) -> Values:
    """log σ_max of N_1, N_2 N_1, … with 0 before, rescaled at every step."""
    size = len(factors[0]) if factors else 1
    product, log = np.eye(size), 0.0
    found = [0.0]
    for factor in factors:
        product = np.asarray(factor) @ product
        scale = float(product.max())
        if scale == 0:
            return np.array(found + [-np.inf] * (len(factors) + 1 - len(found)))
        product /= scale
        log += math.log(scale)
        found.append(log + math.log(np.linalg.norm(product, 2)))
    return np.array(found)
