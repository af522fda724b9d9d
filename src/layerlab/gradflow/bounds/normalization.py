"""How much normalisation layers and softmax amplify."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from layerlab.gradflow.bounds.arguments import Arguments, Factor, Law, Rule, largest, numbers


def normalization_gain(groups: Tensor, eps: float, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Norm of the Jacobian of y = γ (x − m)/σ + β in each group, σ² = var + ε, from above, and (x − m)/σ.

    With x̂ = (x − m)/σ it is diag(γ) (I − 11ᵀ/n − x̂x̂ᵀ/n)/σ. The matrix in the middle is symmetric with eigenvalues 0 (on
    1), ε/σ² (on x̂) and 1 (on the n − 2 directions left), so the norm is at most max|γ|/σ, and max|γ| ε/σ³ for n = 2.
    ε > 0 makes it Lipschitz for all inputs, but with max|γ|/√ε, which says nothing: the bound at these inputs is given.

    Args:
        groups: (G, n), float64.
        eps: ε.
        weight: γ, broadcast to (G, n); None for ones.

    >>> normalization_gain(torch.tensor([[0.0, 2.0, 4.0]]).double(), 0.0, None)[0]
    tensor([0.6124], dtype=torch.float64)
    """
    n = groups.shape[1]
    variance = groups.var(1, correction=0)
    sigma = (variance + eps).sqrt()
    inner = (
        torch.ones_like(sigma) if n > 2 else (eps / (variance + eps) if n == 2 else torch.zeros_like(sigma))
    )
    scale = 1.0 if weight is None else weight.abs().expand(groups.shape).amax(1)
    return scale * inner / sigma, (groups - groups.mean(1, keepdim=True)) / sigma[:, None]


def _weights(
    a: Arguments, standardized: Tensor, shape: torch.Size, like: tuple[int, ...]
) -> dict[str, Factor]:
    """Factors of γ and β where they depend on the input, of shape ``shape`` that broadcasts to ``like``."""
    factors: dict[str, Factor] = {}
    if a.depends("weight"):
        squares = standardized.square().reshape(like).sum_to_size(shape)
        factors["weight"] = largest(squares) ** 0.5
    if a.depends("bias"):
        factors["bias"] = math.sqrt(standardized.numel() / max(1, math.prod(shape)))
    return factors


def _layer_norm(a: Arguments) -> Law:
    x, shape = numbers(a["input"]), torch.Size(a["normalized_shape"])
    weight = None if a.get("weight") is None else numbers(a["weight"]).reshape(1, -1)
    gains, standardized = normalization_gain(x.reshape(-1, shape.numel()), float(a["eps"]), weight)
    factors: dict[str, Factor] = {"input": largest(gains)}
    factors |= _weights(a, standardized, shape, tuple(x.shape))
    return Law(factors, "layer norm: max |γ| / min σ at these inputs", "these inputs")


def _group_norm(a: Arguments) -> Law:
    x = numbers(a["input"])
    batch, channels, places, groups = (int(a[name]) for name in ("N", "C", "HxW", "group"))
    weight = None
    if a.get("weight") is not None:
        each = numbers(a["weight"]).reshape(1, groups, channels // groups, 1)
        weight = each.expand(batch, -1, -1, places).reshape(batch * groups, -1)
    gains, standardized = normalization_gain(x.reshape(batch * groups, -1), float(a["eps"]), weight)
    factors: dict[str, Factor] = {"input": largest(gains)}
    factors |= _weights(a, standardized, torch.Size((channels, 1)), (batch, channels, places))
    return Law(factors, "group norm: max |γ| / min σ at these inputs", "these inputs")


def _batch_norm(a: Arguments) -> Law | None:
    if any(a.depends(name) for name in ("weight", "bias", "running_mean", "running_var")):
        return None
    weight, eps = a.get("weight"), float(a.get("eps", a.get("epsilon", 0.0)))
    train = a.get("training", a.get("train", "_with_update" in a.seen.name))
    if "no_training" in a.seen.name or "no_update" in a.seen.name or not train:
        variance = a["running_var"]

        def fixed() -> float:
            scale = 1.0 if weight is None else numbers(weight)
            return largest(scale / (numbers(variance) + eps).sqrt())

        return Law({"input": fixed, "self": fixed}, "batch norm (eval): max |γ|/√(var + ε)")
    x = numbers(a["input"])
    groups = x.transpose(0, 1).reshape(x.shape[1], -1)
    gains, _ = normalization_gain(groups, eps, None if weight is None else numbers(weight)[:, None])
    return Law({"input": largest(gains)}, "batch norm (train): max |γ|/σ at these inputs", "these inputs")


def _softmax(a: Arguments) -> Law:
    # diag(p) − ppᵀ: row i has absolute sum 2 p_i (1 − p_i) ≤ 1/2, reached at p = (1/2, 1/2).
    return Law({"self": 0.5}, "softmax: at most 1/2")


def _log_softmax(a: Arguments) -> Law:
    # I − 1pᵀ, a projection along 1: its norm is that of 1pᵀ, √n ‖p‖ ≤ √n, approached at a corner.
    n = a["self"].shape[int(a["dim"])] if a["self"].ndim else 1
    return Law({"self": math.sqrt(n) if n > 1 else 0.0}, "log-softmax: at most √n over n classes")


def _nll(a: Arguments) -> Law | None:
    if a.depends("weight"):
        return None
    target, ignored = a["target"], int(a["ignore_index"])
    counted = target[target != ignored]
    weight = a.get("weight")
    weights = torch.ones(len(counted)).double() if weight is None else numbers(weight)[counted]
    norm = {0: largest(weights), 1: float(weights.norm() / weights.sum()), 2: float(weights.norm())}
    return Law({"self": norm[int(a["reduction"])]}, "negative log-likelihood of log-probabilities")


def _mse(a: Arguments) -> Law:
    difference = numbers(a["self"]) - numbers(a["target"])
    reduction = int(a["reduction"])
    slope = 2 * (largest(difference) if reduction == 0 else float(difference.norm()))
    slope /= difference.numel() if reduction == 1 else 1
    return Law({"self": slope, "target": slope}, "squared error at these inputs", "these inputs")


_BATCH_NORMS = (
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit_functional",
    "_batch_norm_with_update",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
)

RULES: dict[str, Rule] = {
    "aten::native_layer_norm": _layer_norm,
    "aten::native_group_norm": _group_norm,
    **{f"aten::{name}": _batch_norm for name in _BATCH_NORMS},
    "aten::_softmax": _softmax,
    "aten::_safe_softmax": _softmax,
    "aten::_log_softmax": _log_softmax,
    "aten::nll_loss_forward": _nll,
    "aten::mse_loss": _mse,
}
