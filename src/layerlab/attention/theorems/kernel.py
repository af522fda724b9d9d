"""The claims about kernel attention, sim(q, k) = φ(q)·φ(k) (homework 4, question 1.3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerlab.attention import features, linear
from layerlab.attention.features import FeatureMap
from layerlab.attention.theorems import subjects
from layerlab.attention.theorems.subjects import Head, column, random_head
from layerlab.claims import Claim, Falsifier, Measurement, Slack, exact, rounding
from layerlab.lab import kernels

_LEAST = 1e-20


@dataclass(frozen=True)
class Kernel:
    """A head with a feature map in the place of the softmax.

    Args:
        head: one head, float64.
        name: the feature map, as `layerlab.attention.feature_map` knows it.
        dtype: what the shipped operator computes in; the definition is float64.
    """

    head: Head
    name: str
    dtype: torch.dtype = torch.float64

    @property
    def map(self) -> FeatureMap:
        """The feature map, with fixed weights."""
        return features.feature_map(self.name, heads=1, head_size=self.head.q.shape[1]).requires_grad_(False)

    def given(self) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v as the shipped operator takes them: ``(1, 1, n, d)``, in its dtype."""
        q, k, v = (x[None, None].to(self.dtype) for x in (self.head.q, self.head.k, self.head.v))
        return q, k, v

    def features(self) -> tuple[Tensor, Tensor]:
        """φ(q) and φ(k), float64, of the rounded numbers that the operator sees."""
        q, k, _ = (x.double() for x in self.given())
        phi = self.map
        return phi.queries(q)[0, 0], phi.keys(k)[0, 0]

    def values(self) -> Tensor:
        """v in float64, rounded as the operator sees it."""
        return self.given()[2][0, 0].double()

    def similarities(self) -> Tensor:
        """sim(q_i, k_j), ``(n, m)``; 0 where i does not see j."""
        left, right = self.features()
        sim = left @ right.T
        return sim.tril() if self.head.causal else sim

    def slack(self) -> Slack:
        """What rounding leaves of max |a grouping − the definition|.

        No term is negative, so both sums are right to ε times their number of terms, and so is each feature, an
        exponential, to ε times its exponent; a quotient of two such sums to twice as much of the largest value.
        """
        largest = max(self.exponent(x[0, 0].double()) for x in self.given()[:2])
        terms = len(self.head.k) + self.features()[0].shape[1]
        size = 2 * (terms + 2 * math.ceil(largest) + 8)
        return rounding(self.dtype, size, scale=float(self.values().abs().max()) or 1.0)

    def exponent(self, x: Tensor) -> float:
        """The largest exponent in the features of x ``(n, d)``, as a sum of magnitudes, times its number of terms."""
        phi = self.map
        if not isinstance(phi, features.PositiveRandomFeatures):
            return float(x.abs().max())
        y = x.abs() * phi.root
        squares = y.square().sum(1, keepdim=True) / 2
        return float((y @ phi.directions.double().abs().T + squares).max()) * x.shape[1]


# Another way to the same output, (n, e).
Form = Callable[[Kernel], Tensor]


def by_definition(kernel: Kernel) -> Tensor:
    """Equation 1.1: Σ_j sim(q_i, k_j) v_j / Σ_j sim(q_i, k_j), all similarities built."""
    sim = kernel.similarities()
    return (sim @ kernel.values()) / sim.sum(1, keepdim=True)


def _sums(left: Tensor, right: Tensor, values: Tensor, causal: bool) -> Tensor:
    """φ(q_i)ᵀ Σ_j φ(k_j) v_jᵀ / φ(q_i)ᵀ Σ_j φ(k_j), the sums over keys formed first."""
    if not causal:
        return (left @ (right.T @ values)) / (left @ right.sum(0)[:, None])
    outer = (right[:, :, None] * values[:, None, :]).cumsum(0)
    numerator = torch.einsum("nr,nre->ne", left, outer)
    return numerator / (left * right.cumsum(0)).sum(1, keepdim=True)


def _grouped(kernel: Kernel) -> Tensor:
    left, right = kernel.features()
    return _sums(left, right, kernel.values(), kernel.head.causal)


