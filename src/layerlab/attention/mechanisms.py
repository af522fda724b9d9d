"""The mechanisms of attention behind one interface: what stands in the place of ``softmax(q k^T) v``."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from layerlab.attention import reference
from layerlab.attention.arguments import check_whole
from layerlab.attention.features import FeatureMap
from layerlab.attention.features import feature_map as map_of
from layerlab.attention.linear import LinearState, linear_attention
from layerlab.attention.low_rank import randomized_attention
from layerlab.attention.nystrom import nystrom_attention
from layerlab.attention.projection import projected_attention
from layerlab.attention.softmax import softmax_attention
from layerlab.errors import UserError


class Mechanism(nn.Module):
    """``out = P(q, k) v``, head by head; derive from it to bring your own.

    Shapes: q ``(batch, heads, n, d)``, k ``(batch, kv_heads, m, d)``, v ``(batch, kv_heads, m, e)``, output
    ``(batch, heads, n, e)``; kv_heads divides heads.

    >>> class Mean(Mechanism):
    ...     name = "mean"
    ...
    ...     def forward(self, q, k, v, **given):
    ...         return v.mean(2, keepdim=True).expand(-1, -1, q.shape[2], -1)
    >>> Mean().weights(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 4, 4))
    tensor([[[[0.2500, 0.2500, 0.2500, 0.2500],
              [0.2500, 0.2500, 0.2500, 0.2500]]]])
    """

    name: str
    # Whether a mask may differ between queries.
    any_mask: ClassVar[bool] = False
    # Whether a mask over keys may be float.
    float_mask: ClassVar[bool] = False
    # Whether it makes all n x m weights anyway.
    forms_weights: ClassVar[bool] = False
    # Why query i cannot see the keys j <= i only; None if it can.
    not_causal: ClassVar[str | None] = None

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        lengths: Tensor | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """The output.

        Args:
            q: ``(batch, heads, n, d)``.
            k: ``(batch, kv_heads, m, d)``.
            v: ``(batch, kv_heads, m, e)``.
            mask: bool (True takes part) or float (added to the scores), broadcastable to ``(batch, heads, n, m)``.
            causal: query i sees keys j <= i.
            lengths: ``(batch,)``: keys at or beyond are not seen; with n = m, output rows at or beyond are 0.
            scale: of q . k; 1 / sqrt(d) if None.
            dropout: probability.

        Raises:
            UserError: what `supports` says, or inputs that do not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def weights(self, q: Tensor, k: Tensor, **given: Any) -> Tensor:
        """P, ``(batch, heads, n, m)``: the output is P v. ``given``: as in `forward`, without dropout."""
        # The columns of P are the outputs for the values 1, 0, ..., 0 and so on.
        each = torch.eye(k.shape[2], dtype=k.dtype, device=k.device)
        return self(q, k, each.expand(*k.shape[:2], -1, -1), **given)

    def with_weights(
        self, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0, **given: Any
    ) -> tuple[Tensor, Tensor]:
        """The output, and P as it is before dropout."""
        return self(q, k, v, dropout=dropout, **given), self.weights(q, k, **given)

    def supports(
        self, *, causal: bool = False, mask: Tensor | None = None, n: int | None = None, m: int | None = None
    ) -> str | None:
        """Why this is not possible, in a sentence; None if it is.

        Args:
            causal: query i sees keys j <= i.
            mask: of 4 dimensions, or None.
            n: queries.
            m: keys.
        """
        if causal and self.not_causal is not None:
            return (
                f"{self.name} attention cannot be causal: {self.not_causal}; use softmax or linear attention"
            )
        if mask is not None and mask.shape[-2] != 1 and not self.any_mask:
            return (
                f"{self.name} attention cannot take a mask that differs between queries, of shape {tuple(mask.shape)}:"
                " it forms no weight that could be hidden; use a mask over keys, is_causal=True, or softmax attention"
            )
        if mask is not None and mask.dtype is not torch.bool and not (self.any_mask or self.float_mask):
            return (
                f"{self.name} attention cannot add numbers to scores that it does not form; use a bool mask, or"
                " softmax or linear attention"
            )
        if causal and n != m:
            return f"causal attention needs as many queries as keys, not {n} and {m}; decode with a state instead"
        return None

    def decode(
        self, q: Tensor, k: Tensor, v: Tensor, state: LinearState | None = None
    ) -> tuple[Tensor, LinearState]:
        """The next tokens of a causal attention, and the state after them, of constant size."""
        raise UserError(
            f"{self.name} attention has no state of constant size to decode with; use linear attention"
        )

    def extra_repr(self) -> str:
        """The sizes that were chosen."""
        return ""


