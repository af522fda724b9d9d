"""Linear attention: phi(q) . phi(k) in the place of exp(q . k), in time and memory that grow as n."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor

from layerlab.attention import chunked
from layerlab.attention.arguments import (
    check,
    check_causal,
    check_dropout,
    check_lengths,
    inside,
    spread,
    without_autocast,
)
from layerlab.attention.features import FeatureMap, Identity
from layerlab.attention.features import feature_map as map_of
from layerlab.attention.kernels import decoding, operators
from layerlab.errors import UserError
from layerlab.lab import kernels, private


class CancellationWarning(UserWarning):
    """Weights of either sign cancelled in a denominator: these rows of the output are mostly rounding."""


@dataclass
class LinearState:
    """The sums over all keys so far: what decoding remembers, as large after a million tokens as after one.

    s is ``sum_j phi(k_j) v_j^T``, ``(batch, kv_heads, r, e)``; z is ``sum_j phi(k_j)``, ``(batch, kv_heads, r)``; both
    in float64, for sums that go on and on (in float32 where a device has nothing else).

    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch._C.Generator ...>
    >>> q, k, v = torch.randn(3, 1, 2, 6, 4).unbind(0)
    >>> whole = linear_attention(q, k, v, causal=True)
    >>> out, state = linear_attention(q[:, :, :5], k[:, :, :5], v[:, :, :5], causal=True, return_state=True)
    >>> last = state.step(q[:, :, 5:], k[:, :, 5:], v[:, :, 5:])
    >>> torch.allclose(torch.cat([out, last], 2), whole)
    True
    """

    s: Tensor
    z: Tensor
    feature_map: FeatureMap

    @classmethod
    def empty(
        cls,
        batch: int,
        kv_heads: int,
        head_size: int,
        value_size: int | None = None,
        *,
        feature_map: str | FeatureMap = "elu",
        device: torch.device | str | None = None,
    ) -> LinearState:
        """The state before the first token.

        >>> LinearState.empty(1, 2, 4).s.shape
        torch.Size([1, 2, 4, 4])
        """
        phi = map_of(feature_map, heads=kv_heads, head_size=head_size)
        like = torch.zeros(batch, kv_heads, 1, head_size, device=device)
        with torch.no_grad():
            features = phi.keys(like)
        sizes = (batch, kv_heads, features.shape[-1])
        e = head_size if value_size is None else value_size
        kind = chunked.sum_dtype(like)
        return cls(like.new_zeros(*sizes, e, dtype=kind), like.new_zeros(*sizes, dtype=kind), phi)

    def detached(self) -> LinearState:
        """The same numbers without their history, for training on pieces of a sequence."""
        return LinearState(self.s.detach(), self.z.detach(), self.feature_map)

    @torch.no_grad()
    def step(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Take in one token and return its output; changes the state in place, and has no gradient.

        Args:
            q: ``(batch, heads, 1, d)``.
            k: ``(batch, kv_heads, 1, d)``.
            v: ``(batch, kv_heads, 1, e)``.

        Returns:
            ``(batch, heads, 1, e)``, in the dtype of q.

        Raises:
            UserError: other shapes than those of the state, or more than one token.
        """
        check(q, k, v)
        _check_state(self, q, k, v)
        if q.shape[2] != 1 or k.shape[2] != 1:
            raise UserError(
                f"expected one token, got {q.shape[2]} queries and {k.shape[2]} keys; for more, give the state to"
                " linear_attention(..., causal=True, state=...)"
            )
        compute = _compute_dtype(q)
        with without_autocast(q):
            kind, x, key = _features(self.feature_map, q.to(compute), k.to(compute))
            plain = torch.compiler.is_compiling() or not kernels.serve(x, key, self.s, self.z)
            if plain or not (self.s.is_contiguous() and self.z.is_contiguous()):
                fq, fk = operators.apply(kind, x, key)
                self.s += fk.transpose(-1, -2) * v.to(compute)
                self.z += fk.squeeze(2)
                out = chunked.read(fq.unflatten(1, (k.shape[1], -1)), self.s, self.z).flatten(1, 2)
            else:
                out = decoding.step(x, key, v.to(compute), self.s, self.z, kind)
            return out.to(q.dtype)


def _compute_dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.dtype is torch.float64 else torch.float32


def _check_state(state: LinearState, q: Tensor, k: Tensor, v: Tensor) -> None:
    if not isinstance(state, LinearState):
        raise UserError(f"expected a LinearState, got {type(state).__name__}; linear_attention returns one")
    expected = (k.shape[0], k.shape[1], v.shape[3])
    got = (state.s.shape[0], state.s.shape[1], state.s.shape[3])
    if got != expected or state.s.device != q.device:
        raise UserError(
            f"expected a state of (batch, kv_heads, value size) {expected} on {q.device}, got {got} on {state.s.device}"
        )