def _shipped(kernel: Kernel) -> Tensor:
    q, k, v = kernel.given()
    out = linear.linear_attention(q, k, v, feature_map=kernel.map, causal=kernel.head.causal)
    return out[0, 0].double()


def _shipped_plain(kernel: Kernel) -> Tensor:
    with kernels.disabled():
        return _shipped(kernel)


def _queries_only(kernel: Kernel) -> Tensor:
    """Broken: φ applied to q only."""
    left, _ = kernel.features()
    return _sums(left, kernel.given()[1][0, 0].double(), kernel.values(), kernel.head.causal)


def _unnormalised(kernel: Kernel) -> Tensor:
    """Broken: the denominator left out."""
    left, right = kernel.features()
    return left @ (right.T @ kernel.values())


def _normalised_by_keys(kernel: Kernel) -> Tensor:
    """Broken: the ratio of the sums over keys, before the query has its say."""
    left, right = kernel.features()
    means = (right.T @ kernel.values()) / right.sum(0)[:, None]
    return (left @ means) / left.sum(1, keepdim=True)


def _not_causal(kernel: Kernel) -> Tensor:
    """Broken for a causal head: sums over all keys."""
    left, right = kernel.features()
    return _sums(left, right, kernel.values(), causal=False)


def _unmet(kernel: Kernel) -> str | None:
    if reason := kernel.head.unmet():
        return reason
    if not kernel.map.non_negative:
        return f"the feature map {kernel.name!r} has negative features"
    if (least := float(kernel.similarities().sum(1).min())) < _LEAST:
        return f"a denominator is {least:.1e}, below {_LEAST:g}"
    return None


_FORMS: tuple[Form, ...] = (_grouped, _shipped, _shipped_plain)


def _measure_kernel_linear(
    kernel: Kernel, generator: np.random.Generator, *, forms: Sequence[Form] = _FORMS
) -> Measurement:
    if reason := _unmet(kernel):
        return Measurement.unmet_because(reason)
    expected = by_definition(kernel)
    apart = [float((form(kernel) - expected).abs().max()) for form in forms]
    # max would drop a NaN that is not the first.
    return Measurement(float(np.max(apart)), bound=0.0, slack=kernel.slack())


_FEATURES = (
    subjects.FINITE,
    subjects.DENSE,
    "no feature is negative, and no denominator is below 1e-20",
)


def _noughts(n: int) -> Head:
    """Queries and keys 0: all weights equal."""
    return random_head(n, scale=0.0)


KERNEL_LINEAR = Claim(
    id="attention.kernel-linear",
    title="With sim = φ(q)·φ(k) the sums over keys can be formed first",
    source="Homework 4, question 1.3.1; Katharopoulos et al., Transformers are RNNs (ICML 2020)",
    statement=(
        "Σ_j φ(q_i)·φ(k_j) v_j / Σ_j φ(q_i)·φ(k_j) = φ(q_i)ᵀ (Σ_j φ(k_j) v_jᵀ) / φ(q_i)ᵀ Σ_j φ(k_j), causal sums over "
        "j ≤ i; measured: max |grouping − definition| over rows, of this formula and of `linear_attention` with its "
        "kernels and without; the cost: attention.kernel-linear-cost"
    ),
    hypotheses=_FEATURES,
    relation="==",
    extreme="least",
    measure=_measure_kernel_linear,
    subjects={
        "single-token": lambda: Kernel(random_head(1), "elu"),
        "elu": lambda: Kernel(random_head(63), "elu"),
        "elu-more-keys": lambda: Kernel(random_head(10, keys=100), "elu"),
        "elu-causal": lambda: Kernel(random_head(300, causal=True), "elu"),
        "elu-large": lambda: Kernel(random_head(63, scale=5.0), "elu"),
        "relu-causal": lambda: Kernel(random_head(63, d=16, causal=True), "relu"),
        "random-features": lambda: Kernel(random_head(100), "random"),
        "hedgehog": lambda: Kernel(random_head(100), "hedgehog"),
        "hedgehog-causal": lambda: Kernel(random_head(63, causal=True), "hedgehog"),
        "uniform": lambda: Kernel(_noughts(9), "elu"),
        "float32": lambda: Kernel(random_head(400, d=16), "elu", torch.float32),
        "float32-causal": lambda: Kernel(random_head(400, d=16, causal=True), "elu", torch.float32),
    },
    falsifiers={
        "queries-only": Falsifier(
            "φ applied to q only",
            lambda: Kernel(random_head(63), "elu"),
            replaces={"forms": (_queries_only,)},
        ),
        "unnormalised": Falsifier(
            "the denominator left out",
            lambda: Kernel(random_head(63), "elu"),
            replaces={"forms": (_unnormalised,)},
        ),
        "normalised-by-keys": Falsifier(
            "the sums over keys divided before they meet the query",
            lambda: Kernel(random_head(63), "elu"),
            replaces={"forms": (_normalised_by_keys,)},
        ),
        "not-causal": Falsifier(
            "sums over all keys for a causal head",
            lambda: Kernel(random_head(63, causal=True), "elu"),
            replaces={"forms": (_not_causal,)},
        ),
        "signed": Falsifier(
            "φ(x) = x, which has negative features",
            lambda: Kernel(random_head(63), "identity"),
            expected="hypotheses unmet",
        ),
        "no-common-feature": Falsifier(
            "ReLU features of which the query has none: the denominator is 0",
            lambda: Kernel(Head(column(-1.0), column(1.0), column(1.0)), "relu"),
            expected="hypotheses unmet",
        ),
    },
)


