"""The layer compiled as one graph, with its gradients, and exported for every length."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from layerlab.attention import chunked, exported
from layerlab.attention.layers import MultiheadAttention

# The backend that runs what was traced, forward and backward, with torch's own operators: no C++ compiler is needed.
BACKEND = "aot_eager"


class SelfAttention(nn.Module):
    def __init__(self, mechanism: str, causal: bool, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.causal = MultiheadAttention(8, 4, mechanism, num_kv_heads=2, **options), causal

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        out: Tensor = self.layer(x, x, x, padding, need_weights=False, is_causal=self.causal)[0]
        return out


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    torch.compiler.reset()


def close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and bool((left - right).abs().max() < 1e-6)


@pytest.mark.parametrize(
    ("mechanism", "causal", "mask"),
    [("softmax", True, None), ("softmax", False, bool), ("linear", True, None), ("linear", False, float)],
)
def test_compiled_as_one_graph_it_computes_the_same(mechanism: str, causal: bool, mask: type | None) -> None:
    model = SelfAttention(mechanism, causal)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend=BACKEND)
    x, padding = torch.randn(2, 9, 8), None
    if mask is not None:
        padding = torch.arange(9) >= torch.tensor([9, 5])[:, None]
    if mask is float:
        padding = torch.zeros(2, 9).masked_fill(padding, -torch.inf)
    results = []
    for module in (model, compiled):
        given = x.clone().requires_grad_()
        out = module(given, padding)
        out.square().sum().backward()
        results.append([out, given.grad, *(p.grad for p in module.parameters())])
    assert len(results[0]) == len(results[1]) == 6
    assert all(close(left, right) for left, right in zip(*results, strict=True))


def test_an_encoder_layer_with_linear_attention_is_one_graph() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    layer.self_attn = MultiheadAttention.from_torch(layer.self_attn, "linear")  # type: ignore[assignment]
    compiled = torch.compile(layer, fullgraph=True, backend=BACKEND)
    x, padding = torch.randn(2, 9, 8), torch.arange(9) >= torch.tensor([9, 5])[:, None]
    assert close(compiled(x, src_key_padding_mask=padding), layer(x, src_key_padding_mask=padding))
    assert not close(layer(x, src_key_padding_mask=padding), layer(x))


def test_what_is_compiled_is_not_what_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("compiled as if for export")

    monkeypatch.setattr(exported, "attend", fail)
    model = SelfAttention("linear", True)
    x = torch.randn(2, 9, 8)
    assert close(torch.compile(model, fullgraph=True, backend="eager")(x), model(x))


@pytest.mark.parametrize(("mechanism", "causal"), [("softmax", True), ("linear", True)])
def test_one_exported_program_serves_every_length(mechanism: str, causal: bool) -> None:
    model = SelfAttention(mechanism, causal).eval()
    program = torch.export.export(
        model,
        (torch.randn(2, 33, 8),),
        dynamic_shapes={"x": {0: Dim("batch"), 1: Dim("n", min=2)}},
    )
    # Plain torch: the program runs where layerlab is not installed.
    assert "layerlab" not in str(program.graph)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for batch, n in ((2, 33), (1, 2), (3, 127), (1, 128), (1, 129), (2, 500)):
        x = torch.randn(batch, n, 8)
        assert close(loaded(x), model(x))


@pytest.mark.parametrize("causal", [False, True])
def test_what_is_exported_equals_what_runs_here(causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    before = (random(2, 2, 3, 5), random(2, 2, 3))
    for n, state in ((1, ()), (128, ()), (200, before), (256, ()), (300, ())):
        q, k, v = random(2, 4, n, 3), random(2, 2, n, 3), random(2, 2, n, 5)
        expected = chunked.attend(q, k, v, causal, *state)
        found = exported.attend(q, k, v, causal, *state)
        assert all(close(left, right) for left, right in zip(found, expected, strict=True))
        assert [x.dtype for x in found] == [x.dtype for x in expected]