def _key_weights(
    mask: Tensor | None, lengths: Tensor | None, q: Tensor, k: Tensor, kind: torch.dtype
) -> Tensor | None:
    """What each phi(k_j) is multiplied by, ``(batch or 1, heads or kv_heads or 1, m)``; None for 1 everywhere."""
    batch, heads, m = q.shape[0], q.shape[1], k.shape[2]
    weights = None
    if mask is not None:
        if not isinstance(mask, Tensor) or not (mask.dtype is torch.bool or mask.is_floating_point()):
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise UserError(f"expected a bool or float mask, got {got}; convert it with mask.bool()")
        fits = mask.ndim == 4 and mask.shape[0] in (1, batch) and mask.shape[1] in (1, heads)
        if not fits or mask.shape[3] not in (1, m):
            raise UserError(
                f"expected a mask ({batch} or 1, {heads} or 1, 1, {m}), got {tuple(mask.shape)}; give it all four"
                " dimensions"
            )
        if mask.shape[2] != 1:
            raise UserError(
                f"expected a mask over keys only, (batch, heads or 1, 1, {m}), got {tuple(mask.shape)}: sums over keys"
                " are shared by all queries; use causal=True, lengths=, or softmax attention"
            )
        if mask.device != q.device:
            raise UserError(f"expected the mask on {q.device}, got {mask.device}; move it")
        weights = mask.squeeze(2).expand(-1, -1, m)
        weights = weights.to(kind) if mask.dtype is torch.bool else weights.to(kind).exp()
    if lengths is not None:
        check_lengths(lengths, k)
        before = inside(lengths, m).to(kind).unsqueeze(1)
        weights = before if weights is None else weights * before
    return weights


@overload
def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: str | FeatureMap = ...,
    mask: Tensor | None = ...,
    causal: bool = ...,
    lengths: Tensor | None = ...,
    dropout: float = ...,
    state: LinearState | None = ...,
    return_state: Literal[False] = ...,
    signed: bool = ...,
) -> Tensor: ...


@overload
def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: str | FeatureMap = ...,
    mask: Tensor | None = ...,
    causal: bool = ...,
    lengths: Tensor | None = ...,
    dropout: float = ...,
    state: LinearState | None = ...,
    return_state: Literal[True],
    signed: bool = ...,
) -> tuple[Tensor, LinearState]: ...


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: str | FeatureMap = "elu",
    mask: Tensor | None = None,
    causal: bool = False,
    lengths: Tensor | None = None,
    dropout: float = 0.0,
    state: LinearState | None = None,
    return_state: bool = False,
    signed: bool = False,
) -> Tensor | tuple[Tensor, LinearState]:
    """``out_i = sum_j phi(q_i) . phi(k_j) v_j / sum_j phi(q_i) . phi(k_j)``, in O(n r e).

    Sums over keys are formed once (bidirectional) or chunk by chunk (causal). A row whose denominator is negligible
    (below 2^-100 in float32, 2^-900 in float64), because it sees no key or, with "relu", shares no feature with one,
    is 0 and has gradient 0. float16 and bfloat16 are computed in float32. Infinities give NaN in the rows that see
    them, as in softmax attention; causal, in up to three rows before, too.

    On a CPU float32 and float64 take kernels that read q, k, v and write the output once. For 8 heads of 64 and n =
    16,384 in float32 they take 45 ms of one core's time (causal 66), where products at the 97 GFLOP/s that blocks reach
    would take 22 (33) and one pass over the memory 10. In one run on two busy cores that was 187 (67) times as fast as
    torch's fused softmax, and 145 (38) times with the backward at n = 8,192. `LinearState` says how to go on to
    sequences that do not fit into memory.

    Reference: Katharopoulos, Vyas, Pappas and Fleuret, Transformers are RNNs, ICML 2020.

    Args:
        q: ``(batch, heads, n, d)``, float32, float64, float16 or bfloat16.
        k: ``(batch, kv_heads, m, d)``; kv_heads divides heads, and head h attends with key head
            ``h // (heads / kv_heads)``.
        v: ``(batch, kv_heads, m, e)``.
        feature_map: phi: "elu" (elu + 1), "relu", "random" (FAVOR+, 2 d features, seed 0), or a `FeatureMap`.
        mask: over keys, ``(batch or 1, heads or 1, 1, m)``: bool (True takes part), or float, which multiplies the
            weight by its exponential, as it does in a softmax. Masks that differ between queries are refused.
        causal: query i sees keys j <= i; needs n = m.
        lengths: ``(batch,)`` int64: keys at or beyond are not seen; with n = m, output rows at or beyond are 0.
        dropout: the probability to drop a key, for all queries alike: its term leaves the numerator (not the
            denominator) and the others are divided by 1 - dropout, so that the output is right in expectation. This
            is dropout on the weights, drawn by column: there are no n x m weights to drop from. torch's generator
            decides.
        state: with causal, the keys that came before (`LinearState`); not changed.
        return_state: whether to return the state after this piece, too.
        signed: take a feature map that is not non-negative. Its denominators can cancel: a `CancellationWarning` says
            how many did (not under torch.compile).

    Returns:
        ``(batch, heads, n, e)`` in the dtype of q; with ``return_state`` a pair of it and a `LinearState`.

    Raises:
        UserError: shapes, dtypes or devices that do not go together; a mask over queries; a map that is not
            non-negative without ``signed``; a state without causal.

    >>> q, k = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)
    >>> linear_attention(q, k, torch.tensor([[[[1.0], [3.0]]]]), causal=True).flatten()
    tensor([1., 2.])
    """
    check(q, k, v)
    check_dropout(dropout)
    if causal:
        check_causal(q, k)
    elif state is not None or return_state:
        raise UserError("expected causal=True with a state: it is what came before; set causal=True")
    if state is not None:
        _check_state(state, q, k, v)
        phi = state.feature_map
        if isinstance(feature_map, FeatureMap) and feature_map is not phi:
            raise UserError(
                "expected the feature map that the state was made with, got another; leave feature_map out"
            )
    else:
        phi = map_of(feature_map, heads=q.shape[1], head_size=q.shape[3], kv_heads=k.shape[1])
    if not phi.non_negative and not signed:
        raise UserError(
            f"expected a non-negative feature map, got {phi.name!r}, whose denominators can be 0 or negative; use"
            " 'elu', or set signed=True to have it all the same"
        )
    compute = _compute_dtype(q)
    weights = _key_weights(mask, lengths, q, k, compute)
    with without_autocast(q):
        x, keys, values = q.to(compute), k.to(compute), v.to(compute)
        if dropout:
            values = values * torch.nn.functional.dropout(values.new_ones(*v.shape[:3], 1), dropout)
        beyond = None
        if lengths is not None and q.shape[2] == k.shape[2]:
            beyond = ~inside(lengths, q.shape[2])[:, None, :, None]
            x = x.masked_fill(beyond, 0.0)
        if weights is not None and weights.shape[1] not in (1, k.shape[1]):
            if state is not None or return_state:
                raise UserError(
                    "expected a mask for all heads with a state of grouped heads, got one for each; a key head has one"
                    " sum for all of its queries' heads"
                )
            keys, values = spread(keys, q.shape[1]), spread(values, q.shape[1])
        before = None if state is None else (state.s, state.z)
        if signed and not phi.non_negative and not torch.compiler.is_compiling():
            _flag(phi, x, keys, weights, causal, None if state is None else state.z)
        out, s, z = _attend(phi, x, keys, values, weights, causal, before)
        if beyond is not None:
            out = out.masked_fill(beyond, 0.0)
    out = out.to(q.dtype)
    return (out, LinearState(s, z, phi)) if return_state else out


