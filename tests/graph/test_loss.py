"""Cross-entropy and accuracy against torch's: values, both gradients, extremes, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.loss import cross_entropy, scores
from layerlab.lab import kernels


def sample(rows: int, classes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * 100 + classes)
    logits = 5 * torch.randn(rows, classes, generator=generator, dtype=dtype)
    return logits.requires_grad_(), torch.randint(classes, (rows,), generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [1, 2, 7, 8, 9, 16, 40])
def test_value_and_gradient(classes: int, dtype: torch.dtype) -> None:
    rounding = {"rtol": 1e-5, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-14}
    for rows in (1, 3, 140):
        logits, labels = sample(rows, classes, dtype)
        ours, theirs = cross_entropy(logits, labels), torch.nn.functional.cross_entropy(logits, labels)
        assert type(ours.grad_fn).__name__ == "_CrossEntropyBackward"
        torch.testing.assert_close(ours, theirs, **rounding)
        a, b = (torch.autograd.grad(-2.5 * loss, logits)[0] for loss in (ours, theirs))
        torch.testing.assert_close(a, b, **rounding)
        with kernels.disabled():
            torch.testing.assert_close(cross_entropy(logits, labels), theirs)


def test_a_second_backward_finds_what_the_first_found() -> None:
    logits, labels = sample(5, 4, torch.float32)
    loss = cross_entropy(logits, labels)
    loss.backward(retain_graph=True)
    once = logits.grad.clone()
    loss.backward()
    torch.testing.assert_close(logits.grad, 2 * once, rtol=0, atol=0)


def test_first_and_second_gradients() -> None:
    logits, labels = sample(4, 5, torch.float64)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, labels), [logits])
    assert torch.autograd.gradgradcheck(lambda x: cross_entropy(x, labels), [logits])


@pytest.mark.parametrize("value", [1e30, -1e30, torch.inf, -torch.inf, torch.nan])
def test_extreme_logits_give_what_torch_gives(value: float) -> None:
    logits = torch.tensor([[0.0, 1.0, value], [1.0, 2.0, 3.0]])
    for label in (0, 2):
        labels = torch.tensor([label, 1])
        expected = torch.nn.functional.cross_entropy(logits, labels)
        torch.testing.assert_close(cross_entropy(logits, labels), expected, equal_nan=True)


def test_same_bits_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from layerlab.lab.kernels import threads

    monkeypatch.setattr(threads, "SMALL", 0)
    logits, labels = sample(3000, 7, torch.float32)
    bits = []
    for count in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        loss = cross_entropy(logits, labels)
        bits.append((float(loss.detach()), torch.autograd.grad(loss, logits)[0].numpy().tobytes()))
    assert bits[0] == bits[1] == bits[2]


def test_what_does_not_fit_is_refused() -> None:
    logits, labels = sample(3, 4, torch.float32)
    for wrong, match in (
        (torch.tensor([0, 4, 1]), r"0 ... 3, got 4 at position 1"),
        (torch.tensor([0, -1, 1]), r"got -1 at position 1"),
        (labels[:2], "expected logits"),
        (labels.int(), "int64"),
    ):
        with pytest.raises(UserError, match=match):
            cross_entropy(logits, wrong)
    with pytest.raises(UserError, match="at least one row"):
        cross_entropy(logits[:0], labels[:0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [1, 2, 7, 8, 9, 40])
def test_scores_at_some_rows(classes: int, dtype: torch.dtype) -> None:
    logits, labels = sample(2500, classes, dtype)
    for count in (1, 3, 2400):
        rows = torch.randperm(2500, generator=torch.Generator().manual_seed(count))[:count]
        loss, accuracy = scores(logits, rows, labels[rows])
        part = logits.detach()[rows]
        expected = torch.nn.functional.cross_entropy(part.double(), labels[rows])
        rounding = {"rtol": 1e-5, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-14}
        torch.testing.assert_close(loss, float(expected), **rounding)
        assert accuracy == float((part.argmax(1) == labels[rows]).double().mean())
        with kernels.disabled():
            slow = scores(logits, rows, labels[rows])
        torch.testing.assert_close(slow, (loss, accuracy), rtol=1e-5, atol=1e-7)


def test_the_first_of_equal_logits_is_the_class_and_nan_is_no_hit() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [torch.nan, 1.0, 2.0], [1.0, torch.nan, 3.0]])
    for labels, hits in (([0, 1, 0, 0], 2), ([1, 2, 2, 1], 0), ([2, 0, 1, 2], 0)):
        accuracy = scores(logits[:2], torch.arange(2), torch.tensor(labels[:2]))[1]
        assert accuracy == hits / 2
        _, accuracy = scores(logits, torch.arange(4), torch.tensor(labels))
        assert accuracy == hits / 4


def test_scores_have_the_same_bits_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from layerlab.lab.kernels import threads

    monkeypatch.setattr(threads, "SMALL", 0)
    logits, labels = sample(5000, 7, torch.float32)
    found = set()
    for count in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        found.add(scores(logits, torch.arange(5000), labels))
    assert len(found) == 1


def test_scores_refuse_what_does_not_fit() -> None:
    logits, labels = sample(3, 4, torch.float32)
    rows = torch.arange(3)
    for wrong_rows, wrong_labels, match in (
        (rows, torch.tensor([0, 4, 1]), "0 ... 3, got 4 at position 1"),
        (torch.tensor([0, 1, 3]), labels, r"rows in 0 ... 2, got"),
        (torch.tensor([0, -1, 1]), labels, r"rows in 0 ... 2, got"),
        (rows.int(), labels, "int64 rows"),
        (rows[:2], labels, "expected logits"),
        (rows[:0], labels[:0], "at least one row"),
    ):
        with pytest.raises(UserError, match=match):
            scores(logits, wrong_rows, wrong_labels)
    with kernels.disabled(), pytest.raises(UserError, match=r"rows in 0 ... 2"):
        scores(logits, torch.tensor([0, -1, 1]), labels)
