"""Families of distributions whose scores are known in closed form: Bernoulli, categorical, Gaussian.

A `Family` is a distribution with its parameters: what it draws, its log-probability, its score

    s(x) = d log p(x) / d parameters,

its entropy and its Fisher information. Parameters are ``(*batch, ...)``: a batch of distributions is drawn and
scored row by row, and every variable of one row is independent of the others.

References: Williams, Simple statistical gradient-following algorithms, Machine Learning 8 (1992); Amari, Natural
gradient works efficiently in learning, Neural Computation 10 (1998).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.estimators.draws import drawn, uniform

OUTCOMES = 2**20  # as many as are enumerated unless asked otherwise


class Family(ABC):
    """A distribution with its parameters. Frozen: `replaced` gives another one.

    Attributes:
        kind: ``"bernoulli"``, ``"categorical"``, ``"gaussian"`` or ``"other"``.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def parameters(self) -> Tensor:
        """``(*batch, ...)``, float32 or float64, detached."""

    @property
    @abstractmethod
    def batch_shape(self) -> torch.Size:
        """The shape of the batch of distributions; ``()`` for one distribution."""

    @abstractmethod
    def replaced(self, parameters: Tensor) -> Family:
        """The same family at other parameters of the same shape."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` independent samples, ``(n, *batch, *event)``, drawn from ``generator`` alone."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of samples ``(n, *batch, *event)``: ``(n, *batch)``."""

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """d log p(x) / d parameters of samples ``(n, *batch, *event)``: ``(n, *parameters.shape)``."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """-E[log p(x)] in nats, ``(*batch)``."""

    @abstractmethod
    def entropy_gradient(self) -> Tensor:
        """d entropy / d parameters, in the shape of the parameters."""

    @abstractmethod
    def natural(self, gradient: Tensor) -> Tensor:
        """The inverse (pseudo-inverse, where it is singular) of the Fisher information, times ``gradient``."""

    def outcomes(self, limit: int = OUTCOMES) -> Tensor | None:
        """Every outcome once, ``(N, *batch, *event)``; None where there are more than ``limit``."""
        return None

    def spread(self, weights: Tensor) -> Tensor:
        """``(n, *batch)`` numbers, made ready to be multiplied with scores ``(n, *parameters.shape)``."""
        own = self.parameters.ndim - len(self.batch_shape)
        return weights.to(self.parameters.dtype).reshape(*weights.shape, *[1] * own)


@dataclass(frozen=True, eq=False)
class Bernoulli(Family):
    """Independent bits: ``P(x_d = 1) = mu_d = sigmoid(logits_d)``; the score is ``x_d - mu_d``.

    Args:
        logits: ``(*batch, bits)``, finite, float32 or float64 (lists become float64).

    Samples are ``(n, *batch, bits)`` of 0. and 1. in the dtype of the logits.

    Raises:
        UserError: no bits, other dtypes, NaN, or infinite logits (a probability of exactly 0 or 1).

    >>> family = Bernoulli([0.0, math.log(3.0)])
    >>> family.probabilities.tolist()
    [0.5, 0.75]
    >>> family.score(torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)).tolist()
    [[0.5, 0.25], [-0.5, -0.75]]
    >>> family.outcomes().tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """

    kind: ClassVar[str] = "bernoulli"
    logits: Tensor

    def __post_init__(self) -> None:
        logits = _parameter(self.logits, "Bernoulli logits", "(*batch, bits)", least_dims=1)
        object.__setattr__(self, "logits", logits)

    @property
    def parameters(self) -> Tensor:
        return self.logits

    @property
    def batch_shape(self) -> torch.Size:
        return self.logits.shape[:-1]

    @cached_property
    def probabilities(self) -> Tensor:
        """mu, ``(*batch, bits)``."""
        return torch.sigmoid(self.logits)

    @cached_property
    def complements(self) -> Tensor:
        """1 - mu without cancellation, ``(*batch, bits)``."""
        return torch.sigmoid(-self.logits)

    def replaced(self, parameters: Tensor) -> Bernoulli:
        return Bernoulli(_same_shape(parameters, self.logits))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return (uniform(n, generator, self.logits) < self.probabilities).to(self.logits.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        each = x * functional.logsigmoid(self.logits) + (1 - x) * functional.logsigmoid(-self.logits)
        return each.sum(-1)

    def score(self, x: Tensor) -> Tensor:
        # As x - mu, but a mu next to 1 leaves 1 - mu its digits.
        return torch.where(x > 0.5, self.complements, -self.probabilities)

    def entropy(self) -> Tensor:
        mu, nu = self.probabilities, self.complements
        return -(mu * functional.logsigmoid(self.logits) + nu * functional.logsigmoid(-self.logits)).sum(-1)

    def entropy_gradient(self) -> Tensor:
        return -self.logits * self.probabilities * self.complements

    def natural(self, gradient: Tensor) -> Tensor:
        return gradient / _positive(self.probabilities * self.complements)

    def outcomes(self, limit: int = OUTCOMES) -> Tensor | None:
        bits = self.logits.shape[-1]
        numbers = _enumerated([2] * bits, limit, self.logits.device)
        return None if numbers is None else _for_batch(numbers.to(self.logits.dtype), self.batch_shape)


@dataclass(frozen=True, eq=False)
class Categorical(Family):
    """Independent variables with k values each: ``P(x_d = j) = softmax(logits_d)_j``.

    The score is ``onehot(x_d) - softmax(logits_d)``. The Fisher information is singular (a constant added to the
    logits changes nothing); `natural` takes its pseudo-inverse.

    Args:
        logits: ``(*batch, dims, k)``, finite, k at least 2, float32 or float64 (lists become float64).
        one_hot: samples are one-hot vectors ``(n, *batch, dims, k)`` in the dtype of the logits, which a
            differentiable f needs, instead of integers ``(n, *batch, dims)``, int64.

    Raises:
        UserError: no variables, fewer than 2 values, other dtypes, NaN, infinite logits.

    >>> family = Categorical([[0.0, 0.0, math.log(2.0)]])
    >>> [round(p, 6) for p in family.probabilities[0].tolist()]
    [0.25, 0.25, 0.5]
    >>> [round(s, 6) for s in family.score(torch.tensor([[2]]))[0, 0].tolist()]
    [-0.25, -0.25, 0.5]
    """

    kind: ClassVar[str] = "categorical"
    logits: Tensor
    one_hot: bool = False

    def __post_init__(self) -> None:
        logits = _parameter(self.logits, "categorical logits", "(*batch, dims, k)", least_dims=2)
        if logits.shape[-1] < 2:
            raise UserError(
                f"expected at least 2 values of each variable, got logits of {tuple(logits.shape)}"
            )
        object.__setattr__(self, "logits", logits)

    @property
    def parameters(self) -> Tensor:
        return self.logits

    @property
    def batch_shape(self) -> torch.Size:
        return self.logits.shape[:-2]

    @cached_property
    def _values(self) -> Tensor:
        return torch.arange(self.logits.shape[-1], device=self.logits.device)

    @cached_property
    def log_probabilities(self) -> Tensor:
        """``(*batch, dims, k)``."""
        return torch.log_softmax(self.logits, -1)

    @cached_property
    def probabilities(self) -> Tensor:
        """``(*batch, dims, k)``."""
        return torch.softmax(self.logits, -1)

    def replaced(self, parameters: Tensor) -> Categorical:
        return Categorical(_same_shape(parameters, self.logits), self.one_hot)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        u = uniform(n, generator, self.logits[..., :1])
        # Without the last sum, which rounding may leave below u.
        sums = self.probabilities.to(torch.float64).cumsum(-1)[..., :-1]
        x = (u >= sums).sum(-1, keepdim=True)
        return (x == self._values).to(self.logits.dtype) if self.one_hot else x.squeeze(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        return (self.hot(x) * self.log_probabilities).sum((-2, -1))

    def score(self, x: Tensor) -> Tensor:
        return self.hot(x) - self.probabilities

    def entropy(self) -> Tensor:
        return -(self.probabilities * self.log_probabilities).sum((-2, -1))

    def entropy_gradient(self) -> Tensor:
        information = self.probabilities * self.log_probabilities
        return self.probabilities * information.sum(-1, keepdim=True) - information

    def natural(self, gradient: Tensor) -> Tensor:
        inside = gradient - gradient.mean(-1, keepdim=True)
        solved = inside / _positive(self.probabilities)
        return solved - solved.mean(-1, keepdim=True)

    def outcomes(self, limit: int = OUTCOMES) -> Tensor | None:
        dims, k = self.logits.shape[-2:]
        numbers = _enumerated([k] * dims, limit, self.logits.device)
        if numbers is None:
            return None
        return _for_batch(self.hot(numbers) if self.one_hot else numbers, self.batch_shape)

    def hot(self, x: Tensor) -> Tensor:
        """Samples as one-hot vectors ``(n, *batch, dims, k)`` in the dtype of the logits."""
        if x.is_floating_point():
            return x
        return functional.one_hot(x, self.logits.shape[-1]).to(self.logits.dtype)


@dataclass(frozen=True, eq=False)
class Gaussian(Family):
    """Independent normal variables with means m and standard deviations exp(log_std).

    With ``e = (x - m) / std`` the scores are ``e / std`` (means) and ``e^2 - 1`` (log standard deviations); the Fisher
    information is diagonal, ``1 / std^2`` and 2.

    Args:
        mean: ``(*batch, d)``, finite, float32 or float64 (lists become float64).
        log_std: the same shape; or one that broadcasts to it.

    `parameters` are ``(*batch, 2, d)``: means, then log standard deviations. Samples are ``(n, *batch, d)``.

    Raises:
        UserError: no variables, other dtypes, NaN, infinite means, standard deviations that are 0 or infinite.

    >>> family = Gaussian([0.0, 1.0], 0.0)
    >>> family.score(torch.tensor([[1.0, -1.0]], dtype=torch.float64)).tolist()
    [[[1.0, -2.0], [0.0, 3.0]]]
    """

    kind: ClassVar[str] = "gaussian"
    mean: Tensor
    log_std: Tensor

    def __post_init__(self) -> None:
        mean = _parameter(self.mean, "Gaussian means", "(*batch, d)", least_dims=1)
        given = _tensor(self.log_std, "log_std").detach().to(mean)
        try:
            log_std = given.expand(mean.shape)
        except RuntimeError:
            raise UserError(
                f"expected log_std of the shape {tuple(mean.shape)} of the means, got {tuple(given.shape)}"
            ) from None
        std = log_std.exp()
        if not bool((torch.isfinite(std) & (std > 0)).all()):
            raise UserError(
                "expected standard deviations that are neither 0 nor infinite, got log_std from "
                f"{log_std.min():g} to {log_std.max():g}; keep them within -80 and 80"
            )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "log_std", log_std)

    @cached_property
    def parameters(self) -> Tensor:
        return torch.stack([self.mean, self.log_std], -2)

    @property
    def batch_shape(self) -> torch.Size:
        return self.mean.shape[:-1]

    @cached_property
    def std(self) -> Tensor:
        """``(*batch, d)``."""
        return self.log_std.exp()

    def replaced(self, parameters: Tensor) -> Gaussian:
        parameters = _same_shape(parameters, self.parameters)
        return Gaussian(parameters[..., 0, :], parameters[..., 1, :])

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.mean + self.std * self.noise(n, generator)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal numbers ``(n, *batch, d)``: samples are ``mean + std * noise``."""
        return drawn(torch.randn, (n, *self.mean.shape), generator, self.mean)

    def log_prob(self, x: Tensor) -> Tensor:
        e = (x - self.mean) / self.std
        return (-0.5 * e.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def score(self, x: Tensor) -> Tensor:
        e = (x - self.mean) / self.std
        return torch.stack([e / self.std, e.square() - 1], -2)

    def entropy(self) -> Tensor:
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def entropy_gradient(self) -> Tensor:
        return torch.stack([torch.zeros_like(self.mean), torch.ones_like(self.mean)], -2)

    def natural(self, gradient: Tensor) -> Tensor:
        return gradient * torch.stack([self.std.square(), torch.full_like(self.mean, 0.5)], -2)


def _parameter(given: Any, name: str, shape: str, least_dims: int) -> Tensor:
    given = _tensor(given, name)
    if given.dtype not in (torch.float32, torch.float64):
        raise UserError(f"expected {name} in float32 or float64, got {given.dtype}; pass logits.float()")
    if given.ndim < least_dims or not given.numel():
        raise UserError(f"expected {name} of shape {shape} and at least one, got {tuple(given.shape)}")
    # Not the memory of the caller's tensor, which an optimiser may step in place.
    given = given.detach().clone()
    finite = torch.isfinite(given)
    if not bool(finite.all()):
        at = (~finite).nonzero()[0].tolist()
        value = float(given[tuple(at)])
        if math.isnan(value) or name.startswith("Gaussian"):
            raise UserError(f"expected finite {name}, got {value:g} at {at}")
        raise UserError(
            f"expected finite {name}, got {value:g} at {at}: a probability of exactly 0 or 1 has no score; "
            "clamp the logits, to -30 ... 30 for example"
        )
    return given


def _tensor(given: Any, name: str) -> Tensor:
    if isinstance(given, Tensor):
        return given
    try:
        return torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"expected {name} as a tensor, array or list of numbers, got {given!r:.80}") from None


def _same_shape(parameters: Tensor, like: Tensor) -> Tensor:
    if parameters.shape != like.shape:
        raise UserError(
            f"expected parameters of shape {tuple(like.shape)} as before, got {tuple(parameters.shape)}"
        )
    return parameters


def _positive(numbers: Tensor) -> Tensor:
    """What to divide by: 0 / 0 where a probability underflows is to be 0."""
    return numbers.clamp_min(torch.finfo(numbers.dtype).tiny)


def _enumerated(sizes: list[int], limit: int, device: torch.device) -> Tensor | None:
    """All tuples of numbers below ``sizes``, in order, ``(N, len(sizes))`` int64."""
    count = math.prod(sizes)
    if count > limit:
        return None
    index = torch.arange(count, device=device)
    columns = []
    for size in reversed(sizes):
        columns.append(index % size)
        index = index // size
    return torch.stack(columns[::-1], -1)


def _for_batch(outcomes: Tensor, batch_shape: torch.Size) -> Tensor:
    """``(N, *event)`` as ``(N, *batch, *event)``, without copies."""
    n, *event = outcomes.shape
    view = outcomes.reshape(n, *[1] * len(batch_shape), *event)
    return view.expand(n, *batch_shape, *event)
