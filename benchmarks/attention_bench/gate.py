"""Correctness first: what is timed against dense float64 twins, outputs and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from bench_common.command import GateError
from torch import Tensor

from attention_bench import contestants
from attention_bench.contestants import MODES, OURS, PLAIN, inputs
from layerlab.attention import linear_attention, reference
from layerlab.attention.features import EluPlusOne

# Largest difference of outputs relative to the largest number of their row, and of gradients relative to the largest
# of all. The sum of thousands of values of either sign has a hundredth of their size, so that rounding to 6e-8 of these
# is 6e-6 of the row.
ALLOWED = {torch.float32: 2e-5, torch.float64: 1e-12}
LENGTHS = (1, 63, 100, 2000)
_WIDE = 500  # beyond it two heads, whose n x n weights fit beside their gradients
_ROWS = 34


def twin(q: Tensor, k: Tensor, v: Tensor, mode: str, mask: Tensor | None = None) -> Tensor:
    """Attention by its definition, in float64."""
    q, k, v = (x.double() for x in (q, k, v))
    return reference.apply(
        reference.linear_weights(q, k, EluPlusOne(), mask=mask, causal=mode == "causal"), v
    )


def check_all(quick: bool, timed: int, decoded: int) -> dict[str, Any]:
    """The largest relative differences.

    Args:
        quick: leave out the longest gradients.
        timed: the length at which forward passes are timed; some of its rows are compared.
        decoded: the tokens before the one that is timed.

    Raises:
        GateError: one of them exceeds `ALLOWED`.
    """
    rows = {}
    for mode in MODES:
        for n in LENGTHS[:-1] if quick else LENGTHS:
            rows[f"{mode}, n = {n:,}"] = _whole(mode, n)
        rows[f"{mode}, {_ROWS} rows of n = {timed:,}"] = _some_rows(mode, timed)
    rows["causal in pieces of 300, n = 1,000"] = {"outputs": _pieces(1000, 300)}
    rows["300 tokens one by one"] = {"outputs": _tokens(300)}
    rows[f"a token after {decoded:,}"] = _decoded(decoded)
    return {"rows": rows, "largest": max(max(row.values()) for row in rows.values())}


def _near(
    what: str,
    found: Tensor,
    expected: Tensor,
    dtype: torch.dtype = torch.float32,
    rows: bool = True,
) -> float:
    size = expected.abs().amax(-1, keepdim=True) if rows else expected.abs().max()
    off = float(((found.double() - expected).abs() / size).max())
    if not off <= ALLOWED[dtype]:
        raise GateError(f"{what} differs by {off:.1e} relative")
    return off


def _with_gradients(
    attend: Callable[..., Tensor], parts: tuple[Tensor, ...], upstream: Tensor
) -> list[Tensor]:
    leaves = [x.clone().requires_grad_(True) for x in parts]
    out = attend(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream.to(out.dtype))]


def _whole(mode: str, n: int) -> dict[str, float]:
    heads = contestants.HEADS if n <= _WIDE else 2
    parts, upstream = inputs(n, heads, seed=n), inputs(n, heads, seed=n + 1)[0]
    doubles = tuple(x.double() for x in parts)
    expected = _with_gradients(lambda q, k, v: twin(q, k, v, mode), doubles, upstream)
    made = contestants.of_mode(mode)
    found = {
        "float32": (torch.float32, _with_gradients(made[OURS], parts, upstream)),
        "float64": (torch.float64, _with_gradients(made[OURS], doubles, upstream)),
        "plain torch": (torch.float32, _with_gradients(made[PLAIN], parts, upstream)),
    }
    worst = {}
    # With one key the weight is 1 whatever q and k are: their gradients are 0, and rounding has no scale.
    names = ("output", "gradient of q", "gradient of k", "gradient of v") if n > 1 else ("output",)
    for label, (dtype, values) in found.items():
        pairs = zip(names, values, expected, strict=False)
        worst[label] = max(
            _near(f"{mode}, n = {n}, {label}: {name}", value, right, dtype, name == "output")
            for name, value, right in pairs
        )
    return worst


def _some_rows(mode: str, n: int) -> dict[str, float]:
    q, k, v = inputs(n)
    rows = torch.linspace(0, n - 1, _ROWS).long()
    seen = torch.arange(n) <= rows[:, None] if mode == "causal" else None
    expected = twin(q[:, :, rows], k, v, "bidirectional", seen)
    return {
        label: _near(
            f"{mode}, rows of n = {n}, {label}", contestants.of_mode(mode)[who](q, k, v)[:, :, rows], expected
        )
        for label, who in (("outputs", OURS), ("plain torch", PLAIN))
    }


def _pieces(n: int, size: int) -> float:
    parts = inputs(n)
    state, out = None, []
    for start in range(0, n, size):
        q, k, v = (x[:, :, start : start + size] for x in parts)
        piece, state = linear_attention(q, k, v, causal=True, state=state, return_state=True)
        out.append(piece)
    return _near("causal in pieces", torch.cat(out, 2), twin(*parts, "causal"))


def _tokens(n: int) -> float:
    parts = inputs(n)
    state = contestants.LinearState.empty(1, contestants.HEADS, contestants.SIZE)
    out = [state.step(*(x[:, :, i : i + 1] for x in parts)) for i in range(n)]
    return _near("token by token", torch.cat(out, 2), twin(*parts, "causal"))


def _decoded(n: int) -> dict[str, float]:
    q, k, v = inputs(n + 1)
    last = q[:, :, n:], k[:, :, n:], v[:, :, n:]
    expected = twin(last[0], k, v, "bidirectional")
    before = k[:, :, :n], v[:, :, :n]
    made = {"outputs": contestants.state_after(*before), "plain torch": contestants.PlainState(*before)}
    return {
        label: _near(f"a token after {n}, {label}", state.step(*last), expected)
        for label, state in made.items()
    }