# -------------------------------------------------------------------------------------------------- kernel-recurrent


def _decoded(kernel: Kernel) -> Tensor:
    """Token by token, from a state of r (e + 1) numbers."""
    q, k, v = kernel.given()
    state = linear.LinearState.empty(1, 1, q.shape[3], v.shape[3], feature_map=kernel.map)
    rows = [state.step(q[:, :, i : i + 1], k[:, :, i : i + 1], v[:, :, i : i + 1]) for i in range(q.shape[2])]
    return torch.cat(rows, 2)[0, 0].double()


def _read_before(kernel: Kernel) -> Tensor:
    """Broken: each row is read before its own key is taken in."""
    left, right = kernel.features()
    later = [
        _sums(left[i : i + 1], right[:i], kernel.values()[:i], causal=False) for i in range(1, len(left))
    ]
    return torch.cat([by_definition(kernel)[:1], *later])


def _forgetful(kernel: Kernel) -> Tensor:
    """Broken: a state that keeps half of what it knew at each step."""
    left, right = kernel.features()
    s, z = (
        torch.zeros(right.shape[1], kernel.values().shape[1]).double(),
        torch.zeros(right.shape[1]).double(),
    )
    rows = []
    for query, key, value in zip(left, right, kernel.values(), strict=True):
        s, z = s / 2 + torch.outer(key, value), z / 2 + key
        rows.append((query @ s) / (query @ z))
    return torch.stack(rows)


def _measure_recurrent(
    kernel: Kernel, generator: np.random.Generator, *, form: Form = _decoded
) -> Measurement:
    if not kernel.head.causal:
        return Measurement.unmet_because("the head is not causal")
    return _measure_kernel_linear(kernel, generator, forms=(form,))


KERNEL_RECURRENT = Claim(
    id="attention.kernel-recurrent",
    title="Causal kernel attention is a recurrence with a state of fixed size",
    source="Katharopoulos et al., Transformers are RNNs (ICML 2020), section 3.4",
    statement=(
        "S_i = S_(i−1) + φ(k_i) v_iᵀ, z_i = z_(i−1) + φ(k_i), output_i = φ(q_i)ᵀ S_i / φ(q_i)ᵀ z_i: the causal rows,"
        " from r (e + 1) numbers whatever i is; measured: max |decoded − definition| over the rows"
    ),
    hypotheses=(*_FEATURES, "causal: query i sees keys j ≤ i"),
    relation="==",
    extreme="least",
    measure=_measure_recurrent,
    subjects={
        "single-token": lambda: Kernel(random_head(1, causal=True), "elu"),
        "elu": lambda: Kernel(random_head(200, causal=True), "elu"),
        "hedgehog": lambda: Kernel(random_head(63, causal=True), "hedgehog"),
        "float32": lambda: Kernel(random_head(200, d=16, causal=True), "elu", torch.float32),
    },
    falsifiers={
        "read-before": Falsifier(
            "a row read before its own key is taken in",
            lambda: Kernel(random_head(9, causal=True), "elu"),
            replaces={"form": _read_before},
        ),
        "forgetful": Falsifier(
            "a state that halves at each step",
            lambda: Kernel(random_head(9, causal=True), "elu"),
            replaces={"form": _forgetful},
        ),
        "bidirectional": Falsifier(
            "a head that is not causal",
            lambda: Kernel(random_head(9), "elu"),
            expected="hypotheses unmet",
        ),
    },
)


