"""The layer's weights: to a file and back, and from torch's layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from layer_pairs import M, N, close, ours, torchs
from torch import nn

from layerlab.attention.layers import MultiheadAttention
from layerlab.errors import UserError
from layerlab.lab.weights import load_weights, write_tensors


@pytest.mark.parametrize("mechanism", ["softmax", "linear-random", "hedgehog", "linformer"])
def test_weights_go_to_a_file_and_back(mechanism: str, tmp_path: Path) -> None:
    def model(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            MultiheadAttention(8, 2, mechanism, length=N, seed=seed, kdim=8 if seed else None)
        )

    there, back = model(0), model(1)
    with torch.no_grad():
        for parameter in there.parameters():
            parameter.add_(torch.randn_like(parameter))
    write_tensors(tmp_path / "w", there.state_dict())
    load_weights(back, tmp_path / "w")
    x = torch.randn(2, N, 8)
    # Random features carry a constant that cancels, but not its rounding.
    assert close(there[0](x, x, x)[0], back[0](x, x, x)[0], 1e-5 if mechanism == "linear-random" else 1e-12)


@pytest.mark.parametrize("mechanism", ["softmax", "hedgehog", "linformer"])
def test_a_state_dict_of_torchs_layer_goes_in_whole_and_strictly(mechanism: str) -> None:
    theirs = nn.Sequential(nn.Linear(2, 2), torchs())
    model = nn.Sequential(nn.Linear(2, 2), ours(mechanism, length=M))
    before = {name: tensor.clone() for name, tensor in model[1].mechanism.state_dict().items()}
    model.double().load_state_dict(theirs.double().state_dict())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    after = model[1].mechanism.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    wrong = {name: tensor for name, tensor in theirs.state_dict().items() if name != "1.out_proj.bias"}
    with pytest.raises(RuntimeError, match=r"out_proj\.bias"):
        model.load_state_dict(wrong)


def test_half_of_a_mechanism_is_not_taken_for_none() -> None:
    layer = ours("linformer", length=M)
    state = {name: t for name, t in layer.state_dict().items() if name != "mechanism.key_projection"}
    with pytest.raises(RuntimeError, match=r"mechanism\.key_projection"):
        layer.load_state_dict(state)


def test_from_torch_keeps_what_is_frozen_and_shares_nothing() -> None:
    theirs = torchs().eval()
    theirs.in_proj_weight.requires_grad_(False)
    layer = MultiheadAttention.from_torch(theirs, "hedgehog")
    assert not layer.training
    assert not layer.in_proj_weight.requires_grad
    assert layer.out_proj.weight.requires_grad
    assert layer.mechanism.feature_map.query_weight.requires_grad
    assert layer.mechanism.feature_map.query_weight.dtype is torch.float64
    with torch.no_grad():
        layer.out_proj.weight.zero_()
    assert theirs.out_proj.weight.abs().max() > 0
    with pytest.raises(UserError, match=r"expected a torch\.nn\.MultiheadAttention, got Linear"):
        MultiheadAttention.from_torch(nn.Linear(2, 2))  # type: ignore[arg-type]
