"""One loop: the same bits whatever the threads, and the right epoch kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_tasks import BY_LOSS, Regression, Scripted, Wide, assert_same, bits, in_a_child, weight

from layerlab.errors import UserError
from layerlab.lab.schedule import Schedule
from layerlab.lab.training import FitResult, fit, one_thread


def scripted(name: str, values: list[float], schedule: Schedule) -> FitResult:
    return fit(Scripted(*({name: value} for value in values)), schedule)


@pytest.fixture
def threads() -> Iterable[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# The same bits


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, again = fit(Regression(), BY_LOSS, seed=3), fit(Regression(), BY_LOSS, seed=3)
    assert_same(first, again)
    other = fit(Regression(), BY_LOSS, seed=4)
    assert bits(other) != bits(first)
    assert other.history[0] != first.history[0]


def test_bits_depend_on_the_threads_that_are_asked_for_and_on_no_others(
    threads: Callable[[int], None],
) -> None:
    pinned, asked = [], []
    for number in (1, 2, 3):
        threads(number)
        pinned.append(bits(fit(Wide(), Schedule(10))))
        assert torch.get_num_threads() == number
        threads(4 - number)
        asked.append(bits(fit(Wide(), Schedule(10), threads=number)))
        assert torch.get_num_threads() == 4 - number
    assert pinned[0] == pinned[1] == pinned[2] == asked[0]
    assert not asked[0] == asked[1] == asked[2], (
        "too few rows for torch to share among threads; make Wide wider"
    )


def test_a_checkpoint_belongs_to_its_number_of_threads(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    fit(Regression(), Schedule(2), checkpoint=checkpoint, every_seconds=0, threads=2)
    with pytest.raises(UserError, match="other settings"):
        fit(Regression(), Schedule(2), checkpoint=checkpoint)
    with pytest.raises(UserError, match="at least one thread"):
        fit(Regression(), Schedule(2), threads=0)


def test_bits_do_not_depend_on_the_threads_of_the_environment(threads: Callable[[int], None]) -> None:
    code = "print(torch.get_num_threads(), bits(fit(Wide(), Schedule(10))))"
    child = in_a_child(code, OMP_NUM_THREADS="1")
    threads(2)
    assert child.stdout == f"1 {bits(fit(Wide(), Schedule(10)))}\n", child.stderr


def test_one_thread_inside_and_as_before_outside_also_after_an_error(threads: Callable[[int], None]) -> None:
    threads(2)
    seen = []
    task = Scripted({"a": 1.0}, {"a": 1.0})
    task.before_loss = lambda epoch: seen.append(torch.get_num_threads())
    fit(task, Schedule(2))
    assert seen == [1, 1]
    assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError), one_thread():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2


def test_the_callers_generators_are_left_as_they_were_also_after_an_error() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (it is watched)
    fit(Regression(), BY_LOSS)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(UserError):
        fit(Regression(), Schedule(2, monitor="nonsense"))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


def test_what_a_callback_draws_changes_nothing() -> None:
    drawing = fit(Regression(), BY_LOSS, on_epoch=lambda epoch, metrics: torch.rand(epoch))
    assert_same(drawing, fit(Regression(), BY_LOSS))


# Which epoch is kept


def test_the_best_epochs_weights_are_restored_and_evaluate_to_its_metrics() -> None:
    copies: list[dict[str, Tensor]] = []
    task = Regression()
    evaluate = torch.no_grad()(task.evaluate)

    def copying(model: nn.Module) -> dict[str, float]:
        copies.append({name: value.clone() for name, value in model.state_dict().items()})
        return evaluate(model)

    task.evaluate = copying  # type: ignore[method-assign]
    result = fit(task, Schedule(20, monitor="validation_loss"), seed=3)
    losses = [epoch["validation_loss"] for epoch in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses)) < 20
    assert all(torch.equal(v, copies[result.best_epoch - 1][k]) for k, v in result.model.state_dict().items())
    assert not result.model.training
    assert evaluate(result.model)["validation_loss"] == result.metrics["validation_loss"] == min(losses)
    assert result.parameters == 4 * 8 + 8 + 2 * 8 + 8 + 1
    assert 0 < result.step_seconds * 20 <= 20 * result.seconds


def test_frozen_parameters_are_not_counted() -> None:
    task = Regression()
    build = task.build

    def frozen() -> nn.Module:
        model = build()
        model.get_submodule("0").requires_grad_(False)
        return model

    task.build = frozen  # type: ignore[method-assign]
    assert fit(task, Schedule(1)).parameters == 2 * 8 + 8 + 1


NAN = math.nan


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("accuracy", [0.1, 0.3, 0.2], 2),
        ("validation_loss", [0.3, 0.1, 0.2], 2),
        ("loss_of_sleep", [0.3, 0.1, 0.5], 3),
        ("accuracy", [0.3, 0.3, 0.3], 1),
        ("validation_loss", [0.3, 0.1, 0.1], 2),
        ("accuracy", [NAN, 0.1, NAN], 2),
        ("validation_loss", [NAN, 0.9, NAN], 2),
        ("validation_loss", [0.5, NAN, 0.4], 3),
        ("accuracy", [NAN, NAN, NAN], 1),
        ("validation_loss", [math.inf, 5.0, math.inf], 2),
    ],
)
def test_the_monitor_decides(name: str, values: list[float], best: int) -> None:
    result = scripted(name, values, Schedule(3, monitor=name))
    assert (result.best_epoch, weight(result)) == (best, best)
    assert result.metrics is result.history[best - 1]


def test_without_a_monitor_the_last_epoch_is_kept() -> None:
    result = scripted("accuracy", [0.9, 0.2, NAN], Schedule(3))
    assert (result.best_epoch, weight(result), len(result.history)) == (3, 3.0, 3)


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        ([0.5, 0.4, 0.3, 0.9], 2, 3, 1),
        ([0.5, 0.4, 0.6, 0.5, 0.5, 0.9], 2, 5, 3),
        ([0.5, 0.5, 0.5, 0.9], 2, 3, 1),
        ([0.5, 0.4, 0.6, 0.5], 1, 2, 1),
        ([NAN, NAN, NAN, 0.9], 2, 2, 1),
        ([0.1, 0.2, 0.3, 0.4], 1, 4, 4),
        ([0.5, 0.4, 0.3, 0.9], None, 4, 4),
    ],
)
def test_patience_counts_epochs_without_a_new_best(
    values: list[float], patience: int | None, epochs: int, best: int
) -> None:
    result = scripted("accuracy", values, Schedule(len(values), "accuracy", patience))
    assert (len(result.history), result.best_epoch, weight(result)) == (epochs, best, best)


def test_watched_metrics_extend_patience_but_do_not_choose() -> None:
    losses, accuracies = [0.9, 0.8, 0.7, 0.6, 0.65, 0.66, 0.1], [0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.9]
    metrics = [{"loss_b": a, "b_loss": a, "accuracy": b} for a, b in zip(losses, accuracies, strict=True)]
    both = fit(Scripted(*metrics), Schedule(7, "accuracy", 2, ("b_loss", "accuracy")))
    assert (len(both.history), both.best_epoch) == (6, 1)
    alone = fit(Scripted(*metrics), Schedule(7, "accuracy", 2))
    assert len(alone.history) == 3
    # The monitor is not watched: a new best of it is kept, yet patience runs out.
    other = fit(Scripted(*metrics), Schedule(7, "b_loss", 2, ("accuracy",)))
    assert (len(other.history), other.best_epoch) == (3, 3)


@pytest.mark.parametrize(
    ("accuracies", "losses", "best"),
    [
        ([0.5, 0.7, 0.7, 0.7], [0.9, 0.8, 0.6, 0.7], 3),
        ([0.5, 0.7, 0.7, 0.6], [0.9, 0.8, 0.8, 0.1], 2),
        ([0.7, 0.8, 0.8, 0.8], [0.1, 0.5, 0.6, NAN], 2),
        ([0.5, 0.5, 0.9, 0.9], [0.9, 0.1, 0.8, 0.2], 4),
    ],
)
def test_ties_on_the_monitor_go_to_the_tie_break(
    accuracies: list[float], losses: list[float], best: int
) -> None:
    metrics = [{"accuracy": a, "b_loss": b} for a, b in zip(accuracies, losses, strict=True)]
    schedule = Schedule(4, "accuracy", tie_break="b_loss")
    result = fit(Scripted(*metrics), schedule)
    assert (result.best_epoch, weight(result)) == (best, best)
    assert (
        fit(Scripted(*metrics), Schedule(4, "accuracy")).best_epoch == accuracies.index(max(accuracies)) + 1
    )


def test_the_tie_break_does_not_extend_patience() -> None:
    metrics = [{"accuracy": 0.5, "b_loss": 1.0 - epoch / 10} for epoch in range(6)]
    result = fit(Scripted(*metrics), Schedule(6, "accuracy", 2, tie_break="b_loss"))
    assert (len(result.history), result.best_epoch) == (3, 3)


def test_metrics_may_be_numbers_of_numpy_and_torch(tmp_path: Path) -> None:
    task = Scripted({"accuracy": np.float32(0.5)}, {"accuracy": torch.tensor(0.25)})  # type: ignore[dict-item]
    result = fit(task, Schedule(2, "accuracy"), checkpoint=tmp_path / "c", every_seconds=0)
    assert [epoch["accuracy"] for epoch in result.history] == [0.5, 0.25]
    assert fit(task, Schedule(2, "accuracy"), checkpoint=tmp_path / "c").history == result.history


def test_the_training_loss_is_the_mean_over_batches() -> None:
    task = Scripted({})
    task.batches = lambda epoch: [1, 2, 3]  # type: ignore[method-assign]
    task.losses = {1: 0.0, 2: 1.0, 3: 1.0}
    # The weight is 0, 0 and 1 when the three losses are taken.
    assert fit(task, Schedule(1)).history == [{"loss": -1 / 3}]


# What the caller got wrong, and what diverges


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs >= 1, got 0"),
        ({"epochs": 5, "monitor": "a", "patience": 0}, "patience >= 1, got 0"),
        ({"epochs": 5, "patience": 3}, "patience needs a monitor"),
        ({"epochs": 5, "tie_break": "b"}, "tie_break needs a monitor"),
    ],
)
def test_impossible_schedules_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Schedule(**arguments)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(UserError, match=f"from 0 to 4,294,967,295, got {seed}"):
        fit(Regression(), BY_LOSS, seed=seed)


@pytest.mark.parametrize("schedule", [Schedule(2, "nonsense"), Schedule(2, "loss", 1, ("nonsense",))])
def test_an_unknown_metric_is_named_beside_those_that_there_are(schedule: Schedule) -> None:
    with pytest.raises(UserError, match=r"'nonsense' is not among \['loss', 'validation_loss'\]"):
        fit(Regression(), schedule)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_epoch(value: float) -> None:
    task = Scripted(*[{"a": 1.0}] * 5)
    task.losses = {3: value}
    with pytest.raises(UserError, match=r"the training loss became -?(nan|inf) in epoch 3; lower"):
        fit(task, Schedule(5))


def test_weights_that_diverged_in_the_last_step_are_not_handed_out() -> None:
    task = Scripted({"a": 1.0})
    task.losses = {1: 2.0}
    task.optimizer = lambda model: torch.optim.SGD(model.parameters(), lr=3e38)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="weights of epoch 1 are not finite"):
        fit(task, Schedule(1))


def test_an_epoch_without_batches_is_refused() -> None:
    task = Regression()
    task.batches = lambda epoch: []  # type: ignore[method-assign]
    with pytest.raises(UserError, match="at least one batch in epoch 1"):
        fit(task, BY_LOSS)
