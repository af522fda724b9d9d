"""Linear attention in plain torch, put into a model that was written for softmax attention.

    from attention import load

    model = load(my_model())

`load` exchanges the attention of the modules named in `SWAPS` and loads the weights from the file beside this one.
Where softmax attention computes ``softmax(q kᵀ) v``, these modules then compute ``φ(q) (φ(k)ᵀ v)`` over its sum, in
time and memory that grow with the length, not with its square. The weights of attention are never formed: a module that
is asked for them returns None. Dropout of attention weights is left out.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Path of a module → its feature map and sizes.
SWAPS: dict[str, dict[str, Any]] = {}

_CHUNK = 128


class LinearAttention(nn.Module):
    """``Σ_j φ(q_i)·φ(k_j) v_j / Σ_j φ(q_i)·φ(k_j)`` for one map φ: "elu", "relu", "random" or "hedgehog"."""

    directions: Tensor

    def __init__(self, phi: str, heads: int, kv_heads: int, head_size: int, features: int) -> None:
        super().__init__()
        self.phi = phi
        if phi == "hedgehog":
            self.query_weight = nn.Parameter(torch.eye(head_size).repeat(heads, 1, 1))
            self.key_weight = nn.Parameter(torch.eye(head_size).repeat(kv_heads, 1, 1))
        elif phi == "random":
            self.register_buffer("directions", torch.zeros(features, head_size))

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, key_weights: Tensor | None, causal: bool, scale: float
    ) -> Tensor:
        """q ``(batch, heads, n, d)``, k and v ``(batch, kv_heads, m, ·)``, key_weights ``(batch, 1 or heads, m)``."""
        dtype = q.dtype
        q, k, v = (x if x.dtype == torch.float64 else x.float() for x in (q, k, v))
        groups = q.shape[1] // k.shape[1]
        fq = self.queries(q * (scale * math.sqrt(q.shape[-1])))
        fk = self.keys(k).repeat_interleave(groups, 1)
        v = v.repeat_interleave(groups, 1)
        if key_weights is not None:
            fk = fk * key_weights[..., None].to(fk.dtype)
        return (_causal(fq, fk, v) if causal else _both_ways(fq, fk, v)).to(dtype)

    def queries(self, x: Tensor) -> Tensor:
        """φ of queries, each times a number that cancels."""
        if self.phi == "elu":
            return _elu_plus_one(x - x.detach().amax(-1, keepdim=True).clamp(max=0))
        if self.phi == "random":
            exponents = self._exponents(x)
            return (exponents - exponents.detach().amax(-1, keepdim=True)).exp()
        return _hedgehog(x, self.query_weight) if self.phi == "hedgehog" else x.relu()

    def keys(self, x: Tensor) -> Tensor:
        """φ of keys, all times one number that cancels."""
        if self.phi == "elu":
            return _elu_plus_one(x)
        if self.phi == "random":
            return (self._exponents(x) - self.directions.square().sum(1).max() / 4).exp()
        return _hedgehog(x, self.key_weight) if self.phi == "hedgehog" else x.relu()

    def _exponents(self, x: Tensor) -> Tensor:
        y = x / x.shape[-1] ** 0.25
        return y @ self.directions.to(y.dtype).T - y.square().sum(-1, keepdim=True) / 2


def _elu_plus_one(x: Tensor) -> Tensor:
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def _hedgehog(x: Tensor, weight: Tensor) -> Tensor:
    y = x @ weight.to(x.dtype).transpose(-1, -2)
    return torch.cat([y, -y], -1).softmax(-1)


def _both_ways(fq: Tensor, fk: Tensor, v: Tensor) -> Tensor:
    return _over(fq @ (fk.transpose(-1, -2) @ v), fq @ fk.sum(-2)[..., None])


def _causal(fq: Tensor, fk: Tensor, v: Tensor) -> Tensor:
    """Chunk by chunk: what came before through sums, what is in the chunk through its small square of weights."""
    n = fq.shape[-2]
    fq, fk, v = (functional.pad(x, (0, 0, 0, -n % _CHUNK)).unflatten(-2, (-1, _CHUNK)) for x in (fq, fk, v))
    sums, totals = (fk.transpose(-1, -2) @ v).cumsum(2), fk.sum(-2).cumsum(2)
    sums, totals = (torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1]], 2) for x in (sums, totals))
    weights = (fq @ fk.transpose(-1, -2)).tril()
    numerator = fq @ sums + weights @ v
    denominator = fq @ totals[..., None] + weights.sum(-1, keepdim=True)
    return _over(numerator, denominator).flatten(2, 3)[..., :n, :]


def _over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The ratio, and 0 in rows that see no key."""
    nothing = denominator < (2.0**-900 if denominator.dtype == torch.float64 else 2.0**-100)
    return (numerator / denominator.masked_fill(nothing, 1.0)).masked_fill(nothing, 0.0)