# -------------------------------------------------------------------------------------------------------- as printed


def _measure_sign(kernel: Kernel, generator: np.random.Generator) -> Measurement:
    if reason := kernel.head.unmet():
        return Measurement.unmet_because(reason)
    left, right = kernel.features()
    scale = float((left.abs() @ right.abs().T).max()) or 1.0
    return Measurement(
        float(kernel.similarities().min()), 0.0, rounding("float64", left.shape[1] + 2, scale=scale)
    )


KERNEL_SIGN_AS_PRINTED = Claim(
    id="attention.kernel-sign-as-printed",
    title="As printed: every kernel φ(x)·φ(y) is non-negative",
    source="Homework 4, question 1.3.1, as printed",
    statement=(
        "φ(x)ᵀ φ(y) ≥ 0 for every feature map φ. False: a kernel is positive semi-definite, which makes φ(x)·φ(x) ≥ 0"
        " and no more; φ(x) = x gives −1 for q = 1, k = −1; measured: the smallest φ(q_i)·φ(k_j)"
    ),
    hypotheses=(subjects.FINITE, subjects.DENSE),
    relation=">=",
    measure=_measure_sign,
    subjects={
        "opposite": lambda: Kernel(Head(column(1.0), column(-1.0), column(1.0)), "identity"),
        "random": lambda: Kernel(random_head(9), "identity"),
    },
    falsifiers={
        "elu": Falsifier(
            "elu + 1, a map without negative features",
            lambda: Kernel(random_head(9), "elu"),
            expected="holds",
        ),
        "same-direction": Falsifier(
            "q and k of one sign: there it is true",
            lambda: Kernel(Head(column(1.0, 2.0), column(3.0, 0.5), column(1.0, 1.0)), "identity"),
            expected="holds",
        ),
    },
    expected="refuted",
)


def _measure_denominators(kernel: Kernel, generator: np.random.Generator) -> Measurement:
    if reason := kernel.head.unmet():
        return Measurement.unmet_because(reason)
    without = kernel.similarities().sum(1) == 0
    return Measurement(float(without.sum()), 0.0, exact("rows whose denominator is 0 are counted"))


KERNEL_DENOMINATOR_AS_PRINTED = Claim(
    id="attention.kernel-denominator-as-printed",
    title="As printed: a similarity that is not negative is all that attention needs",
    source="Homework 4, question 1.3.1, as printed",
    statement=(
        "equation 1.1 is valid for every kernel, the only constraint being sim ≥ 0. False: it divides by Σ_j sim(q_i,"
        " k_j), which must not be 0; ReLU features are not negative, and give 0 / 0 for q = −1, k = 1; φ(x) = x does"
        " for q = 1 and keys 1, −1; measured: rows whose denominator is 0"
    ),
    hypotheses=(subjects.FINITE, subjects.DENSE),
    relation="==",
    measure=_measure_denominators,
    subjects={
        "relu": lambda: Kernel(Head(column(-1.0), column(1.0), column(1.0)), "relu"),
        "linear": lambda: Kernel(Head(column(1.0), column(1.0, -1.0), column(1.0, 1.0)), "identity"),
    },
    falsifiers={
        "elu": Falsifier(
            "elu + 1, all of whose features are positive",
            lambda: Kernel(Head(column(-1.0), column(1.0), column(1.0)), "elu"),
            expected="holds",
        ),
        "relu-on-positive": Falsifier(
            "ReLU features of positive numbers: there it is true",
            lambda: Kernel(Head(column(1.0), column(1.0), column(1.0)), "relu"),
            expected="holds",
        ),
    },
    expected="refuted",
)
