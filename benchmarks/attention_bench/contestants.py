"""Who is timed: ours, torch's fused softmax, and the linear form as it is written in plain torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from layerlab.attention import LinearState, linear_attention

HEADS, SIZE = 8, 64
MODES = ("bidirectional", "causal")

OURS = "layerlab"
SOFTMAX = "torch's fused softmax"
WHOLE_SOFTMAX = "torch's fused softmax, not causal"
PLAIN = "linear in plain torch"
MATMUL = "softmax in plain torch"

# Of 32, 64, 128 and 256 the fastest for the plain form at n = 16,384 on two cores.
CHUNK = 64

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def inputs(n: int, heads: int = HEADS, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v of one sequence, standard normal, ``(1, heads, n, SIZE)`` float32."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, heads, n, SIZE, generator=generator) for _ in range(3))
    return q, k, v


def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return linear_attention(q, k, v)


def ours_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return linear_attention(q, k, v, causal=True)


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def softmax_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def features(x: Tensor) -> Tensor:
    """elu(x) + 1."""
    return F.elu(x) + 1


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Sums over all keys first, as Katharopoulos et al. write it."""
    fq, fk = features(q), features(k)
    return (fq @ (fk.mT @ v)) / (fq @ fk.sum(2, keepdim=True).mT)


def plain_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Chunks: the sums over the chunks before, and a triangle of weights inside each."""
    n = q.shape[2]
    # What is appended comes after every query.
    q, k, v = (F.pad(x, (0, 0, 0, -n % CHUNK)).unflatten(2, (-1, CHUNK)) for x in (q, k, v))
    fq, fk = features(q), features(k)
    sums = (fk.mT @ v).cumsum(2)
    totals = fk.sum(3, keepdim=True).mT.cumsum(2)
    weights = (fq @ fk.mT).tril()
    out, denominator = weights @ v, weights.sum(4, keepdim=True)
    out[:, :, 1:] += fq[:, :, 1:] @ sums[:, :, :-1]
    denominator[:, :, 1:] += fq[:, :, 1:] @ totals[:, :, :-1]
    return (out / denominator).flatten(2, 3)[:, :, :n]


def of_mode(mode: str) -> dict[str, Attend]:
    """Ours, the softmax of the same mode, and the plain form."""
    if mode == "causal":
        return {OURS: ours_causal, SOFTMAX: softmax_causal, PLAIN: plain_causal}
    return {OURS: ours, SOFTMAX: softmax, PLAIN: plain}


class PlainState:
    """The recurrent form in plain torch, float32: two sums."""

    def __init__(self, k: Tensor, v: Tensor) -> None:
        fk = features(k)
        self.s, self.z = fk.mT @ v, fk.sum(2, keepdim=True).mT

    def step(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        fq, fk = features(q), features(k)
        self.s += fk.mT @ v
        self.z += fk.mT
        return (fq @ self.s) / (fq @ self.z)


class Cache:
    """Keys and values of softmax attention, with room for one more: a token is written, never the cache copied."""

    def __init__(self, k: Tensor, v: Tensor) -> None:
        self.k, self.v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))

    @property
    def bytes(self) -> int:
        return self.k.nbytes + self.v.nbytes

    def _write(self, k: Tensor, v: Tensor) -> None:
        self.k[:, :, -1:], self.v[:, :, -1:] = k, v

    def fused(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self._write(k, v)
        return F.scaled_dot_product_attention(q, self.k, self.v)

    def matmul(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self._write(k, v)
        return torch.softmax(q @ self.k.mT * SIZE**-0.5, -1) @ self.v


def state_after(k: Tensor, v: Tensor) -> LinearState:
    """Ours after these keys; no query is needed but the operator takes some."""
    _, state = linear_attention(k, k, v, causal=True, return_state=True)
    return state
