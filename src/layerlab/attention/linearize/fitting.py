"""Feature maps fitted to a layer's own attention weights, without labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.attention.calls import AttentionCall
from layerlab.attention.features import FeatureMap, Hedgehog, negligible
from layerlab.attention.mechanisms import Linear
from layerlab.attention.reference import allowed, scores, softmax_weights

STEPS = 400
RATE = 0.02

# Queries whose weights are compared in one step, over all samples; with them go all keys.
_QUERIES = 256
_EVERY, _PATIENCE = 25, 4

# As large as a step's weights may be: 128 MiB of float32.
_WEIGHTS = 1 << 25


@dataclass(frozen=True)
class Fit:
    """What fitting a map came to.

    Attributes:
        before: Kullback-Leibler divergence of the linear weights from the softmax ones on the validation calls, in
            nats, mean over queries: with the map as it began.
        after: with the map that is kept.
        steps: taken.
        stopped: whether it ended before the last step, because the divergence fell no further.
        seconds: it took.
    """

    before: float
    after: float
    steps: int
    stopped: bool
    seconds: float


def fit_hedgehog(
    call: AttentionCall,
    validation: AttentionCall | None = None,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Linear, Fit]:
    """Linear attention with a map whose weights come near the softmax weights of a call.

    Adam lowers the cross-entropy ``-Σ_j P_ij log L_ij`` of the linear weights L from the softmax weights P, over
    queries drawn anew in each step. Every 25 steps the divergence of the validation call is measured; the best map is
    kept, and fitting ends when four measurements in a row have not lowered it.

    Reference: Zhang, Bhatia, Kumbong and Ré, The Hedgehog and the Porcupine, ICLR 2024.

    Args:
        call: queries, keys and mask to fit to.
        validation: of other inputs; the call itself if None.
        steps: at most.
        seed: of the queries drawn.
        progress: called with the share done and the divergence.

    Returns:
        The mechanism, without gradients, and what was measured.

    >>> _ = torch.manual_seed(0)
    >>> q, k, v = torch.randn(3, 2, 1, 40, 8).unbind()
    >>> call = AttentionCall("s", "s", "S", 0, "", q, k, v, None, False, 8**-0.5, 0.0, lambda: v)
    >>> _, fit = fit_hedgehog(call, steps=50)
    >>> fit.after < 0.6 * fit.before
    True
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    phi = Hedgehog(call.heads, call.q.shape[-1], call.k.shape[1]).to(call.q.device)
    judge = _Sample.drawn(validation or call, torch.Generator().manual_seed(seed + 1), 8 * _QUERIES)
    entropy = judge.entropy()

    def divergence() -> float:
        with torch.no_grad():
            return float(judge.cross_entropy(phi)) - entropy

    before = best = divergence()
    kept, waited, step = _weights(phi), 0, 0
    optimizer = torch.optim.Adam(phi.parameters(), RATE)
    with torch.enable_grad():
        for step in range(1, steps + 1):
            # Down to nothing over half a cosine: without it the last digits of the weights never settle.
            optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / (steps + 1)))
            loss = _Sample.drawn(call, generator, _QUERIES).cross_entropy(phi)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % _EVERY and step < steps:
                continue
            found = divergence()
            waited = 0 if found < best else waited + 1
            if found < best:
                best, kept = found, _weights(phi)
            if progress is not None:
                progress(step / steps, f"divergence {found:.3g}")
            if waited == _PATIENCE:
                break
    phi.load_state_dict(kept)
    phi.requires_grad_(False)
    return Linear(phi), Fit(before, best, step, waited == _PATIENCE, time.perf_counter() - started)


def _weights(phi: FeatureMap) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in phi.state_dict().items()}


@dataclass(frozen=True, eq=False)
class _Sample:
    """Some queries of a call, all of its keys, and the softmax weights between them."""

    q: Tensor
    k: Tensor
    mask: Tensor
    weights: Tensor

    @staticmethod
    def drawn(call: AttentionCall, generator: torch.Generator, queries: int) -> _Sample:
        """One sample of the batch, or as many as there is room for; the same places in each."""
        batch, heads, n, d = call.q.shape
        m = call.k.shape[2]
        rows = max(1, min(n, queries, _WEIGHTS // max(1, heads * m)))
        samples = max(1, min(batch, queries // rows, _WEIGHTS // max(1, rows * heads * m)))
        which = torch.randperm(batch, generator=generator)[:samples]
        places = torch.randperm(n, generator=generator)[:rows].sort().values
        mask = allowed(call.q[:1, :, :, :1], call.k[:1, :, :, :1], None, call.causal)[:, :, places]
        if call.mask is not None:
            given = call.mask[which] if len(call.mask) > 1 else call.mask
            given = given[:, :, places] if given.shape[2] > 1 else given
            # What is added to scores of the softmax multiplies linear weights by its exponential.
            added = given.to(call.q.dtype) if given.dtype != torch.bool else given.to(call.q.dtype).log()
            mask = added.masked_fill(~mask, -math.inf)
        else:
            mask = torch.zeros_like(mask, dtype=call.q.dtype).masked_fill(~mask, -math.inf)
        q, k = call.q[which][:, :, places].detach().float(), call.k[which].detach().float()
        weights = softmax_weights(q, k, mask=mask.float(), scale=call.scale)
        return _Sample(q * (call.scale * math.sqrt(d)), k, mask.float().exp(), weights)

    def cross_entropy(self, phi: FeatureMap) -> Tensor:
        """``-Σ_j P_ij log L_ij``, mean over queries that see a key."""
        linear = scores(phi.queries(self.q), phi.keys(self.k)) * self.mask
        least = negligible(linear.dtype)
        share = linear / linear.sum(-1, keepdim=True).clamp_min(least)
        return -(self.weights * share.clamp_min(least).log()).sum() / self._rows()

    def entropy(self) -> float:
        """What the cross-entropy is at least."""
        return float(-torch.special.xlogy(self.weights, self.weights).sum() / self._rows())

    def _rows(self) -> Tensor:
        return self.weights.sum().clamp_min(1.0)
