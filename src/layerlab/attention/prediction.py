"""What a model's output would change by if attention were computed differently: to first order, before any swap.

At a site s the softmax output ``a = softmax(q, k, v)`` is exchanged for ``a + delta``, ``delta = M(q, k, v) - a``. To
first order the model's output ``y`` changes by the tangent ``t = J delta``, J being the Jacobian of y with respect to
a: the derivative of the rest of the model in one direction. Tangents of several sites add up, so the error of every
set of swaps follows from the tangents of its members.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.autograd.forward_ad as dual
from torch import Tensor, nn

from layerlab.attention.calls import AttentionCall, mask_rows
from layerlab.attention.mechanisms import Mechanism
from layerlab.attention.reference import apply, softmax_weights
from layerlab.attention.watching import attention_calls, replacing
from layerlab.errors import UserError
from layerlab.lab.models.nested import Path, leaves, spelled
from layerlab.lab.models.untouched import passed

Swap = tuple[str, str]
"""A site and the name of what is put there."""

Way = Literal["forward", "difference"]

# Of several outputs the first of these names, as Hugging Face's models call them.
_OUTPUTS = ("logits", "prediction_logits", "last_hidden_state", "out", "output")

# Of a central difference, as a share of delta; 2^-4 of other dtypes: less would be rounding.
_STEPS = {torch.float64: 2.0**-10}

# Weights that `explicit` holds at once: 64 MiB of float32.
_BLOCK = 1 << 24

# Numbers kept of a tangent; of longer ones a sketch.
_SKETCH = 1 << 16


@dataclass(frozen=True, eq=False)
class PredictedSwap:
    """One mechanism at one site.

    Attributes:
        site: where.
        mechanism: its name.
        error: norm of the tangent over the norm of the output.
        local: norm of delta over the norm of the site's softmax output.
        tangent: J delta, flat; a sketch of it where it is long, whose inner products are right on average.
    """

    site: str
    mechanism: str
    error: float
    local: float
    tangent: Tensor


@dataclass(frozen=True, eq=False)
class Prediction:
    """Tangents of swaps at one model and input.

    Attributes:
        norm: of the model's output.
        swaps: by site and mechanism.
        way: how the tangents were computed.
        why: why not by forward derivatives; None if they were.
    """

    norm: float
    swaps: Mapping[Swap, PredictedSwap]
    way: Way
    why: str | None

    def error(self, chosen: Iterable[Swap]) -> float:
        """Relative change of the output if all ``chosen`` are made: norm of the sum of their tangents.

        Raises:
            UserError: a swap that was not predicted, or two at one site.
        """
        members = [self._swap(swap) for swap in chosen]
        if len({member.site for member in members}) < len(members):
            raise UserError("expected one mechanism for a site, got two for the same")
        if not members:
            return 0.0
        if len(members) == 1:
            return members[0].error
        total = torch.stack([member.tangent.double() for member in members]).sum(0)
        return float(total.norm()) / self.norm

    def _swap(self, swap: Swap) -> PredictedSwap:
        if swap not in self.swaps:
            raise UserError(f"{swap[1]} at {swap[0]} is not among the swaps that were predicted")
        return self.swaps[swap]


def predict(
    model: nn.Module,
    inputs: Any,
    candidates: Mapping[str, Mapping[str, Mechanism]],
    *,
    output: Path | None = None,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Prediction:
    """First-order change of the output for each candidate: one pass with dual numbers each.

    All attention of these passes is computed in plain operators, a block of queries at a time, since torch's fused
    one has no forward derivative. Where an operator of the model has none either, the tangent is a central difference
    of two passes.

    Args:
        model: the module, left as it was; in eval mode, or dropout counts as part of it.
        inputs: a tensor, a tuple of arguments or a mapping of named ones.
        candidates: site → name → mechanism, of sites as `layerlab.attention.watching.attention_calls` names them.
        output: path of the output that counts; of several by default the one that is named like logits, or the first.
        seed: of the random numbers of the passes.
        progress: called with the share done and the words for it.

    Returns:
        The tangents.

    Raises:
        UserError: the model raises, has no such site, gives an output of 0 or one that is not finite; a mechanism
            raises.

    >>> from layerlab.attention.mechanisms import mechanism
    >>> _ = torch.manual_seed(0)
    >>> attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    >>> x = torch.randn(3, 5, 8)
    >>> linear = mechanism("linear", heads=2, head_size=4)
    >>> found = predict(attention, (x, x, x), {"(model)": {"linear": linear}}, output=(0,))
    >>> 0.05 < found.error([("(model)", "linear")]) < 0.5
    True
    """
    watched = attention_calls(model, inputs, seed)
    calls = {call.site: call for call in watched.calls}
    for site in candidates:
        if site not in calls:
            raise UserError(
                f"the model computes no attention at {site!r}; it does at {', '.join(calls) or 'no site'}"
            )
    path = chosen_output(watched.output, output)
    clean = dict(leaves(watched.output))[path]
    norm = float(clean.double().norm())
    if not 0 < norm < math.inf:
        raise UserError(f"the model's output has norm {norm}: there is no relative error of it")
    products = _Products(model, inputs, tuple(calls), path, seed)
    swaps: dict[Swap, PredictedSwap] = {}
    total = sum(len(mechanisms) for mechanisms in candidates.values())
    for site, mechanisms in candidates.items():
        call = calls[site]
        plain = explicit(call)
        for name, mechanism in mechanisms.items():
            if progress is not None:
                progress(len(swaps) / total, f"{site}: {name}")
            delta = replaced_output(mechanism, call) - plain
            if not bool(torch.isfinite(delta).all()):
                raise UserError(f"{name} at {site} is not finite")
            tangent = products(site, delta).double()
            error = float(tangent.norm()) / norm
            local = float(delta.double().norm()) / max(float(plain.double().norm()), 1e-300)
            swaps[site, name] = PredictedSwap(site, name, error, local, _sketch(tangent.flatten()))
    return Prediction(norm, swaps, products.way, products.why)


@torch.no_grad()
def replaced_output(mechanism: Mechanism, call: AttentionCall) -> Tensor:
    """What a mechanism computes at a call, ``(batch, heads, n, e)``."""
    output: Tensor = mechanism(call.q, call.k, call.v, mask=call.mask, causal=call.causal, scale=call.scale)
    return output.to(call.q.dtype)


def explicit(call: AttentionCall) -> Tensor:
    """``softmax(scale q kᵀ + mask) v`` in operators that have every derivative, a block of queries at a time.

    The dropout of the weights is left out.

    >>> q = torch.ones(1, 1, 2, 4)
    >>> v = torch.tensor([[[[1.0], [3.0]]]])
    >>> call = AttentionCall("s", "s", "S", 0, "", q, q, v, None, True, 0.5, 0.0, lambda: v)
    >>> explicit(call).flatten()
    tensor([1., 2.])
    """
    batch, heads, n, _ = call.q.shape
    m = call.k.shape[2]
    rows = max(1, _BLOCK // max(1, batch * heads * m))
    blocks = []
    for start in range(0, n, rows):
        stop = min(n, start + rows)
        weights = softmax_weights(
            call.q[:, :, start:stop],
            call.k,
            mask=mask_rows(call.mask, call.causal, start, stop, m, call.q.device),
            scale=call.scale,
        )
        blocks.append(apply(weights, call.v))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 2)


def chosen_output(result: Any, choice: Path | None) -> Path:
    """The path of the output that counts.

    Raises:
        UserError: no real tensor, or not at ``choice``.

    >>> chosen_output({"loss": torch.ones(1), "logits": torch.ones(2)}, None)
    ('logits',)
    """
    real = [path for path, tensor in leaves(result) if tensor.is_floating_point()]
    if choice is not None:
        if choice not in real:
            there = ", ".join(map(spelled, real)) or "none"
            raise UserError(
                f"the output {spelled(choice)} is not among those of real numbers; there are {there}"
            )
        return choice
    if not real:
        raise UserError(f"the model returns {type(result).__name__} without a tensor of real numbers")
    return next((path for name in _OUTPUTS for path in real if path == (name,)), real[0])


class _Products:
    """J delta at any site."""

    def __init__(
        self, model: nn.Module, inputs: Any, sites: tuple[str, ...], output: Path, seed: int
    ) -> None:
        self._model, self._inputs, self._sites = model, inputs, sites
        self._output, self._seed = output, seed
        self.way: Way = "forward"
        self.why: str | None = None

    @torch.no_grad()
    def __call__(self, site: str, delta: Tensor) -> Tensor:
        if self.way == "forward":
            try:
                return self._forward(site, delta)
            except (UserError, RuntimeError) as error:
                cause = error.__cause__ or error
                if not isinstance(cause, RuntimeError) or isinstance(cause, torch.OutOfMemoryError):
                    raise
                self.way, self.why = "difference", " ".join(str(cause).split())[:200]
        return self._difference(site, delta)

    def _forward(self, site: str, delta: Tensor) -> Tensor:
        with dual.dual_level():
            result = self._pass(site, lambda call: dual.make_dual(explicit(call), delta))
            value, tangent = dual.unpack_dual(result)
            return torch.zeros_like(value) if tangent is None else tangent.clone()

    def _difference(self, site: str, delta: Tensor) -> Tensor:
        step = _STEPS.get(delta.dtype, 2.0**-4)
        ahead = self._pass(site, lambda call: explicit(call) + step * delta)
        behind = self._pass(site, lambda call: explicit(call) - step * delta)
        return (ahead - behind) / (2 * step)

    def _pass(self, site: str, enter: Callable[[AttentionCall], Tensor]) -> Tensor:
        with replacing(self._model, {**dict.fromkeys(self._sites, explicit), site: enter}):
            result = passed(self._model, self._inputs, self._seed)
        return dict(leaves(result))[self._output]


def _sketch(tangent: Tensor) -> Tensor:
    """A short vector for a long one: entries with random signs, added up in random places (Charikar et al. 2002).

    The same places for all tangents of a length; inner products are right on average, with a standard deviation of
    at most sqrt(2 / length of the sketch) of the product of the norms.
    """
    if tangent.numel() <= _SKETCH:
        return tangent
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(2 * _SKETCH, tangent.shape, generator=generator).to(tangent.device)
    signed = tangent * (2 * (places % 2) - 1)
    return tangent.new_zeros(_SKETCH).index_add_(0, places // 2, signed)