class _Exchange(TorchFunctionMode):
    """Inside, attention is computed by `linear`."""

    def __init__(self, linear: LinearAttention) -> None:
        super().__init__()
        self._linear = linear

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            return self._attention(*args, **(kwargs or {}))
        if func is functional.multi_head_attention_forward:
            return self._multihead(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        lead = query.shape[:-2]
        if query.dim() == 3:
            query, key, value = (x.unsqueeze(1) for x in (query, key, value))
            attn_mask = (
                attn_mask.unsqueeze(1) if attn_mask is not None and attn_mask.dim() == 3 else attn_mask
            )
        if attn_mask is not None and attn_mask.dim() < 4:
            attn_mask = attn_mask.reshape((1,) * (4 - attn_mask.dim()) + attn_mask.shape)
        key_weights, causal = _plain(attn_mask, is_causal, query.shape[-2], key.shape[-2])
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        out: Tensor = self._linear(query, key, value, key_weights, causal, factor)
        return out.reshape(*lead, *out.shape[-2:])

    def _multihead(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        embed_dim_to_check: int,
        num_heads: int,
        in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None,
        bias_k: Tensor | None,
        bias_v: Tensor | None,
        add_zero_attn: bool,
        dropout_p: float,
        out_proj_weight: Tensor,
        out_proj_bias: Tensor | None,
        **given: Any,
    ) -> tuple[Tensor, None]:
        """As `torch.nn.functional.multi_head_attention_forward`: sequence first."""
        if given.get("use_separate_proj_weight"):
            weights = [given[f"{name}_proj_weight"] for name in "qkv"]
        else:
            assert in_proj_weight is not None
            weights = list(in_proj_weight.chunk(3))
        biases = [None] * 3 if in_proj_bias is None else list(in_proj_bias.chunk(3))
        single = query.dim() == 2
        sequences = [x.unsqueeze(1) if single else x for x in (query, key, value)]
        # (n, batch, heads · d) to (batch, heads, n, d)
        q, k, v = (
            functional.linear(x, w, b).unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3)
            for x, w, b in zip(sequences, weights, biases, strict=True)
        )
        mask, padding, causal = (
            given.get("attn_mask"),
            given.get("key_padding_mask"),
            given.get("is_causal", False),
        )
        if causal and not given.get("need_weights", True):
            # A hint that the mask is the causal one: torch does not read it then.
            mask = None
        if mask is not None:
            # Of three dimensions it has one for each sample and head.
            mask = _numbers(mask, q.dtype)
            mask = mask[None, None] if mask.dim() == 2 else mask.unflatten(0, (-1, num_heads))
        key_weights, causal = _plain(mask, mask is None and causal, q.shape[2], k.shape[2])
        if padding is not None:
            seen = _numbers(padding, q.dtype).exp()
            seen = seen[None, None] if seen.dim() == 1 else seen[:, None]
            key_weights = seen if key_weights is None else key_weights * seen
        out = self._linear(q, k, v, key_weights, causal, 1 / math.sqrt(q.shape[-1]))
        out = functional.linear(out.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias)
        return out.squeeze(1) if single else out, None


def _numbers(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of `torch.nn.MultiheadAttention`, where True hides, as numbers that are added to scores."""
    return (
        mask if mask.dtype != torch.bool else torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
    )


def _plain(mask: Tensor | None, causal: bool, n: int, m: int) -> tuple[Tensor | None, bool]:
    """What each key is multiplied by, ``(batch, heads, m)``, and whether later keys are hidden.

    Raises:
        ValueError: the mask differs between queries in another way than a causal one.
    """
    if causal and n != m:
        raise ValueError(f"linear attention is causal for as many queries as keys, not {n} and {m}")
    if mask is None:
        return None, causal
    weights = mask if mask.dtype == torch.bool else mask.exp()
    if weights.shape[-2] == 1 or bool((weights == weights[..., :1, :]).all()):
        return weights[..., 0, :], causal
    # The last query of a causal mask sees every key that is not padding.
    keys = weights[..., -1:, :]
    if n != m or not bool((weights == keys.expand_as(weights).tril()).all()):
        raise ValueError(
            "linear attention takes masks over keys and causal ones; this one differs between queries"
        )
    return keys[..., 0, :], True


def install(model: nn.Module, swaps: dict[str, dict[str, Any]] | None = None) -> nn.Module:
    """Exchanges the attention of some modules, by default those in `SWAPS`.

    Their maps become part of the model, under the name ``linear_attention`` in each module.
    """
    for path, swap in (SWAPS if swaps is None else swaps).items():
        module = model.get_submodule(path)
        like = next(module.parameters(), torch.zeros(()))
        linear = LinearAttention(**swap).to(like.device, like.dtype)
        module.add_module("linear_attention", linear.train(module.training))
        module.forward = functools.partial(_forward, module, module.forward)
    for module in model.modules():
        # torch's fused encoder does not call the modules inside it. It takes turns only with these activations...
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        # ...and hands it nested tensors.
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
    return model


def _forward(module: Any, forward: Any, *args: Any, **kwargs: Any) -> Any:
    with _Exchange(module.linear_attention):
        return forward(*args, **kwargs)


def load(model: nn.Module, weights: str | Path | None = None) -> nn.Module:
    """`install`, and the weights of the model and of the maps, by default those beside this file."""
    from safetensors.torch import load_file

    beside = Path(__file__).with_name("model.safetensors")
    install(model).load_state_dict(load_file(beside if weights is None else weights))
    return model
