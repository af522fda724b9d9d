"""An objective counts, remembers and logs, and names what failed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.evaluation import EvaluationLog, Objective

FILE = Path(__file__).parent / "functions_to_call.py"
ALL = torch.tensor([[float(b) for b in f"{n:04b}"] for n in range(16)], dtype=torch.float64)
SUMS = ALL.sum(1).tolist()


def named(name: str) -> str:
    return f"{FILE}:{name}"


class Counted:
    def __init__(self, f: Callable[[Tensor], Any]) -> None:
        self.f = f
        self.samples: list[str] = []

    def __call__(self, x: Tensor) -> Any:
        self.samples += ["".join(str(int(bit)) for bit in row) for row in x.tolist()]
        value = self.f(x)
        x.zero_()
        return value


def test_a_sample_is_paid_once_and_checked_at_the_1st_2nd_4th_8th_time_that_one_comes_again() -> None:
    f = Counted(lambda x: x.sum(1))
    with Objective(f, "bits") as objective:
        assert objective(ALL[:4]).tolist() == SUMS[:4]
        # The first sample of all is evaluated twice.
        assert f.samples == ["0000", "0001", "0010", "0011", "0000"]
        for _ in range(3):
            objective(ALL[:4])
        assert len(f.samples) == objective.evaluations == objective.called == 5 + 4  # 1st, 2nd, 4th, 8th
        assert objective.repeats == 12 - 4
        assert objective.deterministic and objective.remarks == []
        assert objective.best() == ('"0011"', 2.0)


def test_minimising_finds_the_smallest() -> None:
    with Objective(lambda x: x.sum(1), "bits", maximise=False) as objective:
        objective(ALL[3:])
        assert objective.best() == ('"0100"', 1.0)


def test_a_noisy_function_is_reported_paid_every_time_and_averaged() -> None:
    values = iter([1.0, 2.0, 4.0, 3.0, 0.0])
    with Objective(lambda x: [next(values) for _ in x], "bits") as objective:
        assert objective(ALL[:1]).tolist() == [1.0]
        assert not objective.deterministic
        assert "not deterministic: it gave 1.0 and 2.0" in objective.remarks[0]
        assert objective(ALL[:1]).tolist() == [4.0]
        assert objective.memory.answer('"0000"') == pytest.approx(7 / 3)
        # Another sample, whose single value beats the mean; then the first one's mean falls further.
        objective(ALL[1:2])
        assert objective.best() == ('"0001"', 3.0)
        objective(ALL[1:2])
        assert objective.best() == ('"0000"', pytest.approx(7 / 3))
        assert objective.evaluations == 5


def test_last_digits_are_no_noise() -> None:
    values = iter([1.0, 1.0 + 1e-13])
    with Objective(lambda x: [next(values) for _ in x], "bits") as objective:
        objective(ALL[:1])
        assert objective.deterministic


def test_a_check_never_exceeds_the_budget() -> None:
    f = Counted(lambda x: x.sum(1))
    with Objective(f, "bits", budget=4) as objective:
        objective(ALL[:4])
        objective(ALL[:4])
        assert (len(f.samples), objective.remaining) == (4, 0)
        with pytest.raises(UserError, match="at most 0 evaluations"):
            objective(ALL[4:5])


@pytest.mark.parametrize(
    ("kind", "sample", "written"),
    [
        ("bits", torch.tensor([[0.0, 1.0]], dtype=torch.float64), '"01"'),
        ("categories", torch.tensor([[3, 0]]), "[3,0]"),
        ("gaussian", torch.tensor([[0.1, -2e-30]], dtype=torch.float64), "[0.1,-2e-30]"),
    ],
)
def test_a_sample_is_written_and_read_back_the_same(kind: Any, sample: Tensor, written: str) -> None:
    with Objective(lambda x: x.sum(1), kind) as objective:
        assert objective.keys(sample) == [written]
        assert torch.equal(objective.sample(written), sample[0])
        assert objective.sample(written).dtype == sample.dtype


def test_a_function_that_raises_names_file_line_and_sample_and_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with EvaluationLog(path, {}) as log, Objective(named("raises_at_three"), "bits", log=log) as objective:
        with pytest.raises(
            UserError, match=r'to_call\.py:\d+: f raised ValueError: three; evaluation 8, sample "0111"'
        ):
            objective(ALL)
        assert objective.evaluations == objective.called == 7
    with EvaluationLog(path, {}) as log, Objective(named("ones"), "bits", log=log) as objective:
        assert objective(ALL).tolist() == SUMS
        assert (objective.evaluations, objective.called) == (17, 10)


@pytest.mark.parametrize("name", ["raises_at_three", "nan_at_three"])
def test_a_failure_can_count_as_the_worst_value_and_is_not_tried_again(tmp_path: Path, name: str) -> None:
    expected = [0.0 if value == 3 else value for value in SUMS]
    path = tmp_path / "log.jsonl"
    for called in (17 + 4, 0):
        with (
            EvaluationLog(path, {}) as log,
            Objective(named(name), "bits", failures="worst", log=log) as objective,
        ):
            assert objective(ALL).tolist() == expected
            assert objective(ALL).tolist() == expected
            assert objective.failed == 4
            assert objective.best() == ('"1111"', 4.0)
            assert len(objective.remarks) == 1 and "counts as the worst value so far" in objective.remarks[0]
            assert objective.evaluations == 17 + 4
            assert objective.called == called
    with EvaluationLog(path, {}) as log, Objective(named("ones"), "bits", log=log) as objective:
        # Where a failure stops, those of the log are tried again.
        assert objective(ALL).tolist() == SUMS


def test_the_worst_value_is_the_largest_when_minimising() -> None:
    with Objective(named("nan_at_three"), "bits", failures="worst", maximise=False) as objective:
        assert objective(ALL).tolist() == [4.0 if value == 3 else value for value in SUMS]


def test_nothing_but_failures_is_an_error() -> None:
    with (
        Objective(named("raises_at_three"), "bits", failures="worst") as objective,
        pytest.raises(UserError, match="every evaluation so far failed"),
    ):
        objective(ALL[7:8])


def test_a_function_that_fails_on_batches_only_is_told() -> None:
    def f(x: Tensor) -> float:
        if len(x) > 1:
            raise ValueError("one at a time")
        return x.sum(1)

    with Objective(f, "bits") as objective:
        assert objective(ALL).tolist() == SUMS
        assert "--single" in objective.remarks[0]


def test_a_function_of_one_sample() -> None:
    with Objective(named("ones_of_one"), "bits", single=True) as objective:
        assert objective(ALL).tolist() == SUMS
    with (
        Objective(lambda x: x, "bits", single=True) as objective,
        pytest.raises(UserError, match=r"the shape \(4,\) for one sample; expected one number"),
    ):
        objective(ALL)


def test_what_f_prints_does_not_reach_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with Objective(named("ones"), "bits") as objective:
        objective(ALL)
    shown = capsys.readouterr()
    assert shown.out == "" and "ones is called" in shown.err


def test_the_log_answers_in_place_of_f_and_gives_the_same_bits_also_of_a_noisy_f(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with EvaluationLog(path, {}) as log, Objective(named("grows"), "bits", log=log) as objective:
        first = [objective(ALL).tolist(), objective(ALL).tolist()]
        counted = objective.evaluations
    with EvaluationLog(path, {}) as log, Objective(named("grows"), "bits", log=log) as objective:
        assert [objective(ALL).tolist(), objective(ALL).tolist()] == first
        assert (objective.evaluations, objective.called) == (counted, 0)
        objective(ALL)
        assert objective.called == 16


def test_a_changed_file_is_checked_against_its_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with (
        EvaluationLog(path, {"code": "1"}) as log,
        Objective(lambda x: x.sum(1), "bits", log=log) as objective,
    ):
        objective(ALL)
    with (
        EvaluationLog(path, {"code": "2"}) as log,
        Objective(lambda x: x.sum(1) * 1, "bits", log=log) as objective,
    ):
        assert "has changed" in objective.remarks[0]
        objective(ALL)
        assert objective.called == 0
    with (
        EvaluationLog(path, {"code": "3"}) as log,
        pytest.raises(UserError, match="f has changed since the log"),
    ):
        Objective(lambda x: x.sum(1) + 1, "bits", log=log)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "number of workers"),
        ({"timeout": 0.0}, "time limit above 0"),
        ({"timeout": float("nan")}, "time limit above 0"),
        ({"budget": 0}, "budget of at least 1"),
        ({"failures": "ignore"}, "'stop' or 'worst'"),
        ({"workers": 1}, "cannot be sent .* FILE.py:FUNC"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Objective(lambda x: x, "bits", **options)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(UserError, match="of type int; expected a function"):
        Objective(named("number"), "bits")


class TestWorkers:
    """One pool of each sort; the processes are what these tests cost."""

    def test_values_counts_and_threads(self) -> None:
        with Objective(named("ones"), "bits", workers=2) as objective:
            assert objective(ALL).tolist() == SUMS
            assert objective.evaluations == 17
        with Objective(named("threads"), "bits", workers=1) as objective:
            assert objective(ALL[:2]).tolist() == [1.0, 1.0]

    def test_a_hanging_evaluation_is_ended_and_named(self) -> None:
        with Objective(named("hangs_at_three"), "bits", timeout=0.2) as objective:
            with pytest.raises(UserError, match=r'hangs_at_three took longer than 0\.2 s .* sample "0111"'):
                objective(ALL[4:8])
            # The process was replaced, and what came before the failure is not paid again.
            assert objective(ALL[4:7]).tolist() == SUMS[4:7]

    def test_a_process_that_dies_is_replaced_and_its_sample_counts_as_the_worst(self) -> None:
        with Objective(named("dies_at_three"), "bits", workers=2, failures="worst") as objective:
            assert objective(ALL[:8]).tolist() == [*SUMS[:7], 0.0]
            assert "ended its process (exit code 7)" in objective.remarks[0]

    def test_a_file_that_cannot_be_loaded_is_told_once(self) -> None:
        with (
            Objective(named("missing"), "bits", workers=1) as objective,
            pytest.raises(UserError, match="has no 'missing'"),
        ):
            objective(ALL[:1])

    @pytest.mark.usefixtures("ctrl_c")
    def test_ctrl_c_ends_the_processes_and_keeps_the_log(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        timer = threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT])
        with (
            EvaluationLog(path, {}) as log,
            Objective(named("hangs_at_three"), "bits", workers=1, log=log) as objective,
        ):
            objective(ALL[:4])
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                objective(ALL[7:8])
        with EvaluationLog(path, {}) as log:
            assert log.lines == 5
