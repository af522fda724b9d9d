"""The claims about kernel attention: on any head, and every kind of damage is seen."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_heads import heads, measured

from layerlab.attention import reference
from layerlab.attention.features import EluPlusOne
from layerlab.attention.kernels import operators
from layerlab.attention.theorems import kernel as theorem
from layerlab.attention.theorems.kernel import Kernel, by_definition
from layerlab.attention.theorems.subjects import Head, column, random_head


@settings(derandomize=True, deadline=None, max_examples=80)
@given(heads(), st.sampled_from(["elu", "relu", "hedgehog", "random"]))
def test_the_groupings_hold_on_any_head(head: Head, name: str) -> None:
    outcome = measured(theorem.KERNEL_LINEAR, Kernel(head, name))
    assert outcome.verdict == "holds" or "denominator" in str(outcome.unmet)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(heads(causal=True), st.sampled_from(["elu", "hedgehog"]))
def test_decoding_holds_on_any_causal_head(head: Head, name: str) -> None:
    assert measured(theorem.KERNEL_RECURRENT, Kernel(head, name)).verdict == "holds"


@pytest.mark.parametrize("causal", [False, True])
def test_the_definition_is_that_of_the_dense_twin(causal: bool) -> None:
    head = random_head(9, causal=causal)
    q, k, v = (x[None, None] for x in (head.q, head.k, head.v))
    dense = reference.apply(reference.linear_weights(q, k, EluPlusOne(), causal=causal), v)[0, 0]
    assert torch.allclose(by_definition(Kernel(head, "elu")), dense, rtol=1e-13, atol=1e-13)


def test_the_definition_is_equation_1_1_in_exact_arithmetic() -> None:
    # phi(x) = x + 1 for these, so all is rational.
    head = Head(column(1.0, 2.0), column(3.0, 0.5, 1.0), column(5.0, -1.0, 2.0))
    q, k, v = ([Fraction(x).limit_denominator(8) for x in t[:, 0].tolist()] for t in (head.q, head.k, head.v))
    for i, row in enumerate(by_definition(Kernel(head, "elu"))[:, 0].tolist()):
        sim = [(q[i] + 1) * (key + 1) for key in k]
        assert row == pytest.approx(
            float(sum(s * x for s, x in zip(sim, v, strict=True)) / sum(sim)), rel=1e-14
        )


@pytest.mark.parametrize("damage", [1e-9, -1e-9, float("nan")])
def test_an_output_that_is_off_in_the_ninth_digit_is_seen(damage: float) -> None:
    def off(kernel: Kernel) -> torch.Tensor:
        out = by_definition(kernel)
        out[-1, -1] += damage
        return out

    given = Kernel(random_head(63), "elu")
    assert measured(theorem.KERNEL_LINEAR, given, forms=(by_definition, off)).verdict == "violated"
    assert measured(theorem.KERNEL_LINEAR, given, forms=(off, by_definition)).verdict == "violated"


def test_the_shipped_operator_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Kernel(random_head(20, causal=True), "elu")
    assert measured(theorem.KERNEL_LINEAR, given).verdict == "holds"
    shipped = theorem.linear.linear_attention
    monkeypatch.setattr(theorem.linear, "linear_attention", lambda *a, **o: shipped(*a, **o) * (1 + 1e-9))
    assert measured(theorem.KERNEL_LINEAR, given).verdict == "violated"


def test_the_kernels_and_their_twin_are_both_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Kernel(random_head(20, causal=True), "elu")
    for name in ("linear_attention", "plain"):
        with monkeypatch.context() as patch:
            shipped = getattr(operators, name)

            def off(*arguments: Any, shipped: Any = shipped) -> Any:
                out, *others = shipped(*arguments)
                return (out * (1 + 1e-9), *others)

            patch.setattr(operators, name, off)
            assert measured(theorem.KERNEL_LINEAR, given).verdict == "violated", name
    assert measured(theorem.KERNEL_LINEAR, given).verdict == "holds"


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (Head(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 1)), "float32, not float64"),
        (Head(column(1.0), column(1.0), column(1.0, 2.0)), "not (n, d), (m, d) and (m, e)"),
        (Head(column(1.0), column(1.0), torch.ones(1).double()), "not (n, d), (m, d) and (m, e)"),
        (Head(torch.ones(0, 2).double(), torch.ones(3, 2).double(), torch.ones(3, 1).double()), "no query"),
        (Head(column(1.0), column(float("nan")), column(1.0)), "not finite"),
        (Head(column(1.0), column(1e101), column(1.0)), "above 1e+100"),
        (Head(column(1.0), column(1.0, -1e101), column(1.0, 1.0)), "above 1e+100"),
        (
            Head(column(1.0), column(1.0, 2.0), column(1.0, 2.0), causal=True),
            "causal attention of 1 queries to 2",
        ),
        (random_head(1001), "too many"),
        (random_head(2, keys=1001), "too many"),
        # φ of −60 is e^(−60): one denominator of the two.
        (
            Head(column(0.0, 0.0), column(-60.0, 0.0), column(1.0, 1.0), causal=True),
            "a denominator is 8.8e-27",
        ),
    ],
)
def test_unfit_heads_have_their_reason(head: Head, why: str) -> None:
    outcome = measured(theorem.KERNEL_LINEAR, Kernel(head, "elu"))
    assert why in str(outcome.unmet)


def test_the_largest_heads_and_numbers_allowed_are_fit() -> None:
    assert random_head(1000).unmet() is None
    assert Head(column(1e100), column(-1e100), column(1.0)).unmet() is None
