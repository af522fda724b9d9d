"""Attention mechanisms in Hugging Face's models, by name (transformers is imported only when used)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from layerlab.attention import masks
from layerlab.attention.mechanisms import Mechanism, mechanism
from layerlab.errors import UserError

Choice: TypeAlias = str | Mechanism | Callable[[nn.Module], Mechanism]

# What some models add to attention, and none of ours has.
_ADDITIONS = {
    "softcap": "bounds its scores",
    "s_aux": "has a sink",
    "position_bias": "adds a bias of positions to its scores",
}


def register_attention(name: str = "layerlab_linear", choice: Choice = "linear") -> None:
    """Make a mechanism an attention implementation of Hugging Face's transformers, under a name of your own.

    ``model.set_attn_implementation(name)`` then puts it into a model, ``from_pretrained(...,
    attn_implementation=name)`` into one that is loaded. The model brings its heads (grouped ones too), scale, padding
    and whether it is causal. Where a mechanism cannot do what the model asks for (a sliding window with "linear"), the
    model's forward raises a UserError. Attention weights are not returned.

    Causal "linear" attention takes a whole sequence, or one new token after a cache of keys. That cache is
    transformers' own, so that a step costs its length; for constant time a token see `MultiheadAttention.decode`.

    Reference: transformers' AttentionInterface and AttentionMaskInterface (4.53 and newer). A model whose code does
    not ask the interface for its attention (BERT before version 5) keeps its own.

    Args:
        name: under which transformers is to know it.
        choice: the name of a mechanism without parameters; a `Mechanism` that all layers share; or a function of the
            model's attention module that returns the layer's own (``module.layer_idx`` tells which it is).

    Raises:
        UserError: transformers is not installed, or too old; a name that it has already; an unknown or a learnable
            mechanism by name.
    """
    transformers = _transformers()
    if not isinstance(name, str) or not name:
        raise UserError(f"expected a name for transformers, got {name!r}")
    known = transformers.AttentionInterface()
    if name == "eager" or (name in known and not isinstance(known[name], _Attention)):
        raise UserError(f"expected a name that transformers does not have, got {name!r}; choose another")
    if isinstance(choice, str) and any(
        True for _ in mechanism(choice, heads=1, head_size=1, length=1).parameters()
    ):
        raise UserError(
            f"expected a mechanism without parameters by name, got {choice!r}; give a function of the model's attention"
            " module that returns its own"
        )
    if not isinstance(choice, str) and not callable(choice):
        mechanism(choice)
    transformers.AttentionInterface.register(name, _Attention(choice))
    kinds = importlib.import_module("transformers.masking_utils")
    every = transformers.AttentionMaskInterface()["sdpa"]
    # Older versions have no mask function for bidirectional attention.
    functions = KeysAlone(
        kinds.causal_mask_function, getattr(kinds, "bidirectional_mask_function", None), every
    )
    transformers.AttentionMaskInterface.register(name, functions)


def _transformers() -> Any:
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        raise UserError(
            "expected transformers to be installed for this; pip install 'transformers>=4.53'"
        ) from None
    if not hasattr(transformers, "AttentionInterface") or not hasattr(transformers, "AttentionMaskInterface"):
        version = getattr(transformers, "__version__", "of an unknown version")
        raise UserError(
            f"expected transformers 4.53 or newer, which knows the masks of new mechanisms, got {version}; upgrade it"
        )
    return transformers


@dataclass(frozen=True, eq=False)
class KeysAlone:
    """A mask function of transformers whose masks are over keys alone, wherever they can be said so.

    Attributes:
        causal: transformers' function of causal masks.
        bidirectional: that of masks that hide nothing, if there is one.
        every: what makes a mask over pairs, of any function.
    """

    causal: Callable[..., Any]
    bidirectional: Callable[..., Any] | None
    every: Callable[..., Tensor | None]

    def __call__(
        self,
        *,
        batch_size: int,
        kv_length: int,
        mask_function: Callable[..., Any],
        q_length: int | None = None,
        attention_mask: Tensor | None = None,
        **given: Any,
    ) -> Tensor | None:
        """The mask; True takes part.

        Args:
            batch_size: of the input.
            kv_length: m, keys.
            mask_function: causal, bidirectional or another.
            q_length: n, queries; None in versions that give ``cache_position`` instead.
            attention_mask: ``(batch, m)``, False for padding.
            given: what else transformers' mask functions take.

        Returns:
            For bidirectional attention the keys that are no padding, ``(batch, 1, 1, m)``; for causal attention the
            same with one dimension more in front, which says so, or None for all keys; for anything else (queries
            after a cache, too) what transformers makes for scaled_dot_product_attention, ``(batch, 1, n, m)``.
        """
        queries = len(given["cache_position"]) if q_length is None else q_length
        offset = given["cache_position"][0] if q_length is None else given.get("q_offset", 0)
        causal = mask_function is self.causal
        plain = causal or mask_function is self.bidirectional
        plain = plain and (attention_mask is None or attention_mask.shape[-1] == kv_length)
        # Causal among as many keys as queries, from the first on.
        if not plain or (causal and (queries != kv_length or int(offset) != 0)):
            given |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
            given |= {} if q_length is None else {"q_length": q_length}
            given |= {"mask_function": mask_function, "attention_mask": attention_mask}
            return self.every(batch_size=batch_size, kv_length=kv_length, **given)
        if causal and (attention_mask is None or self._whole(attention_mask)):
            return None
        if attention_mask is None:
            attention_mask = torch.ones(1, 1, dtype=torch.bool, device=given.get("device"))
        keys = attention_mask.bool()[:, None, None, :].expand(batch_size, 1, 1, kv_length)
        # Models say in too many ways whether they are causal, and some say the contrary where a mask is given.
        return keys.unsqueeze(0) if causal else keys

    @staticmethod
    def _whole(attention_mask: Tensor) -> bool:
        return not torch.compiler.is_compiling() and bool(attention_mask.all())


@dataclass(frozen=True, eq=False)
class _Attention:
    """An attention function of transformers: ``(module, query, key, value, mask, ...) -> (output, None)``."""

    choice: Choice
    made: dict[Any, Mechanism] = field(default_factory=dict)

    def mechanism_of(self, module: nn.Module, query: Tensor, key: Tensor) -> Mechanism:
        """The mechanism of one layer."""
        if isinstance(self.choice, Mechanism):
            return self.choice
        if not isinstance(self.choice, str):
            return mechanism(self.choice(module))
        sizes = (query.shape[1], key.shape[1], query.shape[3], query.device)
        if sizes not in self.made:
            heads, kv_heads, head_size, device = sizes
            made = mechanism(self.choice, heads=heads, head_size=head_size, kv_heads=kv_heads)
            self.made[sizes] = made.to(device)
        return self.made[sizes]

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        is_causal: bool | None = None,
        **given: Any,
    ) -> tuple[Tensor, None]:
        for name, what in _ADDITIONS.items():
            if given.get(name) is not None:
                raise UserError(
                    f"{type(module).__name__} {what} ({name}); use attn_implementation='eager' for it"
                )
        chosen = self.mechanism_of(module, query, key)
        n, m = query.shape[2], key.shape[2]
        mask = attention_mask
        if mask is None:
            causal = n > 1 and bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
        else:
            # A mask of 4 dimensions hides all that is to be hidden; for one of 5 see `KeysAlone`.
            causal = mask.ndim == 5
            if mask.ndim not in (4, 5):
                raise UserError(
                    f"expected a mask of 4 dimensions, got {tuple(mask.shape)}; give the model one of (batch, m)"
                )
            mask = (mask.squeeze(0) if causal else mask)[..., :m]
            if not chosen.any_mask and not torch.compiler.is_compiling():
                mask, causal = masks.plain(mask, causal, n, m)
        if reason := chosen.supports(causal=causal, mask=mask, n=n, m=m):
            raise UserError(reason)
        out: Tensor = chosen(query, key, value, mask=mask, causal=causal, scale=scaling, dropout=dropout)
        return out.transpose(1, 2).contiguous(), None
