"""Our mechanisms in the models of transformers: tiny GPT-2, BERT and Llama of random weights; nothing is fetched."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.attention import register_attention
from layerlab.errors import UserError

transformers: Any = pytest.importorskip(
    "transformers", reason="transformers is not a dependency; test_interop.py tests against its interface"
)
pytestmark = pytest.mark.filterwarnings("ignore")

VOCABULARY, N = 50, 9


def gpt2() -> Any:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=32, n_embd=24, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def llama(**options: Any) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        **options,
    )
    return transformers.LlamaForCausalLM(config)


def bert() -> Any:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
    )
    return transformers.BertForMaskedLM(config)


def model_of(make: Any, name: str) -> Any:
    torch.manual_seed(0)
    model = make().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Away from the tiny initial weights, with which attention hardly matters.
            parameter.mul_(5.0) if parameter.ndim > 1 else parameter
    register_attention("layerlab_softmax", "softmax")
    register_attention()
    model.set_attn_implementation(name)
    return model


def tokens(seed: int = 0) -> Tensor:
    return torch.randint(1, VOCABULARY, (2, N), generator=torch.Generator().manual_seed(seed))


def close(left: Tensor, right: Tensor) -> bool:
    return bool((left - right).abs().max() < 1e-9 * right.abs().max())


PADDING = {
    "left": torch.arange(N) >= torch.tensor([0, 4])[:, None],
    "right": torch.arange(N) < torch.tensor([N, 5])[:, None],
}
MODELS = [gpt2, llama, bert]


@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("make", MODELS)
def test_softmax_is_the_models_own(make: Any, side: str | None) -> None:
    given = {} if side is None else {"attention_mask": PADDING[side].long()}
    inside = torch.ones(2, N).bool() if side is None else PADDING[side]
    expected = model_of(make, "sdpa")(tokens(), **given).logits
    found = model_of(make, "layerlab_softmax")(tokens(), **given).logits
    assert close(found[inside], expected[inside])
    linear = model_of(make, "layerlab_linear")(tokens(), **given).logits
    assert not close(linear[inside], expected[inside])


@pytest.mark.parametrize("make", MODELS)
def test_linear_sees_what_the_model_lets_it_see(make: Any) -> None:
    model = model_of(make, "layerlab_linear")
    before = model(tokens()).logits
    changed = tokens()
    changed[:, -1] = (changed[:, -1] + 7) % VOCABULARY
    after = model(changed).logits
    assert close(after[:, :-1], before[:, :-1]) is (make is not bert)
    # What is padded changes nothing of what is not.
    padding = PADDING["left"]
    other = torch.where(padding, tokens(), tokens(5))
    outs = [model(x, attention_mask=padding.long()).logits[padding] for x in (tokens(), other)]
    assert close(outs[0], outs[1])
    assert not close(model(other).logits[padding], outs[0])


@pytest.mark.parametrize("side", [None, "left"])
@pytest.mark.parametrize("make", [gpt2, llama])
def test_generation_with_a_cache_is_generation_without(make: Any, side: str | None) -> None:
    model = model_of(make, "layerlab_linear")
    given = {} if side is None else {"attention_mask": PADDING[side].long()}
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, **given}
    cached = model.generate(tokens(), use_cache=True, **options)
    assert torch.equal(cached, model.generate(tokens(), use_cache=False, **options))
    assert cached.shape == (2, N + 6)


def test_gradients_reach_every_weight() -> None:
    for make in MODELS:
        model = model_of(make, "layerlab_linear").train()
        out = model(tokens(), labels=tokens())
        out.loss.backward()
        assert all(
            p.grad is not None and bool(p.grad.abs().max() > 0)
            for name, p in model.named_parameters()
            if "q_proj" in name or "key" in name or "c_attn" in name
        )


def test_a_sliding_window_is_refused_by_linear_and_taken_by_softmax() -> None:
    def mistral() -> Any:
        config = transformers.MistralConfig(
            vocab_size=VOCABULARY,
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=3,
        )
        return transformers.MistralForCausalLM(config)

    expected = model_of(mistral, "sdpa")(tokens()).logits
    assert close(model_of(mistral, "layerlab_softmax")(tokens()).logits, expected)
    with pytest.raises(UserError, match="cannot take a mask that differs between queries"):
        model_of(mistral, "layerlab_linear")(tokens())


def test_a_layer_of_its_own_for_every_layer_of_the_model() -> None:
    from layerlab.attention.mechanisms import Linear

    model = model_of(llama, "layerlab_linear")
    expected = model(tokens()).logits
    learned = [Linear("hedgehog", heads=4, head_size=6, kv_heads=2).double() for _ in range(2)]
    register_attention("layerlab_learned", lambda layer: learned[layer.layer_idx])
    other = copy.deepcopy(model)
    other.set_attn_implementation("layerlab_learned")
    out = other(tokens(), labels=tokens())
    out.loss.backward()
    assert not close(out.logits, expected)
    assert all(p.grad is not None for mechanism in learned for p in mechanism.parameters())
