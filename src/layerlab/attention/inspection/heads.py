"""The measures of every head of a model's attention, on a sample of the examples, within a budget of time."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from layerlab.attention import measures
from layerlab.attention.calls import AttentionCall, mask_rows
from layerlab.attention.reference import allowed, softmax_weights

# Of longer sequences the singular values are not computed.
LONGEST_SPECTRUM = 4096

# Up to here all singular vectors are computed; of longer sequences those of the first ranks, by a randomised method.
_ALL_VECTORS = 512
_FEW_VECTORS = 64

# The size on which it is measured how fast this machine is.
_SMALL = 512

# Weights held at once: 64 MiB of float32.
_BLOCK = 1 << 24

# Tokens to either side that count as near.
WINDOW = 8

_POINTS = 48  # of a curve of singular values

# What is measured of P itself, and what takes its singular values.
QUICK = ("entropy", "entropy_share", "distance", "uniform_distance", "near", "sink", "uniform_sink")
SPECTRAL = ("effective_rank", "rank")


@dataclass(eq=False)
class SiteHeads:
    """What was measured of the heads at one site.

    Attributes:
        call: the attention.
        ranks: those of the floors, ascending.
        indices: positions of the singular values in ``decay``, from 1.
        examples: how many were measured.
        values: by measure, one list of numbers for each head, an entry an example; NaN where it has no meaning.
        floors: by head, one list for each example: the least error of P at each rank.
        output_floors: the same of PV; NaN at ranks that were not computed.
        decay: by head, one list for each example: sigma_k / sigma_1.
    """

    call: AttentionCall
    ranks: tuple[int, ...]
    indices: tuple[int, ...]
    examples: int = 0
    values: dict[str, list[list[float]]] = field(default_factory=dict)
    floors: list[list[list[float]]] = field(default_factory=list)
    output_floors: list[list[list[float]]] = field(default_factory=list)
    decay: list[list[list[float]]] = field(default_factory=list)

    @staticmethod
    def of(call: AttentionCall) -> SiteHeads:
        """Nothing measured yet."""
        size = min(call.q.shape[2], call.length)
        ranks = tuple(1 << i for i in range(20) if 1 << i < size)
        steps = (size ** (i / (_POINTS - 1)) for i in range(_POINTS))
        empty: dict[str, list[list[float]]] = {
            name: [[] for _ in range(call.heads)] for name in (*QUICK, *SPECTRAL)
        }
        lists: Callable[[], list[list[list[float]]]] = lambda: [[] for _ in range(call.heads)]  # noqa: E731
        return SiteHeads(
            call, ranks, tuple(sorted({round(s) for s in steps})), 0, empty, lists(), lists(), lists()
        )

    def to_dict(self, head: int) -> dict[str, Any]:
        """Means and standard deviations over the examples, of one head; None for what was not measured."""
        return {
            **{name: _spread(values[head]) for name, values in self.values.items()},
            "floor": _mean(self.floors[head]),
            "output_floor": _mean(self.output_floors[head]),
            "decay": _mean(self.decay[head]),
        }


def measure_heads(
    calls: Sequence[AttentionCall],
    *,
    examples: int = 8,
    seconds: float = 60.0,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[list[SiteHeads], list[str]]:
    """Measures every head at every site, one example after the other until the time is spent.

    Entropy and locality of the first example are always measured; singular values while there is time.

    Args:
        calls: the sites.
        examples: at most so many of the batch, evenly spread over it.
        seconds: for the singular values of the first example, and for all of the others.
        progress: called with the share done and the site.

    Returns:
        What was measured, in the order of the calls, and remarks on what was not.
    """
    sites = [SiteHeads.of(call) for call in calls]
    until = time.monotonic() + seconds
    rounds = max((min(examples, call.q.shape[0]) for call in calls), default=0)
    done, total = 0, sum(min(examples, call.q.shape[0]) for call in calls)
    late = False
    for turn in range(rounds):
        for site in sites:
            count = min(examples, site.call.q.shape[0])
            late = late or time.monotonic() > until
            if turn >= count or (turn and late):
                continue
            if progress is not None:
                progress(done / total, f"heads of {site.call.site}")
            _measure(site, turn * site.call.q.shape[0] // count, until)
            done += 1
    return sites, _remarks(sites, examples, seconds)


def _remarks(sites: Sequence[SiteHeads], examples: int, seconds: float) -> list[str]:
    found = []
    heads = sum(site.call.heads for site in sites)
    measured = sum(bool(values) for site in sites for values in site.values["rank"])
    long = sum(site.call.heads for site in sites if _too_long(site.call))
    if long:
        found.append(
            f"sequences of more than {LONGEST_SPECTRUM:,} tokens: no singular values of {long} heads"
        )
    if measured < heads - long:
        found.append(
            f"singular values of {measured} of {heads - long} heads in the {seconds:g} s given to them (--budget)"
        )
    least = min((site.examples for site in sites), default=0)
    batch = min((site.call.q.shape[0] for site in sites), default=0)
    if least < batch:
        limit = f"at most {examples}" if least >= examples else f"{seconds:g} s"
        found.append(f"heads are measured on {least} of {batch} examples ({limit})")
    return found


def _too_long(call: AttentionCall) -> bool:
    return min(call.q.shape[2], call.length) > LONGEST_SPECTRUM


def _measure(site: SiteHeads, example: int, until: float) -> None:
    """One example of one site, some heads at a time."""
    call = site.call
    q, k, v, mask = _alone(call, example)
    n, m = q.shape[2], k.shape[2]
    if not n or not m:
        return
    step = max(1, _BLOCK // (n * m))
    group = call.heads // k.shape[1]
    for first in range(0, call.heads, step):
        heads = range(first, min(call.heads, first + step))
        owners = torch.tensor([head // group for head in heads])
        own = None if mask is None else mask[:, heads.start : heads.stop] if mask.shape[1] > 1 else mask
        with torch.no_grad():
            _quick(site, heads, q[:, heads.start : heads.stop], k[:, owners], own)
            if not _too_long(call) and time.monotonic() + len(heads) * _cost(min(n, m)) < until:
                p = softmax_weights(
                    q[:, heads.start : heads.stop],
                    k[:, owners],
                    mask=own,
                    causal=call.causal,
                    scale=call.scale,
                )[0]
                _spectral(site, heads, p, v[0, owners])
    site.examples += 1


def _cost(size: int) -> float:
    """About the seconds that the singular values of a long head take here; of a short one 0."""
    if size <= _ALL_VECTORS:
        return 0.0
    return _of_small() * (size / _SMALL) ** 3


@functools.cache
def _of_small() -> float:
    p = torch.rand(_SMALL, _SMALL, generator=torch.Generator().manual_seed(0))
    started = time.monotonic()
    torch.linalg.svdvals(p)
    return time.monotonic() - started


def _alone(call: AttentionCall, example: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """One example without its padding, in float32 at least."""
    dtype = torch.float64 if call.q.dtype == torch.float64 else torch.float32
    q, k, v = (tensor[example : example + 1].to(dtype) for tensor in (call.q, call.k, call.v))
    mask = call.mask
    if mask is None:
        return q, k, v, None
    mask = mask[example : example + 1] if mask.shape[0] > 1 else mask
    if mask.dtype == torch.bool and mask.shape[1] == mask.shape[2] == 1:
        keys = mask[0, 0, 0].expand(k.shape[2])
        # Among tokens of one sequence what is hidden from all is padding, and asks for nothing itself.
        q = q[:, :, keys] if q.shape[2] == k.shape[2] else q
        return q, k[:, :, keys], v[:, :, keys], None
    return q, k, v, mask


def _quick(site: SiteHeads, heads: range, q: Tensor, k: Tensor, mask: Tensor | None) -> None:
    """What takes one look at the weights, rows by rows."""
    n, m = q.shape[2], k.shape[2]
    square = n == m
    sums = {name: torch.zeros(len(heads), dtype=torch.float64) for name in QUICK}
    rows_with_keys = torch.zeros(len(heads), dtype=torch.float64)
    rows_with_choice = torch.zeros(len(heads), dtype=torch.float64)
    step = max(1, _BLOCK // (len(heads) * m))
    for start in range(0, n, step):
        stop = min(n, start + step)
        rows, own = q[:, :, start:stop], mask_rows(mask, site.call.causal, start, stop, m, q.device)
        p = softmax_weights(rows, k, mask=own, scale=site.call.scale)[0]
        # One row for all queries where nothing differs between them.
        seen = allowed(rows, k, own)[0].expand(-1, rows.shape[2], -1)
        count = seen.sum(-1)
        weight = (count > 0).sum(-1).double().expand(len(heads))
        rows_with_keys += weight
        spread = measures.entropy(p)
        sums["entropy"] += spread.sum(-1)
        choice = (count > 1).expand(len(heads), -1)
        sums["entropy_share"] += (spread / count.clamp(min=2).log() * choice).sum(-1)
        rows_with_choice += choice.sum(-1)
        sums["sink"] += measures.sink(p) * weight
        uniform = seen / count.clamp(min=1)[..., None].to(p.dtype)
        sums["uniform_sink"] += (measures.sink(uniform) * weight).expand(len(heads))
        if square:
            sums["distance"] += measures.distance(p, start) * weight
            sums["uniform_distance"] += (measures.distance(uniform, start) * weight).expand(len(heads))
            sums["near"] += measures.within(p, WINDOW, start) * weight
    for name, total in sums.items():
        if not square and name in ("distance", "uniform_distance", "near"):
            continue
        share = total / (rows_with_choice if name == "entropy_share" else rows_with_keys)
        for head, value in zip(heads, share.tolist(), strict=True):
            site.values[name][head].append(value)


def _spectral(site: SiteHeads, heads: range, p: Tensor, v: Tensor) -> None:
    """Ranks and floors, of P ``(heads, n, m)``."""
    size = min(p.shape[1:])
    if size <= _ALL_VECTORS:
        # Of small matrices in float64: the smallest singular values are no rounding errors then.
        u, sigma, _ = torch.linalg.svd(p.double(), full_matrices=False)
        p, v, known = p.double(), v.double(), len(site.ranks)
    else:
        sigma = torch.linalg.svdvals(p)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            u, _, _ = torch.svd_lowrank(p, q=2 * _FEW_VECTORS, niter=4)
        known = sum(k <= _FEW_VECTORS for k in site.ranks)
    floors = measures.eckart_young(sigma, site.ranks)
    output = measures.output_floor(p, v, site.ranks[:known], u)
    decay = sigma / sigma[:, :1].clamp(min=torch.finfo(sigma.dtype).tiny)
    effective, rank = measures.effective_rank(sigma), measures.numerical_rank(sigma)
    for i, head in enumerate(heads):
        site.values["effective_rank"][head].append(float(effective[i]))
        site.values["rank"][head].append(float(rank[i]))
        site.floors[head].append(floors[i].tolist())
        site.output_floors[head].append(output[i].tolist() + [math.nan] * (len(site.ranks) - known))
        site.decay[head].append([float(decay[i, k - 1]) if k <= size else math.nan for k in site.indices])


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean and standard deviation; None of nothing."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    mean = sum(known) / len(known)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in known) / (len(known) - 1)) if len(known) > 1 else 0.0
    return {"mean": mean, "sd": deviation}


def _mean(rows: Sequence[Sequence[float]]) -> list[float | None] | None:
    """Mean of each column, of the rows that have it."""
    if not rows:
        return None
    spread = [_spread(column) for column in zip(*rows, strict=True)]
    return [None if entry is None else entry["mean"] for entry in spread]
