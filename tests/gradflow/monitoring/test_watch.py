"""One watched step: what is read is what autograd computes, bit for bit without changing it, and nothing stays."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from layerlab.gradflow.monitoring.layers import layers_of
from layerlab.gradflow.monitoring.watch import CALLS, Watch

from ..models import SUBJECTS, subject


def watched(model: nn.Module, run: Any) -> tuple[Watch, dict[str, dict[str, Any]]]:
    watch = Watch(model, layers_of(model))
    try:
        run()
    finally:
        watch.finish()
    return watch, watch.rows()


def hooks_on(model: nn.Module) -> int:
    tables = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_always_called", "_backward_hooks")
    count = sum(len(getattr(module, table)) for module in model.modules() for table in tables)
    return count + sum(len(p._post_accumulate_grad_hooks or {}) for p in model.parameters())


class Residual(nn.Module):
    """The branch's input is read by the skip as well, and inside twice."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.relu(self.fc(x))


def test_norms_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    _, rows = watched(model, lambda: model(x).square().sum().backward())
    a = model[0](x)
    h = torch.tanh(a)
    y = model[2](h)
    at_a, at_h, at_y = torch.autograd.grad(y.square().sum(), (a, h, y))
    h = h.detach()
    assert list(rows) == ["0", "1", "2"]
    assert rows["1"]["kind"] == "tanh"
    assert rows["1"]["activation_rms"] == pytest.approx(float(h.square().mean().sqrt()), rel=1e-12)
    assert rows["2"]["gradient_out"] == pytest.approx(float(at_y.norm()), rel=1e-12)
    assert rows["2"]["gradient_in"] == pytest.approx(float(at_h.norm()), rel=1e-12)
    assert rows["1"]["gain"] == pytest.approx(float(at_a.norm() / at_h.norm()), rel=1e-12)
    assert rows["1"]["slope"] == pytest.approx(float((1 - h**2).square().mean().sqrt()), rel=1e-12)
    assert "gradient_in" not in rows["0"]
    weights = torch.cat([p.detach().flatten() for p in model[2].parameters()])
    grads = torch.cat([p.grad.flatten() for p in model[2].parameters() if p.grad is not None])
    assert rows["2"]["weight_norm"] == pytest.approx(float(weights.norm()), rel=1e-12)
    assert rows["2"]["weight_gradient"] == pytest.approx(float(grads.norm()), rel=1e-12)
    assert rows["2"]["relative_gradient"] == pytest.approx(float(grads.norm() / weights.norm()), rel=1e-12)


def test_the_gain_is_the_layers_own_and_not_its_skips() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), Residual())
    x = torch.randn(5, 3)
    _, rows = watched(model, lambda: model(x).sum().backward())
    h = model[0](x)
    a = model[1].fc(h)
    (at_a,) = torch.autograd.grad(functional.relu(a).sum(), a)
    own = at_a @ model[1].fc.weight.detach()
    assert rows["1.fc"]["gradient_in"] == pytest.approx(float(own.norm()), rel=1e-5)
    assert rows["0"]["gradient_out"] == pytest.approx(float((own + 1).norm()), rel=1e-5)
    assert rows["1: relu"]["saturated"] == pytest.approx(float((a <= 0).float().mean()))
    assert list(rows) == ["0", "1.fc", "1: relu"]


def test_an_input_that_a_layer_reads_twice_gets_the_sum() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sin() * x.cos()

    model = nn.Sequential(nn.Linear(3, 3), Twice())
    _, rows = watched(model, lambda: model(torch.ones(2, 3)).sum().backward())
    h = model[0](torch.ones(2, 3)).detach()
    assert rows["1"]["gradient_in"] == pytest.approx(float((2 * h).cos().norm()), rel=1e-5)


def test_an_output_that_nobody_uses_does_not_hide_the_rest() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 4, batch_first=True))
    _, rows = watched(model, lambda: model(torch.randn(2, 5, 3))[0][:, :2].sum().backward())
    assert rows["1"]["gradient_in"] > 0 and rows["1"]["gradient_out"] > 0
    _, rows = watched(model, lambda: model(torch.randn(2, 5, 3))[1][0].sum().backward())
    assert rows["1"]["gradient_in"] > 0 and rows["1"]["gradient_out"] > 0


