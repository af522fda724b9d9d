"""The monitor of a training loop: it changes nothing, hooks nothing between its steps, and keeps to its share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.monitoring import monitor as monitoring
from layerlab.gradflow.monitoring.monitor import MEASURES, SHARE, Monitor
from layerlab.gradflow.monitoring.record import Record

from .test_watch import hooks_on


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.ReLU(inplace=True), nn.Linear(8, 1))


class Mixed(nn.Module):
    """Convolution, batch norm, a shared activation in place, attention with dropout, a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.fc, self.head = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head.weight = self.fc.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norm(self.conv(x[:, None, None].expand(-1, 1, 4, 4))))
        h = self.block(h.flatten(2).transpose(1, 2)).mean(1)
        return self.head(self.relu(self.fc(h)) + h)[:, :1]


def train(model: nn.Module, steps: int, monitor: Monitor | None = None, parts: int = 1) -> list[Tensor]:
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        x = torch.randn(6, 4)

        def passes(x: Tensor = x) -> None:
            for part in x.chunk(parts):
                model(part).square().mean().backward()

        if monitor is None:
            passes()
        else:
            with monitor.step():
                passes()
        optimizer.step()
        optimizer.zero_grad()
    return [*(p.detach().clone() for p in model.parameters()), torch.rand(3)]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("make", [mlp, Mixed])
def test_weights_and_random_numbers_are_the_same_bits_with_and_without(
    make: Callable[[], nn.Module], parts: int
) -> None:
    torch.manual_seed(0)
    model = make()
    again = make()
    again.load_state_dict(model.state_dict())
    plain = train(model, 50, parts=parts)
    with Monitor(again, every=3) as monitor:
        seen = train(again, 50, monitor, parts=parts)
    assert all(torch.equal(a, b) for a, b in zip(plain, seen, strict=True))
    assert [s["step"] for s in monitor.record.snapshots] == list(range(0, 50, 3))
    assert monitor.record.steps == 50


def test_there_are_no_hooks_between_watched_steps() -> None:
    model = mlp()
    monitor = Monitor(model, every=2)
    inside = []
    for _ in range(4):
        with monitor.step():
            inside.append(hooks_on(model))
            model(torch.ones(2, 4)).sum().backward()
        assert hooks_on(model) == 0
    assert [count > 0 for count in inside] == [True, False, True, False]


def test_an_exception_leaves_no_hook_and_no_snapshot() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ZeroDivisionError), Monitor(model, every=1, optimizer=optimizer) as monitor:
        with monitor.step():
            model(torch.ones(2, 4)).sum().backward()
        with monitor.step():
            model(torch.ones(2, 4))
            raise ZeroDivisionError
    assert hooks_on(model) == 0 and len(monitor.record.snapshots) == 1
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_what_a_watched_step_takes_more_than_others_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(monitoring, "perf_counter", clock)
    model = mlp()
    monitor = Monitor(model, every=30)
    for slow in (0.0, 0.0, 1e-9, 1e3):  # the first of each 30 steps takes so much more
        for step in range(30):
            with monitor.step():
                clock.now += 1.0 + (slow if step == 0 else 0)
                model(torch.ones(2, 4)).sum().backward()
    own = [s["seconds"] for s in monitor.record.snapshots]
    # Never less than what was clocked, and a hiccup counts at most as much again.
    assert monitor.overhead["seconds"] == pytest.approx(sum(own) + own[-1])


