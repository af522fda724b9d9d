"""Registration with transformers: a module of that name with the same interface stands in for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from layerlab.attention import reference, register_attention
from layerlab.attention.features import EluPlusOne
from layerlab.attention.mechanisms import Linear, Softmax
from layerlab.errors import UserError

BATCH, HEADS, KV_HEADS, N, SIZE = 2, 4, 2, 6, 3


def causal_mask_function(batch: Any, head: Any, q: Any, kv: Any) -> Any:
    return kv <= q


def bidirectional_mask_function(batch: Any, head: Any, q: Any, kv: Any) -> Any:
    return q >= 0


def sdpa_mask(
    batch_size: int,
    kv_length: int,
    mask_function: Callable[..., Any],
    attention_mask: Tensor | None = None,
    q_length: int | None = None,
    cache_position: Tensor | None = None,
    q_offset: int = 0,
    kv_offset: int = 0,
    allow_is_causal_skip: bool = True,
    allow_is_bidirectional_skip: bool = True,
    **_: Any,
) -> Tensor | None:
    """As transformers makes it: True takes part."""
    assert not allow_is_causal_skip
    assert not allow_is_bidirectional_skip
    queries = torch.arange(q_length) + q_offset if cache_position is None else cache_position
    assert queries is not None
    keys = torch.arange(kv_length) + kv_offset
    pairs = mask_function(0, 0, queries[:, None], keys).expand(len(queries), kv_length)
    mask: Tensor = pairs.expand(batch_size, 1, -1, -1)
    if attention_mask is not None:
        mask = mask & attention_mask[:, None, None, :].bool()
    return mask


class Interface(dict[str, Any]):
    registered: ClassVar[dict[str, Any]]

    def __init__(self) -> None:
        super().__init__(self.registered)

    @classmethod
    def register(cls, name: str, function: Any) -> None:
        cls.registered[name] = function


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module, masking = ModuleType("transformers"), ModuleType("transformers.masking_utils")
    attention = type("AttentionInterface", (Interface,), {"registered": {"sdpa": None}})
    masks = type("AttentionMaskInterface", (Interface,), {"registered": {"sdpa": sdpa_mask}})
    vars(module).update(
        {"AttentionInterface": attention, "AttentionMaskInterface": masks, "__version__": "4.53.0"}
    )
    vars(masking).update(
        causal_mask_function=causal_mask_function, bidirectional_mask_function=bidirectional_mask_function
    )
    monkeypatch.setitem(sys.modules, "transformers", module)
    monkeypatch.setitem(sys.modules, "transformers.masking_utils", masking)
    yield module


class Layer(nn.Module):
    def __init__(self, is_causal: bool = True) -> None:
        super().__init__()
        self.is_causal = is_causal


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(n: int = N, m: int = N) -> tuple[Tensor, Tensor, Tensor]:
    return (
        random(BATCH, HEADS, n, SIZE),
        random(BATCH, KV_HEADS, m, SIZE, seed=1),
        random(BATCH, KV_HEADS, m, SIZE, seed=2),
    )


def mask_of(name: str, transformers: Any, n: int = N, m: int = N, old: bool = False, **given: Any) -> Any:
    """As `create_causal_mask` and its like ask for it; ``old``: as they did before version 5."""
    asked = {"mask_function": causal_mask_function, "attention_mask": None, "dtype": torch.float32, **given}
    if old:
        asked["cache_position"] = torch.arange(m - n, m)
    else:
        asked |= {"q_length": n, "q_offset": m - n, "device": "cpu"}
    function = transformers.AttentionMaskInterface()[name]
    return function(batch_size=BATCH, kv_length=m, kv_offset=0, allow_is_causal_skip=True, **asked)


def close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and bool((left - right).abs().max() < 1e-12)


def linear(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
    weights = reference.linear_weights(q, k, EluPlusOne(), **given)
    return reference.apply(weights, v).transpose(1, 2)


PADDING = torch.tensor([[True] * N, [False] * 2 + [True] * (N - 2)])


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("padding", [None, PADDING, torch.ones(BATCH, N).bool()])
@pytest.mark.parametrize("causal", [False, True])
def test_linear_attention_with_padding(
    transformers: Any, causal: bool, padding: Tensor | None, old: bool
) -> None:
    register_attention()
    function = causal_mask_function if causal else bidirectional_mask_function
    mask = mask_of("layerlab_linear", transformers, old=old, mask_function=function, attention_mask=padding)
    attention = transformers.AttentionInterface()["layerlab_linear"]
    q, k, v = heads()
    # A mask means what it says in a layer that says the contrary of itself, too.
    for layer in (Layer(causal), Layer(causal if mask is None else not causal)):
        out, weights = attention(layer, q, k, v, mask, scaling=SIZE**-0.5, dropout=0.0)
        assert weights is None
        assert out.is_contiguous()
        seen = None if padding is None else padding[:, None, None, :]
        assert close(out, linear(q, k, v, mask=seen, causal=causal))
    # No n x m numbers were made.
    assert mask is None or mask.untyped_storage().nbytes() <= BATCH * N


@pytest.mark.parametrize("name", ["softmax", "linear", "linear-relu", "linear-random", "nystrom", "low-rank"])
def test_mechanisms_by_name(transformers: Any, name: str) -> None:
    register_attention("mine", name)
    attention = transformers.AttentionInterface()["mine"]
    q, k, v = heads()
    found = attention(Layer(False), q, k, v, None, scaling=0.7)[0]
    expected = attention.mechanism_of(Layer(), q, k)(q, k, v, scale=0.7).transpose(1, 2)
    assert close(found, expected)
    assert close(found, Softmax()(q, k, v, scale=0.7).transpose(1, 2)) is (
        # 64 landmarks and rank 32 are more than these keys have.
        name in ("softmax", "nystrom", "low-rank")
    )


def test_one_token_after_a_cache(transformers: Any) -> None:
    register_attention()
    attention = transformers.AttentionInterface()["layerlab_linear"]
    q, k, v = heads(1)
    for old, padding in ((False, None), (True, PADDING), (False, PADDING)):
        mask = mask_of("layerlab_linear", transformers, n=1, old=old, attention_mask=padding)
        found = attention(Layer(), q, k, v, mask)[0]
        seen = None if padding is None else padding[:, None, None, :]
        assert close(found, linear(q, k, v, mask=seen))
    # A mask for more keys than there are yet.
    assert close(
        attention(Layer(), q, k[:, :, :4], v[:, :, :4], mask)[0],
        linear(q, k[:, :, :4], v[:, :, :4], mask=seen[..., :4]),
    )


def test_what_a_layer_says_of_causality_counts_without_a_mask(transformers: Any) -> None:
    register_attention()
    attention = transformers.AttentionInterface()["layerlab_linear"]
    q, k, v = heads()
    causal, whole = linear(q, k, v, causal=True), linear(q, k, v)
    assert close(attention(Layer(True), q, k, v, None)[0], causal)
    assert close(attention(Layer(False), q, k, v, None)[0], whole)
    assert close(attention(nn.Identity(), q, k, v, None)[0], causal)
    assert close(attention(Layer(True), q, k, v, None, is_causal=False)[0], whole)
    assert close(attention(Layer(False), q, k, v, None, is_causal=True)[0], causal)


def window(batch: Any, head: Any, q: Any, kv: Any) -> Any:
    return (kv <= q) & (kv > q - 3)


def test_masks_of_another_kind(transformers: Any) -> None:
    register_attention("exact", "softmax")
    register_attention("fast", "linear")
    q, k, v = heads()
    mask = mask_of("exact", transformers, mask_function=window, attention_mask=PADDING)
    pairs = window(0, 0, torch.arange(N)[:, None], torch.arange(N)) & PADDING[:, None, None, :]
    assert torch.equal(mask, pairs)
    found = transformers.AttentionInterface()["exact"](Layer(), q, k, v, mask)[0]
    expected = reference.apply(reference.softmax_weights(q, k, mask=pairs), v).transpose(1, 2)
    assert close(found, expected)
    fast = transformers.AttentionInterface()["fast"]
    with pytest.raises(UserError, match="cannot take a mask that differs between queries"):
        fast(Layer(), q, k, v, mask)
    # A window as long as the sequence is none.
    everything = torch.ones(N, N).tril().bool().expand(BATCH, 1, N, N)
    assert close(fast(Layer(), q, k, v, everything)[0], linear(q, k, v, causal=True))
    as_float = torch.zeros(BATCH, 1, N, N).masked_fill(~everything, torch.finfo(torch.float32).min)
    assert close(fast(Layer(), q, k, v, as_float)[0], linear(q, k, v, causal=True))
    # More tokens after a cache: query i sees the keys up to m - n + i.
    q = q[:, :, 4:]
    later = mask_of("fast", transformers, n=2)
    assert later.shape == (BATCH, 1, 2, N)
    with pytest.raises(UserError, match="cannot take a mask that differs between queries"):
        fast(Layer(), q, k, v, later)
    exact = transformers.AttentionInterface()["exact"](Layer(), q, k, v, later)[0]
    assert close(exact, reference.apply(reference.softmax_weights(q, k, mask=later), v).transpose(1, 2))


def test_every_layer_can_have_its_own(transformers: Any) -> None:
    learned = nn.ModuleList(
        Linear("hedgehog", heads=HEADS, head_size=SIZE, kv_heads=KV_HEADS) for _ in range(2)
    ).double()
    with torch.no_grad():
        learned[1].feature_map.query_weight.mul_(2)
    register_attention("mine", lambda layer: learned[layer.layer_idx])
    attention = transformers.AttentionInterface()["mine"]
    outs = []
    for number in range(2):
        layer = Layer()
        layer.layer_idx = number  # type: ignore[assignment]
        outs.append(attention(layer, *heads(), None)[0])
        assert close(outs[-1], learned[number](*heads(), causal=True).transpose(1, 2))
    assert not close(*outs)
    # A name of ours may be given again.
    register_attention("mine", learned[0])
    assert close(transformers.AttentionInterface()["mine"](Layer(), *heads(), None)[0], outs[0])


def test_gradients_and_dropout_pass_through(transformers: Any) -> None:
    register_attention()
    attention = transformers.AttentionInterface()["layerlab_linear"]
    q, k, v = (x.requires_grad_() for x in heads())
    torch.manual_seed(0)
    out = attention(Layer(), q, k, v, None, dropout=0.5)[0]
    assert not close(out, attention(Layer(), q, k, v, None)[0])
    out.sum().backward()
    assert all(x.grad is not None and bool(x.grad.abs().max() > 0) for x in (q, k, v))


@pytest.mark.parametrize("addition", ["softcap", "s_aux", "position_bias"])
def test_what_no_mechanism_has_is_refused(transformers: Any, addition: str) -> None:
    register_attention()
    with pytest.raises(UserError, match=f"Layer .*{addition}.*use attn_implementation='eager'"):
        transformers.AttentionInterface()["layerlab_linear"](Layer(), *heads(), None, **{addition: 1.0})
    with pytest.raises(UserError, match=r"expected a mask of 4 dimensions, got \(2, 6\)"):
        transformers.AttentionInterface()["layerlab_linear"](Layer(), *heads(), PADDING)


@pytest.mark.parametrize(
    ("name", "choice", "message"),
    [
        ("sdpa", "linear", "expected a name that transformers does not have, got 'sdpa'"),
        ("eager", "linear", "expected a name that transformers does not have, got 'eager'"),
        ("", "linear", "expected a name for transformers, got ''"),
        ("mine", "quadratic", "expected a Mechanism or one of softmax"),
        ("mine", "hedgehog", "expected a mechanism without parameters by name, got 'hedgehog'"),
        ("mine", "linformer", "expected a mechanism without parameters by name, got 'linformer'"),
        ("mine", 3, "expected a Mechanism or one of softmax"),
    ],
)
def test_wrong_registrations_are_refused(transformers: Any, name: str, choice: Any, message: str) -> None:
    before = dict(transformers.AttentionInterface())
    with pytest.raises(UserError) as caught:
        register_attention(name, choice)
    assert message in str(caught.value)
    assert dict(transformers.AttentionInterface()) == before


def test_without_transformers_or_with_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="expected transformers to be installed"):
        register_attention()
    old = ModuleType("transformers")
    vars(old).update({"AttentionInterface": Interface, "__version__": "4.50.0"})
    monkeypatch.setitem(sys.modules, "transformers", old)
    with pytest.raises(UserError, match=r"expected transformers 4\.53 or newer, .* got 4\.50\.0"):
        register_attention()


def test_a_mask_is_not_read_while_it_is_traced(transformers: Any) -> None:
    register_attention()

    def mask(padding: Tensor) -> Any:
        return mask_of("layerlab_linear", transformers, attention_mask=padding)

    everything = torch.ones(BATCH, N).bool()
    assert mask(everything) is None
    torch.compiler.reset()
    traced = torch.compile(mask, fullgraph=True, backend="eager")(everything)
    assert torch.equal(traced, everything[None, :, None, None])