@pytest.mark.parametrize("inplace", [False, True])
def test_in_place_activations(inplace: bool) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 40), nn.ReLU(inplace), nn.Linear(40, 2))
    with torch.no_grad():
        model[0].bias[:10] = -100
    x = torch.randn(6, 3)
    _, rows = watched(model, lambda: model(x).sum().backward())
    a = model[0](x)
    on = (a > 0).float()
    at_h = torch.ones(6, 2) @ model[2].weight.detach()
    assert rows["0"]["activation_rms"] == pytest.approx(float(a.detach().square().mean().sqrt()), rel=1e-5)
    assert rows["0"]["gradient_out"] == pytest.approx(float((at_h * on).norm()), rel=1e-5)
    assert rows["1"]["gain"] == pytest.approx(float((at_h * on).norm() / at_h.norm()), rel=1e-5)
    assert rows["1"]["dead"] == float((on.sum(0) == 0).float().mean()) >= 0.25


def test_a_shared_layer_has_a_row_for_each_call_and_several_passes_are_one_batch() -> None:
    torch.manual_seed(0)
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    x = torch.randn(8, 3)

    def accumulated() -> None:
        for part in (x[:2], x[2:]):
            model(part).sum().backward()

    watch, rows = watched(model, accumulated)
    assert watch.passes == 2
    assert list(rows) == ["0", "1", "0#1"]
    model.zero_grad()
    _, whole = watched(model, lambda: model(x).sum().backward())
    for name, row in whole.items():
        for measure, value in row.items():
            if measure not in ("kind", "saturated", "slope", "dead"):
                assert rows[name][measure] == pytest.approx(value, rel=1e-5), (name, measure)


def test_backward_passes_through_one_graph_add_their_gradients() -> None:
    class Sines(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sin() * x.cos()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), Sines(), nn.ReLU())
    x = torch.randn(4, 3)

    def once() -> None:
        model(x).sum().backward()

    def often() -> None:
        y = model(x).sum()
        for _ in range(3):
            y.backward(retain_graph=True)

    _, rows = watched(model, once)
    _, more = watched(model, often)
    for measure in ("gradient_in", "gradient_out"):
        assert more["1"][measure] == pytest.approx(math.sqrt(3) * rows["1"][measure], rel=1e-5)


def test_a_function_called_in_each_pass_has_one_row() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Residual())
    _, rows = watched(model, lambda: [model(torch.ones(2, 3)).sum().backward() for _ in range(3)])
    assert list(rows) == ["0", "1.fc", "1: relu"]


def test_several_activations_of_one_function_have_rows_of_their_own() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(torch.relu(x + 10) - 100) + torch.sigmoid(x)

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two, self.fc = Two(), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.fc(torch.relu(torch.relu(x + 10) - 100)))

    model = Holder()
    _, rows = watched(model, lambda: model(torch.randn(2, 3)).sum().backward())
    assert rows["model: relu"]["dead"] == 0 and rows["model: relu 2"]["dead"] == 1
    assert rows["two: relu"]["dead"] == 0  # of one leaf: the least
    assert rows["two: sigmoid"]["dead"] == 0
    assert list(rows) == ["model: relu", "model: relu 2", "fc", "two: relu", "two: sigmoid", "two"]


def test_frozen_layers_pass_gradients_and_have_none_of_their_own() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[1].requires_grad_(False)
    _, rows = watched(model, lambda: model(torch.randn(2, 3)).sum().backward())
    assert rows["1"]["gain"] > 0 and rows["1"]["weight_norm"] > 0 and "weight_gradient" not in rows["1"]


def test_without_gradients_the_outputs_are_read_all_the_same() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with torch.no_grad():
        _, rows = watched(model, lambda: model(torch.randn(2, 3)))
    assert rows["0"]["activation_rms"] > 0 and "gradient_out" not in rows["0"]
    assert rows["1"]["saturated"] >= 0


def test_parts_called_from_outside_count_where_the_model_itself_is_not_called() -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(3, 2), "decoder": nn.Linear(2, 3)})
    x = torch.randn(4, 3)
    watch, rows = watched(model, lambda: model["decoder"](model["encoder"](x)).sum().backward())
    assert watch.passes == 2 and rows["decoder"]["gain"] > 0 and list(rows) == ["encoder", "decoder"]


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_checkpointing_computes_again_is_not_counted_again(reentrant: bool) -> None:
    class Saving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.block = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.block, self.first(x), use_reentrant=reentrant)

    torch.manual_seed(0)
    model = Saving()
    watch, rows = watched(model, lambda: model(torch.randn(2, 3)).sum().backward())
    assert watch.passes == 1 and list(rows) == ["first", "block.0", "block.1"]
    assert rows["first"]["gradient_out"] > 0
    assert ("gradient_out" in rows["block.0"]) == (not reentrant)


