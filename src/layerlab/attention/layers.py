"""Multi-head attention whose mechanism is a choice; it stands where `torch.nn.MultiheadAttention` stood."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.attention import masks
from layerlab.attention.arguments import check_dropout
from layerlab.attention.heads import attend, merge_heads, project, split_heads
from layerlab.attention.linear import LinearState
from layerlab.attention.mechanisms import Mechanism
from layerlab.attention.mechanisms import mechanism as mechanism_of
from layerlab.errors import UserError


class MultiheadAttention(nn.Module):
    r"""Multi-head attention, ``out = concat_h(A(x W_q^T, y W_k^T, z W_v^T)_h) W_o^T``, A being any mechanism.

    With "softmax" it computes what `torch.nn.MultiheadAttention` does; names, shapes and initial values of the
    parameters are the same too, so that its ``state_dict`` goes in as it is. It can take that layer's place in
    `torch.nn.TransformerEncoderLayer`, `TransformerDecoderLayer` and the like, in training and in evaluation: torch's
    own fast path, which would compute softmax attention from the weights without asking this layer, stays off.
    (Build `torch.nn.TransformerEncoder` with ``enable_nested_tensor=False`` then; torch warns otherwise.)

    Differences to torch's: the mechanism comes third and what follows is given by name, ``batch_first`` is True, and a
    query that sees no key gets 0, not NaN, before the output's projection.

    Reference: Vaswani et al., Attention Is All You Need, NeurIPS 2017. Grouped heads: Ainslie et al., GQA, EMNLP 2023.

    Args:
        embed_dim: size of query and output.
        num_heads: heads; divides embed_dim.
        mechanism: a name (see `layerlab.attention.mechanism`) or a `Mechanism`.
        dropout: in training, as the mechanism has it: of the weights with "softmax".
        bias: whether the projections have one.
        add_bias_kv: a learned key and value that every query sees besides.
        add_zero_attn: a key and a value of zeros that every query sees besides.
        num_kv_heads: heads of keys and values; divides num_heads, and is num_heads if None.
        kdim: size of the key; embed_dim if None.
        vdim: size of the value; embed_dim if None.
        batch_first: whether tensors are ``(batch, length, size)`` or ``(length, batch, size)``.
        length: the longest sequence, for the mechanisms whose size depends on it ("linformer").
        seed: of the mechanism's own random numbers; the projections come from torch's generator.
        device: of the parameters.
        dtype: of the parameters.

    Shapes:
        query ``(batch, n, embed_dim)``, key ``(batch, m, kdim)``, value ``(batch, m, vdim)``, or without a batch;
        output as query. A nested tensor attends to itself, ``layer(x, x, x)``.

    Raises:
        UserError: sizes that do not go together; what the mechanism cannot do, such as a mask over pairs with "linear".

    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(2, 5, 8)
    >>> layer = MultiheadAttention(8, 2, "linear")
    >>> layer(x, x, x, is_causal=True)[0].shape
    torch.Size([2, 5, 8])
    >>> torchs = nn.MultiheadAttention(8, 2, batch_first=True)
    >>> ours = MultiheadAttention.from_torch(torchs)
    >>> torch.allclose(ours(x, x, x)[0], torchs(x, x, x)[0], atol=1e-6)
    True
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mechanism: str | Mechanism = "softmax",
        *,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        num_kv_heads: int | None = None,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
        length: int | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        if min(embed_dim, num_heads, kv_heads, self.kdim, self.vdim) < 1:
            raise UserError(
                f"expected sizes and heads of at least 1, got embed_dim={embed_dim}, num_heads={num_heads},"
                f" num_kv_heads={num_kv_heads}, kdim={kdim}, vdim={vdim}"
            )
        if embed_dim % num_heads:
            raise UserError(
                f"expected an embed_dim that num_heads divides, got {embed_dim} and {num_heads} heads; change one"
            )
        if num_heads % kv_heads:
            raise UserError(
                f"expected a num_kv_heads that divides num_heads, got {kv_heads} and {num_heads}; change one"
            )
        check_dropout(dropout)
        self.embed_dim, self.num_heads, self.num_kv_heads = embed_dim, num_heads, kv_heads
        self.head_dim = embed_dim // num_heads
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        inner = kv_heads * self.head_dim
        self._rows = (embed_dim, inner, inner)

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))

        packed = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = empty(sum(self._rows), embed_dim) if packed else None
        self.q_proj_weight = None if packed else empty(embed_dim, embed_dim)
        self.k_proj_weight = None if packed else empty(inner, self.kdim)
        self.v_proj_weight = None if packed else empty(inner, self.vdim)
        self.in_proj_bias = empty(sum(self._rows)) if bias else None
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self.bias_k = empty(1, 1, inner) if add_bias_kv else None
        self.bias_v = empty(1, 1, inner) if add_bias_kv else None
        self.reset_parameters()
        self.mechanism = mechanism_of(
            mechanism, heads=num_heads, head_size=self.head_dim, kv_heads=kv_heads, length=length, seed=seed
        ).to(device=device, dtype=dtype)
        self.register_load_state_dict_pre_hook(_keep_mechanism)

    def reset_parameters(self) -> None:
        """Xavier-uniform projections, zero biases, drawn in the order in which torch's layer draws them."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                nn.init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                nn.init.zeros_(bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                nn.init.xavier_normal_(extra)

    @property
    def _qkv_same_embed_dim(self) -> bool:
        """Asked by torch's encoder layer before it takes its fast path, past this layer: never."""
        return False

    @classmethod
    def from_torch(
        cls,
        module: nn.MultiheadAttention,
        mechanism: str | Mechanism = "softmax",
        *,
        length: int | None = None,
        seed: int = 0,
    ) -> MultiheadAttention:
        """The same layer with another mechanism, on copies of the weights.

        Args:
            module: torch's layer.
            mechanism: a name or a `Mechanism`.
            length: the longest sequence, for "linformer".
            seed: of the mechanism's own random numbers.

        Raises:
            UserError: another module.

        >>> MultiheadAttention.from_torch(nn.MultiheadAttention(8, 2, kdim=3), "linear").kdim
        3
        """
        if not isinstance(module, nn.MultiheadAttention):
            raise UserError(f"expected a torch.nn.MultiheadAttention, got {type(module).__name__}")
        weight = module.out_proj.weight
        layer = cls(
            module.embed_dim,
            module.num_heads,
            mechanism,
            dropout=module.dropout,
            bias=module.in_proj_bias is not None,
            add_bias_kv=module.bias_k is not None,
            add_zero_attn=module.add_zero_attn,
            kdim=module.kdim,
            vdim=module.vdim,
            batch_first=module.batch_first,
            length=length,
            seed=seed,
            device=weight.device,
            dtype=weight.dtype,
        )
        layer.load_state_dict(module.state_dict())
        wanted = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(wanted.get(name, parameter.requires_grad))
        return layer.train(module.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool | None = None,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output and, if wanted, the weights. Masks are torch's layer's: True hides.

        Args:
            query: ``(batch, n, embed_dim)``, ``(n, batch, embed_dim)`` without batch_first, or ``(n, embed_dim)``.
            key: the same with m and kdim.
            value: the same with m and vdim.
            key_padding_mask: ``(batch, m)`` or ``(m,)``: bool (True hides a key) or float (added to the scores).
            need_weights: whether to return the weights as well. None: as torch's layer does, with "softmax"; not with a
                mechanism that does without these n x m numbers.
            attn_mask: ``(n, m)`` or ``(batch * heads, n, m)``: bool (True hides) or float.
            average_attn_weights: the mean of the heads' weights, or each.
            is_causal: query i sees keys j <= i; an attn_mask that is also given must say the same.

        Returns:
            The output, shaped as query, and the weights ``(batch, n, m)``, ``(batch, heads, n, m)`` or None; those of
            "softmax" as they were before dropout.
        """
        need_weights = self.mechanism.forms_weights if need_weights is None else need_weights
        if query.is_nested or key.is_nested or value.is_nested:
            return self._nested(query, key, value, key_padding_mask, attn_mask, need_weights, is_causal)
        batched = self._check(query, key, value)
        itself = query is key and key is value
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self._project(query, key, value, itself)
        keys, pairs = masks.from_layers(key_padding_mask, attn_mask, q, k)
        k, v, extra_keys = self._with_extra_keys(k, v)
        out, weights = attend(
            q,
            k,
            v,
            self.mechanism,
            keys=keys,
            pairs=pairs,
            causal=is_causal,
            dropout=self.dropout if self.training else 0.0,
            extra_keys=extra_keys,
            need_weights=need_weights,
        )
        out = self.out_proj(merge_heads(out))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def decode(self, x: Tensor, state: LinearState | None = None) -> tuple[Tensor, LinearState]:
        """The next piece of a causal self-attention, token by token or many at once, after what came before.

        Args:
            x: ``(batch, n, embed_dim)``, or ``(n, batch, embed_dim)`` without batch_first.
            state: what `decode` returned for the piece before; None at the start. It may be changed.

        Returns:
            What ``layer(x, x, x, is_causal=True)`` would give at these places, and the next state, of constant size.

        Raises:
            UserError: the mechanism has no state of constant size; the layer has extra keys; inputs that do not fit.

        >>> _ = torch.manual_seed(0)
        >>> layer, x, state, tokens = MultiheadAttention(8, 2, "linear").eval(), torch.randn(1, 5, 8), None, []
        >>> for i in range(5):
        ...     token, state = layer.decode(x[:, i : i + 1], state)
        ...     tokens.append(token)
        >>> torch.allclose(torch.cat(tokens, 1), layer(x, x, x, is_causal=True)[0], atol=1e-6)
        True
        """
        if self.bias_k is not None or self.add_zero_attn:
            raise UserError("expected a layer without add_bias_kv and add_zero_attn to decode with, got one")
        if not self._check(x, x, x):
            raise UserError(f"expected 3 dimensions to decode, got {tuple(x.shape)}; add a batch of 1")
        x = x if self.batch_first else x.transpose(0, 1)
        out, state = self.mechanism.decode(*self._project(x, x, x, True), state)
        out = self.out_proj(merge_heads(out))
        return out if self.batch_first else out.transpose(0, 1), state

    def extra_repr(self) -> str:
        """The sizes, and what differs from the default."""
        defaults = {
            "num_kv_heads": self.num_heads,
            "kdim": self.embed_dim,
            "vdim": self.embed_dim,
            "dropout": 0.0,
            "add_zero_attn": False,
            "batch_first": True,
        }
        parts = [f"{self.embed_dim}, {self.num_heads}"]
        parts += [
            f"{name}={getattr(self, name)}" for name in defaults if getattr(self, name) != defaults[name]
        ]
        parts += ["add_bias_kv=True"] * (self.bias_k is not None)
        return ", ".join(parts)

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> bool:
        """Whether there is a batch."""
        given = (("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim))
        for name, x, size in given:
            if x.ndim not in (2, 3) or x.ndim != query.ndim or x.shape[-1] != size:
                raise UserError(
                    f"expected {name} of 3 dimensions (2 without a batch), the last of {size}, got {tuple(x.shape)}"
                )
            weight = self.out_proj.weight
            if x.device != weight.device:
                raise UserError(f"expected {name} on {weight.device}, where the layer is, got {x.device}")
            if x.dtype != weight.dtype and not (
                x.is_floating_point() and torch.is_autocast_enabled(x.device.type)
            ):
                raise UserError(
                    f"expected {name} in the layer's {weight.dtype}, got {x.dtype}; convert one of them"
                )
        if key.shape[:-1] != value.shape[:-1]:
            raise UserError(
                f"expected as many values as keys, got {tuple(value.shape)} and {tuple(key.shape)}"
            )
        batch = 0 if self.batch_first else 1
        if query.ndim == 3 and query.shape[batch] != key.shape[batch]:
            raise UserError(
                f"expected query and key of one batch size (dimension {batch}, batch_first={self.batch_first}), got"
                f" {tuple(query.shape)} and {tuple(key.shape)}"
            )
        return query.ndim == 3

    def _project(
        self, query: Tensor, key: Tensor, value: Tensor, itself: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = project(
            query,
            key,
            value,
            self.in_proj_weight
            if self.in_proj_weight is not None
            else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight),
            self.in_proj_bias,
            self._rows,
            itself,
        )
        return (
            split_heads(q, self.num_heads),
            split_heads(k, self.num_kv_heads),
            split_heads(v, self.num_kv_heads),
        )

    def _with_extra_keys(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, int]:
        """Keys and values with the learned one and the one of zeros behind, and how many these are."""
        batch, count = k.shape[0], k.shape[2]
        if self.bias_k is not None and self.bias_v is not None:
            # Under autocast the projected keys are narrower than the parameters.
            k, v = (
                torch.cat([x, split_heads(extra, self.num_kv_heads).expand(batch, -1, -1, -1).to(x.dtype)], 2)
                for x, extra in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            k, v = functional.pad(k, (0, 0, 0, 1)), functional.pad(v, (0, 0, 0, 1))
        return k, v, k.shape[2] - count

    def _nested(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        need_weights: bool,
        is_causal: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Self-attention in sequences of different lengths: padded, attended to, and cut again."""
        if not (query is key and key is value and self.batch_first):
            raise UserError(
                "expected layer(x, x, x) and batch_first=True for a nested tensor; pad it otherwise"
            )
        if key_padding_mask is not None or attn_mask is not None:
            raise UserError("expected no mask with a nested tensor, which has lengths; pad it to give masks")
        padded = torch.nested.to_padded_tensor(query, 0.0)
        sizes = [len(piece) for piece in query.unbind()]
        hidden = torch.arange(padded.shape[1]) >= torch.tensor(sizes)[:, None]
        out, weights = self(
            padded,
            padded,
            padded,
            key_padding_mask=hidden.to(padded.device),
            need_weights=need_weights,
            is_causal=is_causal,
        )
        pieces = [row[:size] for row, size in zip(out, sizes, strict=True)]
        return torch.nested.as_nested_tensor(pieces, layout=query.layout), weights


def _keep_mechanism(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """A state_dict of torch's layer says nothing of the mechanism: it keeps what it has."""
    if not any(name.startswith(f"{prefix}mechanism.") for name in state_dict):
        for name, tensor in module.get_submodule("mechanism").state_dict().items():
            state_dict[f"{prefix}mechanism.{name}"] = tensor
