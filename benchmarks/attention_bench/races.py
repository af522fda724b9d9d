"""Paired timings: forward passes, training steps, single tokens, and the lengths at which ours becomes the faster."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from bench_common import timing
from torch import Tensor

from attention_bench import contestants, floors
from attention_bench.contestants import MATMUL, MODES, OURS, PLAIN, SOFTMAX, WHOLE_SOFTMAX, inputs

Step = Callable[[], object]


def forward(n: int, rounds: int, longest: float) -> dict[str, Any]:
    """Forward passes at one length; a causal one also against the softmax over all keys."""
    parts = inputs(n)
    with torch.no_grad():
        modes = _both_modes(lambda attend: attend(*parts), rounds, longest)
    for mode, rows in modes.items():
        work = {OURS: floors.forward(n), PLAIN: floors.forward(n), WHOLE_SOFTMAX: floors.softmax(n)}
        _add_floors(rows, {**work, SOFTMAX: floors.softmax(n, mode == "causal")})
    return {"n": n, "rounds": rounds, "modes": modes}


def training(n: int, rounds: int, longest: float) -> dict[str, Any]:
    """Forward and backward: the gradients of q, k and v."""
    parts, upstream = [x.requires_grad_(True) for x in inputs(n)], inputs(n, seed=1)[0]
    modes = _both_modes(lambda attend: torch.autograd.grad(attend(*parts), parts, upstream), rounds, longest)
    for mode, rows in modes.items():
        work = {
            OURS: floors.training(n),
            PLAIN: floors.training(n),
            WHOLE_SOFTMAX: floors.softmax_training(n),
        }
        _add_floors(rows, {**work, SOFTMAX: floors.softmax_training(n, mode == "causal")})
    return {"n": n, "rounds": rounds, "modes": modes}


def _both_modes(
    step: Callable[[contestants.Attend], object], rounds: int, longest: float
) -> dict[str, dict[str, Any]]:
    """All contestants of both modes in turn; causal ones also against the softmax over all keys."""
    attends = {
        f"{mode}, {name}": attend for mode in MODES for name, attend in contestants.of_mode(mode).items()
    }
    timed = timing.in_turn(
        {key: lambda attend=attend: step(attend) for key, attend in attends.items()}, rounds, longest
    )
    keys = {mode: {name: f"{mode}, {name}" for name in contestants.of_mode(mode)} for mode in MODES}
    keys["causal"][WHOLE_SOFTMAX] = keys["bidirectional"][SOFTMAX]
    return {mode: _rows(timed, names) for mode, names in keys.items()}


def decode(lengths: Sequence[int], rounds: int, longest: float) -> dict[str, Any]:
    """One token after n others, and how its time grows with n."""
    rows = []
    for n in lengths:
        _, k, v = inputs(n)
        q = inputs(1, seed=1)
        state, plain, cache = (
            contestants.state_after(k, v),
            contestants.PlainState(k, v),
            contestants.Cache(k, v),
        )
        del k, v
        steps: dict[str, Step] = {
            OURS: lambda state=state, q=q: state.step(*q),
            PLAIN: lambda plain=plain, q=q: plain.step(*q),
            SOFTMAX: lambda cache=cache, q=q: cache.fused(*q),
            MATMUL: lambda cache=cache, q=q: cache.matmul(*q),
        }
        with torch.no_grad():
            row = race(steps, rounds, longest)
        rows.append(
            {
                "n": n,
                "runners": row,
                "state_bytes": state.s.nbytes + state.z.nbytes,
                "cache_bytes": cache.bytes,
            }
        )
    _add_floors(
        rows[-1]["runners"],
        {
            OURS: floors.token(),
            PLAIN: floors.token(),
            SOFTMAX: floors.cached_token(lengths[-1]),
            MATMUL: floors.cached_token(lengths[-1]),
        },
    )
    fits = {
        name: timing.growth(lengths, [row["runners"][name]["median_seconds"] for row in rows])
        for name in rows[0]["runners"]
    }
    return {"rows": rows, "growth": fits, "rounds": rounds}


def over_lengths(lengths: Sequence[int], rounds: int, longest: float) -> dict[str, Any]:
    """Forward passes at each length, and where ours and the plain form become faster than the softmax."""
    modes: dict[str, Any] = {}
    for mode in MODES:
        rows = []
        for n in lengths:
            parts = inputs(n)
            steps = {
                name: lambda attend=attend, parts=parts: attend(*parts)
                for name, attend in contestants.of_mode(mode).items()
            }
            with torch.no_grad():
                rows.append({"n": n, "runners": race(steps, rounds if n < 4096 else 3, longest)})
        modes[mode] = {"rows": rows}
        for name in (OURS, PLAIN):
            seconds = [[row["runners"][who]["median_seconds"] for row in rows] for who in (name, SOFTMAX)]
            modes[mode].setdefault("crossover", {})[name] = crossover(lengths, *seconds)
    return {"modes": modes, "rounds": rounds}


def crossover(
    lengths: Sequence[int], ours: Sequence[float], theirs: Sequence[float]
) -> dict[str, float | None]:
    """The length from which on ours is faster at every length measured.

    Between the last length at which it is not and the next, by a straight line through the logarithms of the ratios.

    Returns:
        ``{"length": ...}``: the first length measured where ours is faster everywhere; None where it is not faster at
        the last one.

    >>> crossover([10, 1000], [2.0, 2.0], [1.0, 4.0])
    {'length': 100.0}
    >>> crossover([10, 1000], [2.0, 5.0], [1.0, 4.0])
    {'length': None}
    """
    lead = [math.log(b / a) for a, b in zip(ours, theirs, strict=True)]
    last = max((i for i, value in enumerate(lead) if value <= 0), default=None)
    if last is None:
        return {"length": float(lengths[0])}
    if last == len(lengths) - 1:
        return {"length": None}
    share = -lead[last] / (lead[last + 1] - lead[last])
    low, high = math.log(lengths[last]), math.log(lengths[last + 1])
    return {"length": round(math.exp(low + share * (high - low)), 6)}


def race(steps: Mapping[str, Step], rounds: int, longest: float) -> dict[str, Any]:
    """Each runner's seconds, in turn, and how many times slower than ours it is."""
    return _rows(timing.in_turn(steps, rounds, longest), {name: name for name in steps})


def _rows(timed: dict[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """Of what `timing.in_turn` found, the runners of ``keys`` by their names there, of which one is ours."""
    seconds = {name: timed["seconds"][key] for name, key in keys.items()}
    return {
        name: {
            "seconds": seconds[name],
            "steps_per_block": timed["steps_per_block"][key],
            "median_seconds": statistics.median(seconds[name]),
            "times_slower_than_ours": timing.ratio(seconds[name], seconds[OURS]),
        }
        for name, key in keys.items()
    }


def _add_floors(rows: dict[str, Any], work: Mapping[str, floors.Work]) -> None:
    speed = floors.Rates()
    for name, row in rows.items():
        row["floor"] = floors.floor(work[name], speed)


def gradients(mode: str, runner: str, parts: Sequence[Tensor], upstream: Tensor) -> None:
    """One training step, for its memory."""
    torch.autograd.grad(contestants.of_mode(mode)[runner](*parts), parts, upstream)