def _features(phi: FeatureMap, q: Tensor, k: Tensor) -> tuple[int, Tensor, Tensor]:
    """A map that kernels apply, and what to apply it to: the features themselves where they do not know phi."""
    kind = operators.KINDS.get(type(phi))
    if kind is not None:
        return kind, q, k
    return operators.KINDS[Identity], phi.queries(q), phi.keys(k)


def _attend(
    phi: FeatureMap,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor | None,
    causal: bool,
    before: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The output and the sums, by the kernels where they serve."""
    if weights is not None and type(phi) not in operators.KINDS:
        k = k.masked_fill((weights == 0).unsqueeze(-1), 0.0)
    kind, q, k = _features(phi, q, k)
    s, z = (None, None) if before is None else before
    fixed = weights is None or not weights.requires_grad
    if not fixed or _transformed() or chunked.exporting() or not kernels.serve(q, k, v, weights, s, z):
        return operators.plain(q, k, v, weights, s, z, kind, causal)
    out, _, s, z = operators.linear_attention(q, k, v, weights, s, z, kind, causal)
    return out, s, z


def _transformed() -> bool:
    """Whether torch.func takes apart what is computed: it does not look into the kernels' operator."""
    if torch.compiler.is_compiling() or private.transforms_active is None:
        return False
    return bool(private.transforms_active())


@torch.no_grad()
def _flag(
    phi: FeatureMap, q: Tensor, k: Tensor, weights: Tensor | None, causal: bool, z: Tensor | None
) -> None:
    """Warn of denominators that are small against the sum of their terms' magnitudes."""
    fq, fk = phi.queries(q), phi.keys(k)
    if weights is not None:
        fk = fk.masked_fill((weights == 0).unsqueeze(-1), 0.0) * weights.unsqueeze(-1)

    def totals(q: Tensor, k: Tensor, before: Tensor | None) -> Tensor:
        grown = k.double().cumsum(-2) if causal else k.double().sum(-2, keepdim=True)
        grown = grown if before is None else grown + before.unsqueeze(-2)
        return (q * grown.repeat_interleave(q.shape[1] // k.shape[1], 1)).sum(-1)

    signed = totals(fq, fk, z).abs()
    size = totals(fq.abs(), fk.abs(), None if z is None else z.abs())
    cancelled = int((signed < math.sqrt(torch.finfo(fq.dtype).eps) * size).sum())
    if cancelled:
        warnings.warn(
            f"{cancelled} of {signed.numel()} denominators cancelled to less than half of their digits: these rows of"
            " the output are mostly rounding; use a non-negative feature map",
            CancellationWarning,
            stacklevel=3,
        )