class Softmax(Mechanism):
    """``P = softmax(scale q k^T + mask)``, by torch's fused kernels. See `layerlab.attention.softmax_attention`.

    >>> Softmax()(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), torch.eye(2)[None, None])
    tensor([[[[0.5000, 0.5000],
              [0.5000, 0.5000]]]])
    """

    name = "softmax"
    any_mask = True
    forms_weights = True

    def forward(self, q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
        """The output, as `Mechanism.forward` says."""
        return softmax_attention(q, k, v, **given)

    def weights(self, q: Tensor, k: Tensor, **given: Any) -> Tensor:
        """P by its definition."""
        return reference.softmax_weights(q, k, **given)

    def with_weights(
        self, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0, **given: Any
    ) -> tuple[Tensor, Tensor]:
        """The output, and the P that it was made with, as it was before dropout."""
        return softmax_attention(q, k, v, dropout=dropout, weights=True, **given)


class Linear(Mechanism):
    """``P_ij = phi(q_i) . phi(k_j) / sum_l phi(q_i) . phi(k_l)``. See `layerlab.attention.linear_attention`.

    A scale other than 1 / sqrt(d) multiplies the queries by its ratio to 1 / sqrt(d), before phi.

    Args:
        feature_map: phi: a name or a `FeatureMap`. Learnable maps ("hedgehog") make this a learnable mechanism.
        heads: of the queries, for "hedgehog".
        head_size: d, for "hedgehog" and "random".
        kv_heads: of the keys, for "hedgehog"; heads if None.
        features: r, for "random".
        seed: for "random".

    >>> Linear("relu")
    Linear('relu')
    >>> Linear().supports(causal=True, n=5, m=5) is None
    True
    """

    name = "linear"
    float_mask = True

    def __init__(
        self,
        feature_map: str | FeatureMap = "elu",
        *,
        heads: int | None = None,
        head_size: int | None = None,
        kv_heads: int | None = None,
        features: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.feature_map = map_of(
            feature_map, heads=heads, head_size=head_size, kv_heads=kv_heads, features=features, seed=seed
        )

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None, **given: Any) -> Tensor:
        """The output, as `Mechanism.forward` says."""
        return linear_attention(_scaled(q, scale), k, v, feature_map=self.feature_map, **given)

    def weights(self, q: Tensor, k: Tensor, *, scale: float | None = None, **given: Any) -> Tensor:
        """P by its definition."""
        return reference.linear_weights(_scaled(q, scale), k, self.feature_map, **given)

    def decode(
        self, q: Tensor, k: Tensor, v: Tensor, state: LinearState | None = None
    ) -> tuple[Tensor, LinearState]:
        """The next tokens of a causal attention, and the state after them.

        Args:
            q: ``(batch, heads, n, d)``.
            k: ``(batch, kv_heads, n, d)``.
            v: ``(batch, kv_heads, n, e)``.
            state: of the tokens before. One token without gradients changes it in place: use what is returned.
        """
        if state is not None and q.shape[2] == 1 and not torch.is_grad_enabled():
            return state.step(q, k, v), state
        return linear_attention(
            q, k, v, feature_map=self.feature_map, causal=True, state=state, return_state=True
        )

    def __repr__(self) -> str:
        # A map without parameters and buffers is told by its name; any other is shown as a part.
        if self.feature_map.state_dict():
            return super().__repr__()
        return f"Linear({self.feature_map.name!r})"


class Nystrom(Mechanism):
    """P from landmarks, the means of segments. See `layerlab.attention.nystrom_attention`.

    Args:
        landmarks: segments of the queries and of the keys.
        pinv_iterations: None for a regularised pseudo-inverse.

    >>> Nystrom(32)
    Nystrom(landmarks=32)
    """

    name = "nystrom"
    not_causal = "a landmark averages a segment, and would tell its first tokens of its last"

    def __init__(self, landmarks: int = 64, pinv_iterations: int | None = None) -> None:
        super().__init__()
        check_whole("landmarks", landmarks, 1)
        if pinv_iterations is not None:
            check_whole("pinv_iterations", pinv_iterations, 1)
        self.landmarks, self.pinv_iterations = landmarks, pinv_iterations

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0, **given: Any) -> Tensor:
        """The output, as `Mechanism.forward` says; dropout leaves out whole keys."""
        v = _without_some_keys(v, dropout)
        return nystrom_attention(q, k, v, self.landmarks, pinv_iterations=self.pinv_iterations, **given)

    def extra_repr(self) -> str:
        """The landmarks."""
        more = "" if self.pinv_iterations is None else f", pinv_iterations={self.pinv_iterations}"
        return f"landmarks={self.landmarks}{more}"