@pytest.mark.parametrize("within", [False, True])
def test_the_optimisers_step_is_measured(within: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 1, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    monitor = Monitor(model, every=2, optimizer=optimizer)
    for step in range(3):
        with monitor.step():
            model(torch.ones(2, 3)).sum().backward()
            before = [p.detach().clone() for p in model.parameters()]
            if within:
                optimizer.step()
        if not within:
            optimizer.step()
        if step == 2:
            expected = [
                float((p.detach() - q).norm() / q.norm())
                for p, q in zip(model.parameters(), before, strict=True)
            ]
        optimizer.zero_grad()
    last = monitor.record.snapshots[-1]
    assert last["step"] == 2
    assert [last["layers"][n]["update_ratio"] for n in "01"] == pytest.approx(expected, rel=1e-5)
    assert "update_ratio" in monitor.record.snapshots[0]["layers"]["0"]
    assert not optimizer._optimizer_step_post_hooks


def test_before_and_after_serve_other_loops() -> None:
    model = mlp()
    monitor = Monitor(model, every=1)
    monitor.after()
    for _ in range(2):
        monitor.before()
        model(torch.ones(2, 4)).sum().backward()
        monitor.after()
    monitor.before()  # never ended
    monitor.close()
    assert hooks_on(model) == 0 and len(monitor.record.snapshots) == 2


class Clock:
    """Time that goes by only where it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_auto_keeps_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(monitoring, "perf_counter", clock)

    class Costly:
        passes, not_finite = 1, None

        def __init__(self, *_: Any) -> None:
            self.seconds = cost
            clock.now += cost

        def finish(self) -> None:
            pass

        def rows(self) -> dict[str, dict[str, Any]]:
            return {"0": {"kind": "Linear", "gradient_out": 1.0}}

    monkeypatch.setattr(monitoring, "Watch", Costly)
    for cost in (0.3, 3.0, 1e-4):
        monitor = Monitor(mlp(), every="auto")
        for _ in range(3000):
            with monitor.step():
                clock.now += 1.0
        steps = [s["step"] for s in monitor.record.snapshots]
        assert monitor.overhead["share"] < SHARE
        assert steps[0] == 0 and len(steps) > 25
        gaps = [b - a for a, b in pairwise(steps[1:])]
        if cost > 0.1:  # what it may spend is spent
            assert monitor.overhead["share"] > 0.5 * SHARE
            assert max(gaps) <= 2 * cost / (0.6 * SHARE)
        assert len(steps) <= monitoring._MOST


def test_a_long_training_keeps_evenly_spaced_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_MOST", 16)
    monkeypatch.setattr(monitoring, "_AIM", 1e9)  # watching costs nothing
    model = mlp()
    monitor = Monitor(model)
    for _ in range(200):
        with monitor.step():
            model(torch.ones(2, 4)).sum().backward()
    steps = [s["step"] for s in monitor.record.snapshots]
    gaps = [b - a for a, b in pairwise(steps)]
    assert 8 <= len(steps) < 16 and steps[0] == 0 and steps[-1] >= 180
    assert max(gaps) <= 3 * min(gaps)


def test_the_time_it_took_is_kept_and_ends_with_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(monitoring, "perf_counter", clock)
    model = mlp()
    monitor = Monitor(model, every=5)
    for _ in range(10):
        with monitor.step():
            clock.now += 1.0
            model(torch.ones(2, 4)).sum().backward()
    clock.now += 100
    watched = sum(s["seconds"] for s in monitor.record.snapshots)
    assert monitor.overhead["seconds"] == pytest.approx(watched)
    assert monitor.overhead["training"] == pytest.approx(10 - watched)
    assert monitor.overhead["share"] == pytest.approx(watched / (10 - watched))


def test_layers_are_chosen_by_name_and_wildcard() -> None:
    model = nn.Sequential(mlp(), nn.Sequential(nn.Linear(1, 1), nn.Tanh()))
    monitor = Monitor(model, every=1, layers=["0.[03]", "1"])
    with monitor.step():
        model(torch.ones(2, 4)).sum().backward()
    assert list(monitor.record.series("gradient_out")) == ["0.0", "0.3", "1"]


def test_a_probe_is_measured_on_a_model_that_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
    plain = [p.clone() for p in train(model, 0)]
    start = {name: value.clone() for name, value in model.state_dict().items()}
    plain = train(model, 12)
    model.load_state_dict(start)

    def measure(model: nn.Module, x: Tensor) -> dict[str, float]:
        model.eval()
        return {"mean": float(model(x).detach().mean()), "drawn": float(torch.rand(()))}

    monitor = Monitor(model, every=100, probe=torch.ones(2, 4), measure=measure, probe_every=5)
    seen = train(model, 12, monitor)
    assert all(torch.equal(a, b) for a, b in zip(plain, seen, strict=True))
    assert [p["step"] for p in monitor.record.probes] == [0, 5, 10]
    assert len({p["values"]["mean"] for p in monitor.record.probes}) == 3
    assert model.training


def test_nan_is_named_with_its_step() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    monitor = Monitor(model, every=2)
    for step in range(6):
        if step == 3:
            model[2].weight.data.fill_(math.nan)
        with monitor.step():
            model(torch.ones(2, 2)).sum().backward()
    assert monitor.record.first_not_finite == (4, "the output of 2")
    line = monitor.record.series("activation_rms")["2"]
    assert line[2] is None and line[1] is not None


def test_the_record_is_saved_and_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    model = mlp()
    with Monitor(model, every=4, out=out) as monitor:
        train(model, 10, monitor)
    spent = monitor.overhead["seconds"]
    saved = json.loads(out.read_text(encoding="utf-8"))
    assert saved["steps"] == 10 and [s["step"] for s in saved["snapshots"]] == [0, 4, 8]
    assert set(saved["snapshots"][0]["layers"]["3"]) <= set(MEASURES)
    with Monitor(model, every=4, out=out) as monitor:
        train(model, 10, monitor)
    assert [s["step"] for s in Record.load(out).snapshots] == [0, 4, 8, 12, 16]
    assert monitor.overhead["seconds"] > spent
    with Monitor(model, every=4, out=out, start=6) as monitor:  # the training begins again at a checkpoint
        train(model, 4, monitor)
    assert [s["step"] for s in Record.load(out).snapshots] == [0, 4, 8]
    assert Record.load(out).steps == 10
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON"),
        ("{}", "expected the record of a monitor"),
        ('{"format": "layerlab-monitor", "format_version": 9}', "format version 1, got 9"),
        ('{"format": "layerlab-monitor", "format_version": 1}', "'model' is missing"),
        (None, "the record is damaged"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    out = tmp_path / "run.json"
    record = Record("Sequential", 1, snapshots=[{"step": 0, "layers": {"0": 3}, "not_finite": None}])
    out.write_text(text or json.dumps(record.to_dict()), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        Monitor(mlp(), out=out)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("probes", [1]),
        ("probes", [{"values": {}}]),
        ("notes", [3]),
        ("overhead", {"seconds": 0.0, "training": 1.0}),
    ],
)
def test_a_record_with_a_damaged_field_is_refused(tmp_path: Path, field: str, value: object) -> None:
    out = tmp_path / "run.json"
    out.write_text(json.dumps(Record("Sequential", 1).to_dict() | {field: value}), encoding="utf-8")
    with pytest.raises(UserError, match="the record is damaged"):
        Monitor(mlp(), out=out, start=0)


def test_the_record_of_another_model_is_refused(tmp_path: Path) -> None:
    Record("GPT").save(tmp_path / "run.json")
    with pytest.raises(UserError, match="record of a GPT, not of a Sequential"):
        Monitor(mlp(), out=tmp_path / "run.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": torch.sin}, "torch.nn.Module, got builtin"),
        ({"model": nn.DataParallel(nn.Linear(1, 1))}, "DataParallel"),
        ({"every": 0}, "above 0, got 0"),
        ({"every": "sometimes"}, "got 'sometimes'"),
        ({"every": True}, "got True"),
        ({"layers": ["4"]}, "no layer '4'; there are 0, 1, 2"),
        ({"layers": "0"}, "list of names"),
        ({"probe": torch.ones(1)}, "needs both"),
        ({"probe_every": 0}, "probe_every"),
        ({"optimizer": "adam"}, "Optimizer, got str"),
        ({"start": -1}, "start"),
    ],
)
def test_what_cannot_be_watched_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Monitor(**{"model": mlp(), **arguments})


def test_a_compiled_model_is_refused_and_one_compiled_elsewhere_is_noticed() -> None:
    model = mlp()
    compiled = torch.compile(model, backend="eager")
    with pytest.raises(UserError, match=r"torch\.compile"):
        Monitor(compiled)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"torch\.compile"):
        Monitor(nn.Sequential(nn.Linear(1, 1), compiled))  # type: ignore[arg-type]
    monitor = Monitor(model, every=1)
    with pytest.raises(UserError, match="no forward pass"), monitor.step():
        pass
    assert hooks_on(model) == 0


def test_a_later_step_without_a_pass_is_noted() -> None:
    model = mlp()
    monitor = Monitor(model, every=1)
    with monitor.step():
        model(torch.ones(2, 4)).sum().backward()
    with monitor.step():
        pass
    assert monitor.record.notes == ["step 1: no forward pass of the model was seen"]
