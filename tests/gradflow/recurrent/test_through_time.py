"""Recurrent modules inside of models: calls, sequences, masks, notes, verdicts and wrong input."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from layerlab.errors import UserError
from layerlab.gradflow.recurrent import through_time
from layerlab.gradflow.recurrent.result import ESTIMATED

from .modules import Decoder, Tagger, cell_of, holds, made, randn, started


def test_the_path_of_the_gates() -> None:
    module = made("lstm", 2, 5)
    x = randn(6, 2, 2)
    [layer] = through_time(module, x).layers
    module.weight_hh_l0.data.zero_()
    [alone] = through_time(module, x).layers
    # Without recurrent weights (h, c) is passed on by the cell alone, and c' is the larger part of what it gives.
    assert (alone.curves.largest[:, 1:] >= alone.carry.log_largest[:, 1:] - 1e-12).all()
    forget = torch.sigmoid(x @ module.weight_ih_l0[5:10].t() + (module.bias_ih_l0 + module.bias_hh_l0)[5:10])
    path = forget[1:].log().cumsum(0)[-1].detach()
    np.testing.assert_allclose(alone.carry.log_largest[:, -1], path.amax(1), rtol=1e-12)
    np.testing.assert_allclose(alone.carry.log_median[:, -1], path.median(1)[0], rtol=1e-12)
    assert layer.carry.gate == "forget" and layer.carry.log_largest.shape == (2, 6)
    [gru] = through_time(made("gru", 2, 3), x).layers
    assert gru.carry.gate == "update"
    [rnn] = through_time(made("tanh", 2, 3), x).layers
    assert rnn.carry is None


@pytest.mark.parametrize("kind", ["tanh", "relu", "gru", "lstm"])
def test_cells_and_layers_step_by_step_are_the_whole_layer(kind: str) -> None:
    module, x = made(kind, 4, 5), randn(6, 2, 4)
    [expected] = through_time(module, x).layers
    for inner in (cell_of(module), module):
        found = through_time(Decoder(inner), x)
        [layer] = found.layers
        assert (layer.name, layer.calls, layer.steps) == ("module", 6, 6)
        np.testing.assert_allclose(layer.curves.largest, expected.curves.largest, atol=1e-12)
        for one, other in zip(layer.bounds, expected.bounds, strict=True):
            np.testing.assert_allclose(one.log, other.log, atol=1e-12)
    assert any("held fixed" in note for note in through_time(Decoder(cell_of(module)), x).notes)
    [single] = through_time(Decoder(cell_of(module)), x[:, 0]).layers
    np.testing.assert_allclose(single.curves.largest, expected.curves.largest[:1], atol=1e-12)


def test_a_shared_layer_reads_two_sequences() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = made("gru", 4, 5)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.rnn(a)[1] + self.rnn(input=b)[1]

    found = through_time(Pair(), {"a": randn(5, 2, 4), "b": randn(7, 2, 4, seed=1)})
    assert [(layer.sequence, layer.steps) for layer in found.layers] == [(0, 5), (1, 7)]
    silent = Pair()
    silent.rnn = made("relu", 4, 5)
    silent.rnn.bias_ih_l0.data -= 100.0
    # Its end is zero, and zero is where a sequence without a given state starts.
    assert len(through_time(silent, (randn(5, 2, 4), randn(7, 2, 4)), seed=0).layers) == 2
    [alone] = through_time(Pair().rnn, randn(7, 2, 4, seed=1)).layers
    np.testing.assert_array_equal(found.layers[1].curves.largest, alone.curves.largest)


def test_inside_a_model_that_stays_as_it_is() -> None:
    torch.manual_seed(0)
    model = Tagger(bidirectional=True, dropout=0.5).double()
    tokens = torch.randint(0, 11, (3, 9))
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    seen: list[float] = []
    found = through_time(model, tokens, seed=3, progress=lambda share, text: seen.append(share))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert torch.equal(random, torch.get_rng_state()) and model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert [(layer.layer, layer.direction) for layer in found.layers] == [
        (0, "forward"),
        (0, "backward"),
        (1, "forward"),
        (1, "backward"),
    ]
    assert seen == sorted(seen) and seen[-1] == 1.0
    # The masks of dropout were drawn again: the replay agrees with the module's own output, or it would be refused.
    assert found.notes == ("encoder: dropout between layers is frozen, with seed 3",)
    other = through_time(model, tokens, seed=4)
    np.testing.assert_array_equal(other.layers[1].curves.largest, found.layers[1].curves.largest)
    assert (other.layers[2].curves.largest != found.layers[2].curves.largest).any()
    quiet = through_time(model.eval(), tokens)
    assert quiet.notes == ()
    assert through_time(model, tokens, module="encoder").to_dict() == quiet.to_dict()


def test_packed_sequences() -> None:
    module = made("lstm", 4, 5, num_layers=2, bidirectional=True)
    x, lengths = randn(6, 3, 4), [4, 6, 2]
    hx = started(module, 3)
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    found = through_time(module, (packed, hx))
    assert found.notes == ()
    for b, length in enumerate(lengths):
        alone = through_time(module, (x[:length, b : b + 1], tuple(t[:, b : b + 1].contiguous() for t in hx)))
        for layer, expected in zip(found.layers, alone.layers, strict=True):
            np.testing.assert_allclose(
                layer.curves.largest[b, :length], expected.curves.largest[0], atol=1e-11
            )
            assert np.isnan(layer.curves.largest[b, length:]).all()
            assert np.isnan(layer.curves.steps[b, length - 1 :]).all()
            holds(layer)
    json.dumps(found.to_dict(), allow_nan=False)
    assert len(through_time(module, packed).layers) == 4
    with pytest.raises(UserError, match=r"call eval\(\)"):
        through_time(made("gru", 4, 5, num_layers=2, dropout=0.9), packed)


def test_float32_is_run_again_in_float64() -> None:
    module, x = made("gru", 4, 5), randn(9, 2, 4).float()
    found, exact = (
        through_time(copy.deepcopy(module).float(), x),
        through_time(module.float().double(), x.double()),
    )
    assert found.notes == ()
    np.testing.assert_allclose(found.layers[0].curves.largest, exact.layers[0].curves.largest, atol=1e-12)
    chaotic = made("tanh", 4, 64, scale=4.0).float()
    assert any("amplifies rounding" in note for note in through_time(chaotic, randn(200, 2, 4).float()).notes)


@pytest.mark.parametrize(
    ("norm", "expected", "words"),
    [
        (0.8, "vanishing", "σ_max falls below 0.01 at lag 21 of 39"),
        (1.3, "exploding", "σ_max exceeds 100 at lag 18 of 39"),
        (1.0, "healthy", "over all 39 lags"),
        (0.95, "healthy", "extrapolated, it would vanish from lag 90 on"),
    ],
)
def test_the_verdict(norm: float, expected: str, words: str) -> None:
    module = nn.RNN(2, 6, nonlinearity="relu", dtype=torch.float64)
    module.weight_hh_l0.data = norm * torch.eye(6, dtype=torch.float64)
    module.bias_hh_l0.data.fill_(1.0)
    module.weight_ih_l0.data.zero_()
    module.bias_ih_l0.data.zero_()
    [layer] = through_time(module, torch.zeros(40, 3, 2, dtype=torch.float64)).layers
    assert layer.verdict == expected and words in layer.summary, layer.summary
    assert layer.to_dict()["sample_verdicts"] == [expected] * 3


def test_to_dict() -> None:
    module = made("lstm", 3, 40)
    [layer] = through_time(module, randn(8, 3, 3)).to_dict()["layers"]
    json.dumps(layer, allow_nan=False)
    assert layer["log_sigma_min"] is None and layer["bounds"][2]["kind"] == ESTIMATED
    assert layer["label"] == "the model (LSTM) layer 0 forward" and layer["state"] == 80
    assert [len(layer["log_sigma_max"][key]) for key in ("median", "min", "max")] == [8, 8, 8]
    assert all(bound["log_slack_at_end"] >= -1e-3 for bound in layer["bounds"])
    dead = made("relu", 3, 4)
    dead.bias_ih_l0.data -= 100.0
    [layer] = through_time(dead, randn(4, 2, 3)).to_dict()["layers"]
    json.dumps(layer, allow_nan=False)
    assert layer["log_sigma_max"]["median"] == [0.0, None, None, None] and layer["verdict"] == "vanishing"


def with_nan(module: nn.RNNBase) -> nn.RNNBase:
    module.weight_hh_l0.data[0, 0] = math.nan
    return module


@pytest.mark.parametrize(
    ("model", "inputs", "options", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2)), randn(3, 2), {}, "got Sequential without"),
        (print, randn(3, 2), {}, r"expected a torch.nn.Module, got builtin"),
        (made("gru", 4, 5), randn(1, 2, 4), {}, "at least 2 steps, got 1 in the model"),
        (made("gru", 4, 5), randn(6, 2, 3), {}, "shape \\(6, 2, 3\\), raised RuntimeError"),
        (with_nan(made("gru", 4, 5)), randn(6, 2, 4), {}, "parameter weight_hh_l0 has entries that are NaN"),
        (made("gru", 4, 5), math.nan * randn(6, 2, 4), {}, "input 0 has entries that are NaN"),
        (Decoder(cell_of(made("gru", 4, 5)), keep=0.5), randn(6, 2, 4), {}, "module is called 6 times, but"),
        (Tagger(), torch.ones(2, 5, dtype=torch.long), {"module": "head"}, "no recurrent module 'head'"),
        (made("relu", 4, 5, scale=1e40), randn(90, 2, 4), {}, "NaN or Inf from step"),
        (made("gru", 4, 5), randn(6, 2, 4), {"threshold": 1.0}, "threshold between 0 and 1"),
        (made("gru", 4, 5), randn(6, 2, 4), {"budget": 0}, "a budget of at least 1"),
        (made("gru", 4, 5), randn(6, 2, 4), {"tolerance": 0.0}, "a tolerance > 0"),
    ],
)
def test_wrong_input(model: Any, inputs: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        through_time(model, inputs, **options)


def test_a_recurrent_module_that_is_not_called() -> None:
    model = Tagger()
    model.forward = lambda tokens: model.embed(tokens)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="calls none of the recurrent modules 'encoder'"):
        through_time(model, torch.ones(2, 5, dtype=torch.long))