class LowRank(Mechanism):
    """The best P of a rank, by a randomised SVD that never forms P. See `layerlab.attention.randomized_attention`.

    It says what a rank costs in error; it is not faster than softmax attention.

    Args:
        rank: of P.
        oversampling: more columns of the random matrix.
        power_iterations: products with P P^T.
        seed: of the random matrix.

    >>> LowRank(8)
    LowRank(rank=8)
    """

    name = "low-rank"
    not_causal = "an approximation of low rank has weights above the diagonal"

    def __init__(
        self, rank: int = 32, *, oversampling: int = 8, power_iterations: int = 2, seed: int = 0
    ) -> None:
        super().__init__()
        check_whole("rank", rank, 1)
        check_whole("oversampling", oversampling, 0)
        check_whole("power_iterations", power_iterations, 0)
        self.rank, self.oversampling = rank, oversampling
        self.power_iterations, self.seed = power_iterations, seed

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0, **given: Any) -> Tensor:
        """The output, as `Mechanism.forward` says; dropout leaves out whole keys."""
        return randomized_attention(
            q,
            k,
            _without_some_keys(v, dropout),
            self.rank,
            oversampling=self.oversampling,
            power_iterations=self.power_iterations,
            seed=self.seed,
            **given,
        )

    def extra_repr(self) -> str:
        """The rank."""
        return f"rank={self.rank}"