def test_a_cell_called_many_times_is_watched_for_the_first() -> None:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.RNNCell(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = x
            for _ in range(CALLS + 5):
                h = self.cell(x, h)
            return h

    model = Unrolled()
    _, rows = watched(model, lambda: model(torch.randn(2, 2)).sum().backward())
    assert list(rows) == ["cell", *(f"cell#{k}" for k in range(1, CALLS))]


def test_the_first_value_that_is_not_finite_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        model[1].weight[0, 0] = math.inf
    watch, _ = watched(model, lambda: model(torch.ones(2, 2)).sum().backward())
    assert watch.not_finite == "the output of 1"
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))

    def backward() -> None:
        (model(torch.zeros(2, 2)).sum() * 0).sqrt().backward()

    watch, _ = watched(model, backward)
    assert watch.not_finite == "the gradient at the output of 1"
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    watch, rows = watched(model, lambda: model(torch.full((2, 2), 1e30)))
    assert watch.not_finite is None and 1e28 < rows["0"]["activation_rms"] < 1e32


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_kind_of_model_can_be_watched_and_computes_the_same(name: str) -> None:
    model, x = subject(name)
    args = x if isinstance(x, tuple) else (x,)

    def gradients() -> list[Tensor]:
        torch.manual_seed(3)
        model.zero_grad(set_to_none=True)
        y = model(*args)
        y = y["logits"] if isinstance(y, dict) else y[0] if isinstance(y, tuple) else y
        (y.square().sum() + y.sum()).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients()
    seen: list[list[Tensor]] = []
    watch, rows = watched(model, lambda: seen.append(gradients()))
    assert all(torch.equal(a, b) for a, b in zip(plain, seen[0], strict=True))
    assert watch.passes == 1 and hooks_on(model) == 0
    assert any(row.get("gradient_out", 0) > 0 for row in rows.values())
    assert all(torch.equal(a, b) for a, b in zip(plain, gradients(), strict=True))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_pass_that_is_broken_off_leaves_nothing_behind(error: type[BaseException]) -> None:
    class Raising(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise error

    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), Raising()))
    with pytest.raises(error):
        watched(model, lambda: model(torch.ones(1, 2)))
    assert hooks_on(model) == 0
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    # And a caught one leaves the next pass of the same step whole.
    good = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    def tried() -> None:
        with pytest.raises(RuntimeError):
            good(torch.ones(1, 3))
        good(torch.ones(1, 2)).sum().backward()

    watch, rows = watched(good, tried)
    assert watch.passes == 2 and rows["1"]["gain"] > 0


def test_frozen_transformers_in_eval_mode_are_left_to_their_fast_path() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
    encoder.eval().requires_grad_(False)
    model = nn.Sequential(encoder, nn.Linear(8, 1))
    x = torch.randn(2, 3, 8)
    plain = model(x)
    seen: list[Tensor] = []
    _, rows = watched(model, lambda: seen.append(model(x)))
    assert torch.equal(plain, seen[0]) and "1" in rows and "0.layers.0.linear1" in rows
    assert "activation_rms" not in rows["0.layers.0.linear1"]


def test_parametrised_weights_count_as_the_layers() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    model = nn.Sequential(nn.Linear(3, 3), layer)
    _, rows = watched(model, lambda: model(torch.randn(2, 3)).sum().backward())
    assert list(rows) == ["0", "1"] and rows["1"]["relative_gradient"] > 0
    norm = math.sqrt(sum(float(p.detach().square().sum()) for p in layer.parameters()))
    assert rows["1"]["weight_norm"] == pytest.approx(norm, rel=1e-6)


def test_sparse_gradients_and_half_precision() -> None:
    model = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2))
    _, rows = watched(model, lambda: model(torch.tensor([1, 1, 4])).sum().backward())
    grad = model[0].weight.grad
    assert grad is not None
    assert rows["0"]["weight_gradient"] == pytest.approx(float(grad.to_dense().norm()), rel=1e-6)
    half = nn.Sequential(nn.Linear(3, 2)).bfloat16()
    _, rows = watched(half, lambda: half(torch.ones(2, 3).bfloat16()).sum().backward())
    assert rows["0"]["gradient_out"] == 2.0
