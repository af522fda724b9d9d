"""Control variates from a continuous relaxation (REBAR, RELAX), and the relaxation itself (Gumbel-softmax, biased).

With z behind the discrete sample b (see `relaxation`) and any differentiable c, both

    c(z~) s(b) + d c(z~) / d logits    and    d c(z) / d logits

have the same expectation, z~ being z given b written along its own path. Their difference has mean zero; how much
variance of ``f(b) s(b)`` it takes away depends on how well c(z) follows f(b).

References: Tucker et al., REBAR: low-variance, unbiased gradient estimates for discrete latent variable models, NeurIPS
2017; Grathwohl et al., Backpropagation through the void (RELAX), ICLR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.estimators.derivative import needs_one_hot
from layerlab.estimators.draws import drawn
from layerlab.estimators.estimator import Estimator, Terms
from layerlab.estimators.families import Family
from layerlab.estimators.relaxation import (
    Discrete,
    Latent,
    free,
    latent,
    squashed,
    to_latent,
    to_parameters,
)
from layerlab.estimators.score import of_others
from layerlab.estimators.values import Function, differentiated, evaluated
from layerlab.lab.subjects import user_code


@dataclass(frozen=True)
class GumbelSoftmax(Estimator):
    """The gradient of f at relaxed samples, ``sigmoid(z / t)`` or ``softmax(z / t)``.

    *Biased*: it is the gradient of another expectation, and f must make sense between its outcomes (Maddison, Mnih and
    Teh 2017; Jang, Gu and Poole 2017). The values and samples of its diagnostics are those of relaxed samples.

    Args:
        temperature: t; smaller is less biased and varies more.

    >>> from layerlab.estimators import Bernoulli
    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> GumbelSoftmax().terms(square, family, 1000, seeded).gradient.round(decimals=2).tolist()
    [0.08, 0.1]
    """

    name: ClassVar[str] = "gumbel-softmax"
    title: ClassVar[str] = "Gumbel-softmax (biased)"
    kinds: ClassVar[tuple[str, ...]] = ("bernoulli", "categorical")
    differentiable: ClassVar[bool] = True
    temperature: float = 0.5

    @property
    def biased(self) -> bool:
        return True

    def refusal(self, family: Family) -> str | None:
        return super().refusal(family) or needs_one_hot(self.name, family)

    def _terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        assert isinstance(family, Discrete)
        temperature = _temperature(self.temperature)
        y = squashed(family, free(family, samples, generator), temperature)
        values, slopes = differentiated(f, y, tuple(family.batch_shape))
        # What a softmax passes on sums to 0, and so is the same for log-probabilities and for logits.
        terms = to_latent(family, y, slopes, temperature)
        return Terms(terms, values, y, independent=True)


@dataclass(frozen=True)
class Rebar(Estimator):
    """REBAR (Tucker et al. 2017): REINFORCE less eta times a control variate, which is f at relaxed samples,

        mean of f(b) s(b) - eta [f(y) s(b) - (d/d z f(y)) (dz/dlogits - dz~/dlogits)],    y = sigmoid(z / t).

    Unbiased for every eta and t. z and z~ share their random numbers, so a draw costs two evaluations: f(b) and f(y).

    Args:
        eta: how much of the control variate is taken off. None: for each draw the best one, ``E[<R, C>] / E[<C, C>]``,
            estimated from the other draws, so that the estimate stays unbiased.
        temperature: t.

    >>> from layerlab.estimators import Bernoulli
    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> Rebar().terms(square, family, 1000, seeded).gradient.round(decimals=2).tolist()
    [0.1, 0.08]
    """

    name: ClassVar[str] = "rebar"
    title: ClassVar[str] = "REBAR"
    kinds: ClassVar[tuple[str, ...]] = ("bernoulli", "categorical")
    differentiable: ClassVar[bool] = True
    cost: ClassVar[int] = 2
    eta: float | None = None
    temperature: float = 0.5

    @property
    def least_samples(self) -> int:
        return 4 if self.eta is None else 2

    def refusal(self, family: Family) -> str | None:
        return super().refusal(family) or needs_one_hot(self.name, family)

    def _terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        assert isinstance(family, Discrete)
        return self.from_latent(f, family, latent(family, samples // 2, generator))

    def from_latent(self, f: Function, family: Discrete, behind: Latent) -> Terms:
        """The terms of given samples and what is behind them."""
        temperature = _temperature(self.temperature)
        if self.eta is not None and not math.isfinite(self.eta):
            raise UserError(f"expected a finite eta, got {self.eta}")
        batch = tuple(family.batch_shape)
        values = evaluated(f, behind.hard, batch)
        y = squashed(family, behind.z, temperature)
        soft, slopes = differentiated(f, y, batch)
        paths = to_parameters(family, behind.remaining * to_latent(family, y, slopes, temperature))
        scores = family.score(behind.hard)
        plain = family.spread(values) * scores
        control = torch.addcmul(-paths, family.spread(soft), scores)
        if self.eta is not None:
            return Terms(plain - self.eta * control, values, behind.hard, independent=True)
        wide = control.flatten(values.ndim).to(torch.float64)
        products = torch.linalg.vecdot(plain.flatten(values.ndim).to(torch.float64), wide)
        above, below = of_others(torch.stack([products, torch.linalg.vecdot(wide, wide)], 1)).unbind(1)
        eta = torch.where(below > 0, above / below, 0.0)
        terms = torch.addcmul(plain, family.spread(eta), control, value=-1)
        return Terms(terms, values, behind.hard, independent=False)


@dataclass(frozen=True)
class Relax(Estimator):
    """RELAX (Grathwohl et al. 2018): the control variate is a surrogate c, which may be learnt,

        mean of (f(b) - c(z)) s(b) + (d/d z c(z)) (dz/dlogits - dz~/dlogits).

    Unbiased for every c that does not depend on these samples. f itself needs no derivative.

    Args:
        surrogate: c, a differentiable function of z, ``(n, *parameters.shape)``, that returns ``(n, *batch)``: a
            `Surrogate` or any module or function, such as ``lambda z: f(z.sigmoid())``.
        optimizer: a torch optimiser of the surrogate's parameters. When the estimate has been formed, it takes one step
            down the mean of |term|^2, whose gradient is that of the variance. None: the surrogate stays as it is.

    >>> from layerlab.estimators import Bernoulli, estimate
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> surrogate = Surrogate(family, seeded)
    >>> learning = {"surrogate": surrogate, "optimizer": torch.optim.Adam(surrogate.parameters(), lr=0.02)}
    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> for _ in range(20):
    ...     gradient, diagnostics = estimate(square, family, 100, seeded, "relax", **learning)
    >>> estimate(square, family, 1000, seeded, "relax", surrogate=surrogate).gradient.round(decimals=2).tolist()
    [0.1, 0.08]
    """

    name: ClassVar[str] = "relax"
    title: ClassVar[str] = "RELAX"
    kinds: ClassVar[tuple[str, ...]] = ("bernoulli", "categorical")
    needs: ClassVar[tuple[str, ...]] = ("surrogate",)
    surrogate: Callable[[Tensor], Any] | None = None
    optimizer: torch.optim.Optimizer | None = None

    def _terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        assert isinstance(family, Discrete)
        return self.from_latent(f, family, latent(family, samples, generator))

    def from_latent(self, f: Function, family: Discrete, behind: Latent) -> Terms:
        """The terms of given samples and what is behind them; the surrogate may learn from them."""
        values = evaluated(f, behind.hard, tuple(family.batch_shape))
        scores = family.score(behind.hard)
        with torch.enable_grad():
            c, slopes = self._surrogate(behind.z, tuple(family.batch_shape))
            paths = to_parameters(family, behind.remaining * slopes)
            terms = family.spread(values - c) * scores + paths
            if self.optimizer is not None:
                own = tuple(range(values.ndim, terms.ndim))
                self._learn(terms.square().sum(own).mean())
        return Terms(terms.detach(), values, behind.hard, independent=True)

    def _surrogate(self, z: Tensor, batch: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        assert self.surrogate is not None
        leaf = z.detach().clone().requires_grad_()
        with user_code("the surrogate raised"):
            c = self.surrogate(leaf)
        expected = (len(z), *batch)
        if not isinstance(c, Tensor) or tuple(c.shape) != expected or not c.requires_grad:
            shape = tuple(c.shape) if isinstance(c, Tensor) else type(c).__name__
            raise UserError(
                f"expected a surrogate that returns a differentiable tensor of shape {expected} for z of "
                f"{tuple(z.shape)}, got {shape}"
            )
        (slopes,) = torch.autograd.grad(
            c.sum(), leaf, create_graph=self.optimizer is not None, allow_unused=True
        )
        slopes = torch.zeros_like(z) if slopes is None else slopes
        if not bool(torch.isfinite(c).all() & torch.isfinite(slopes).all()):
            raise UserError("the surrogate or its derivative is not finite; lower the learning rate")
        return c.to(torch.float64), slopes

    def _learn(self, loss: Tensor) -> None:
        assert self.optimizer is not None
        learnt = [p for group in self.optimizer.param_groups for p in group["params"]]
        slopes = torch.autograd.grad(loss, learnt, allow_unused=True)
        if all(slope is None for slope in slopes):
            raise UserError(
                "the surrogate does not depend on what the optimizer holds; make it from surrogate.parameters()"
            )
        for parameter, slope in zip(learnt, slopes, strict=True):
            parameter.grad = slope
        self.optimizer.step()


class Surrogate(nn.Module):
    """A small network of z for RELAX: one hidden layer of tanh. It starts at 0, where RELAX is REINFORCE.

    Args:
        family: Bernoulli or Categorical, whose z it takes, in its dtype and on its device.
        generator: for the weights of the hidden layer.
        width: of the hidden layer.

    >>> from layerlab.estimators import Bernoulli
    >>> family = Bernoulli([0.0, 0.5])
    >>> Surrogate(family, torch.Generator().manual_seed(0))(torch.ones(3, 2, dtype=torch.float64)).tolist()
    [0.0, 0.0, 0.0]
    """

    def __init__(self, family: Family, generator: torch.Generator, width: int = 32) -> None:
        super().__init__()
        if not isinstance(family, Discrete):
            raise UserError(f"relax serves bernoulli and categorical parameters, not {family.kind} ones")
        like = family.parameters
        self.event_dims = like.ndim - len(family.batch_shape)
        inputs = math.prod(like.shape[len(family.batch_shape) :])
        self.hidden = nn.Parameter(drawn(torch.randn, (inputs, width), generator, like) / math.sqrt(inputs))
        self.shift = nn.Parameter(like.new_zeros(width))
        self.out = nn.Parameter(like.new_zeros(width))
        self.level = nn.Parameter(like.new_zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        """``(n, *parameters.shape)`` to ``(n, *batch)``."""
        return torch.tanh(z.flatten(-self.event_dims) @ self.hidden + self.shift) @ self.out + self.level


def _temperature(temperature: float) -> float:
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise UserError(f"expected a positive finite temperature, got {temperature!r}")
    return temperature