class Linformer(Mechanism):
    """``softmax(scale q (C k)^T) (D v)`` with learned C and D. See `layerlab.attention.projected_attention`.

    At first C and D average ``rank`` segments of the longest sequence, so that values that are all the same come out as
    they are. A shorter sequence uses the first columns of C and D; a longer one is refused.

    Reference: Wang et al., Linformer: Self-Attention with Linear Complexity, arXiv 2006.04768, 2020.

    Args:
        length: the most keys.
        rank: rows of C and D.
        heads: C and D for each of so many heads (those of the keys, or of the queries); None to share them.

    >>> Linformer(6, rank=2)
    Linformer(length=6, rank=2)
    >>> Linformer(6, rank=2).key_projection[0]
    tensor([0.3333, 0.3333, 0.3333, 0.0000, 0.0000, 0.0000],
           grad_fn=<SelectBackward0>)
    """

    name = "linformer"
    not_causal = "each projected key mixes all tokens"

    def __init__(self, length: int, rank: int = 64, *, heads: int | None = None) -> None:
        super().__init__()
        check_whole("length", length, 1)
        check_whole("rank", rank, 1)
        if heads is not None:
            check_whole("heads", heads, 1)
        if rank > length:
            raise UserError(f"expected a rank of at most the length {length}, got {rank}; lower it")
        self.length, self.rank, self.heads = length, rank, heads
        segment = torch.arange(length) * rank // length
        member = (segment == torch.arange(rank)[:, None]).to(torch.get_default_dtype())
        means = member / member.sum(1, keepdim=True)
        means = means if heads is None else means.repeat(heads, 1, 1)
        self.key_projection = nn.Parameter(means)
        self.value_projection = nn.Parameter(means.clone())

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, **given: Any) -> Tensor:
        """The output, as `Mechanism.forward` says."""
        if reason := self.supports(causal=causal, m=k.shape[2]):
            raise UserError(reason)
        c, d = (x[..., : k.shape[2]].to(k.dtype) for x in (self.key_projection, self.value_projection))
        return projected_attention(q, k, v, c, d, softmax=True, **given)

    def supports(
        self, *, causal: bool = False, mask: Tensor | None = None, n: int | None = None, m: int | None = None
    ) -> str | None:
        """As `Mechanism.supports`; and no more keys than there are columns."""
        if m is not None and m > self.length:
            return f"this linformer attention takes at most {self.length} keys, not {m}; make it with a larger length"
        return super().supports(causal=causal, mask=mask, n=n, m=m)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"length={self.length}, rank={self.rank}" + (
            "" if self.heads is None else f", heads={self.heads}"
        )


def _scaled(q: Tensor, scale: float | None) -> Tensor:
    ratio = 1.0 if scale is None else scale * math.sqrt(q.shape[-1])
    return q if math.isclose(ratio, 1.0) else q * ratio


def _without_some_keys(v: Tensor, dropout: float) -> Tensor:
    """Values of which some are 0 and the others larger: dropout on weights that are never formed, by columns."""
    if not dropout:
        return v
    return v * nn.functional.dropout(v.new_ones(*v.shape[:3], 1), dropout)


NAMES = (
    "softmax",
    "linear",
    "linear-relu",
    "linear-random",
    "hedgehog",
    "nystrom",
    "low-rank",
    "linformer",
)
_MAPS = {"linear": "elu", "linear-relu": "relu", "linear-random": "random", "hedgehog": "hedgehog"}


def mechanism(
    given: str | Mechanism,
    *,
    heads: int | None = None,
    head_size: int | None = None,
    kv_heads: int | None = None,
    length: int | None = None,
    seed: int = 0,
) -> Mechanism:
    """The mechanism of a name, or the module itself.

    Args:
        given: "softmax"; "linear" (elu + 1), "linear-relu", "linear-random" (FAVOR+), "hedgehog" (learnable);
            "nystrom" (64 landmarks), "low-rank" (rank 32), "linformer" (learnable, rank 64); or a `Mechanism`.
        heads: of the queries; "hedgehog" needs it.
        head_size: d; "hedgehog" and "linear-random" need it.
        kv_heads: of the keys; heads if None.
        length: the most keys; "linformer" needs it.
        seed: of the random numbers of "linear-random" and "low-rank".

    Raises:
        UserError: another name, or a size that the name needs is missing.

    >>> mechanism("nystrom"), mechanism("linformer", length=100)
    (Nystrom(landmarks=64), Linformer(length=100, rank=64))
    """
    if isinstance(given, Mechanism):
        return given
    if not isinstance(given, str) or given not in NAMES:
        got = repr(given) if isinstance(given, (str, int, float)) else type(given).__name__
        raise UserError(f"expected a Mechanism or one of {', '.join(NAMES)}, got {got}")
    if given in _MAPS:
        return Linear(_MAPS[given], heads=heads, head_size=head_size, kv_heads=kv_heads, seed=seed)
    if given == "linformer":
        if length is None:
            raise UserError(
                "expected the longest sequence for 'linformer', whose size depends on it; give length="
            )
        return Linformer(length, min(64, length))
    if given == "low-rank":
        return LowRank(seed=seed)
    return Softmax() if given == "softmax" else Nystrom()
