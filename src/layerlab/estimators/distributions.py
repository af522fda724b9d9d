"""From `torch.distributions` to a `Family`: closed forms where they are known, autograd for every other one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, distributions

from layerlab.errors import UserError
from layerlab.estimators.families import Bernoulli, Categorical, Family, Gaussian

_BLOCK = 256  # samples that are scored by autograd at once


def family_of(distribution: Any, parameters: Tensor | Sequence[Tensor] | None = None) -> Family:
    """The `Family` of a distribution.

    Without ``parameters`` the gradient is one with respect to the natural numbers of the family, whatever the
    distribution was made from: the logits of a Bernoulli or categorical, ``[mean, log std]`` of a normal. The last
    dimension of the batch shape counts as the variables of one sample, those before it as a batch of distributions; a
    single number counts as one variable: ``Categorical(logits=(k,))`` gives parameters ``(1, k)`` and samples
    ``(n, 1)``.

    With ``parameters`` the gradient is one with respect to these tensors, by autograd through ``log_prob``. All that
    the distribution draws is one sample, and parameters that are several tensors count as one vector, end to end.

    Args:
        distribution: a `Family`; a torch ``Bernoulli``, ``Categorical``, ``OneHotCategorical`` or ``Normal``, or an
            ``Independent`` of one of these; or, with ``parameters``, any torch distribution with a ``log_prob``.
        parameters: the tensor or tensors, requiring gradients, that the distribution was made from.

    Raises:
        UserError: probabilities of exactly 0 or 1; a distribution whose score is not known and no ``parameters``;
            parameters that ``log_prob`` does not depend on.

    >>> family_of(distributions.Bernoulli(probs=torch.tensor([0.5]))).logits.tolist()
    [0.0]
    >>> rate = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    >>> family = family_of(distributions.Poisson(rate), parameters=rate)
    >>> family.score(torch.tensor([[3.0], [2.0]])).tolist()
    [[0.5], [0.0]]
    """
    if isinstance(distribution, Family):
        return distribution
    if not isinstance(distribution, distributions.Distribution):
        raise UserError(
            f"expected a Family or a torch distribution, got {type(distribution).__name__}; "
            "for example layerlab.estimators.Bernoulli(logits)"
        )
    if parameters is not None:
        return Scored(distribution, parameters)
    base: Any = distribution
    while isinstance(base, distributions.Independent):
        base = base.base_dist
    deepest = 2 if isinstance(base, distributions.OneHotCategorical) else 1
    if len(distribution.event_shape) > deepest:
        raise UserError(
            f"expected one dimension of variables in a sample, got the event shape "
            f"{tuple(distribution.event_shape)}; flatten the parameters, or name them by parameters="
        )
    # By the exact type: a subclass such as a straight-through one may draw or score in its own way.
    if type(base) is distributions.Bernoulli:
        return Bernoulli(_inside(base, torch.sigmoid, _vector(base.logits)))
    if type(base) in (distributions.Categorical, distributions.OneHotCategorical):
        logits = _inside(base, lambda raw: torch.softmax(raw, -1), base.logits)
        logits = logits if logits.ndim > 1 else logits[None]
        return Categorical(logits, one_hot=isinstance(base, distributions.OneHotCategorical))
    if type(base) is distributions.Normal:
        return Gaussian(_vector(base.loc), _vector(base.scale).log())
    raise UserError(
        f"the score of {type(base).__name__} is not known in closed form; name the tensors it was made from, "
        "family_of(distribution, parameters=...), and it is taken by autograd"
    )


@dataclass(frozen=True, eq=False)
class Scored(Family):
    """Any torch distribution, scored by autograd with respect to the tensors it was made from; see `family_of`.

    Samples are ``(n, *distribution.batch_shape, *distribution.event_shape)``. torch draws them from its global state,
    which is put back afterwards and seeded from the generator in between.

    Raises:
        UserError: parameters that are no tensors requiring gradients, or that ``log_prob`` does not depend on.
    """

    kind: ClassVar[str] = "other"
    distribution: distributions.Distribution
    made_from: Tensor | Sequence[Tensor]

    def __post_init__(self) -> None:
        for tensor in self._tensors:
            if not isinstance(tensor, Tensor) or not tensor.requires_grad or not tensor.is_floating_point():
                raise UserError(
                    "expected parameters= to be floating tensors that require gradients and that the "
                    "distribution was made from"
                )

    @property
    def _tensors(self) -> list[Tensor]:
        return [self.made_from] if isinstance(self.made_from, Tensor) else list(self.made_from)

    @cached_property
    def parameters(self) -> Tensor:
        if isinstance(self.made_from, Tensor):
            return self.made_from.detach().clone()
        return torch.cat([tensor.detach().flatten() for tensor in self._tensors])

    @property
    def batch_shape(self) -> torch.Size:
        return torch.Size()

    def replaced(self, parameters: Tensor) -> Family:
        raise UserError(
            f"{self._name} cannot be made anew at other parameters; take Bernoulli, Categorical or Gaussian"
        )

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        device = self.parameters.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
            torch.manual_seed(seed)
            return self.distribution.sample((n,))

    def log_prob(self, x: Tensor) -> Tensor:
        return self._log_prob(x).detach()

    def score(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            each = self._log_prob(x)
        # As many gradients as samples, of a block at a time: they are n^2 numbers to ask for.
        rows = torch.arange(len(x), device=each.device)
        blocks = [(block[:, None] == rows).to(each.dtype) for block in rows.split(_BLOCK)]
        return torch.cat([self._gradients(each, block) for block in blocks])

    def entropy(self) -> Tensor:
        return self._entropy().sum().detach()

    def entropy_gradient(self) -> Tensor:
        with torch.enable_grad():
            total = self._entropy().sum()
        return self._gradients(total, torch.ones(1, dtype=total.dtype, device=total.device))[0]

    def natural(self, gradient: Tensor) -> Tensor:
        raise UserError(f"the Fisher information of {self._name} is not known; take the plain gradient")

    def outcomes(self, limit: int = 0) -> Tensor | None:
        return None

    @property
    def _name(self) -> str:
        return type(self.distribution).__name__

    def _log_prob(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            each = self.distribution.log_prob(x)
        return each.reshape(len(x), -1).sum(-1)

    def _entropy(self) -> Tensor:
        try:
            return self.distribution.entropy()
        except NotImplementedError:
            raise UserError(f"torch knows no entropy of {self._name}") from None

    def _gradients(self, outputs: Tensor, directions: Tensor) -> Tensor:
        """The gradient of ``outputs`` in each of ``directions``, ``(directions, *parameters.shape)``."""
        mend = (
            f"log_prob of {self._name} does not depend on the given parameters; "
            "make the distribution from these very tensors"
        )
        if not outputs.requires_grad:
            raise UserError(mend)

        def gradient(direction: Tensor, **options: bool) -> tuple[Tensor | None, ...]:
            return torch.autograd.grad(
                outputs, self._tensors, direction, retain_graph=True, allow_unused=True, **options
            )

        try:
            found = gradient(directions, is_grads_batched=True)
        except RuntimeError:  # an operation that torch cannot batch
            one_by_one = [gradient(direction) for direction in directions]
            found = tuple(None if c[0] is None else torch.stack(c) for c in zip(*one_by_one, strict=True))
        if all(part is None for part in found):
            raise UserError(mend)
        n = len(directions)
        parts = [
            t.new_zeros(n, *t.shape) if p is None else p for p, t in zip(found, self._tensors, strict=True)
        ]
        return parts[0] if isinstance(self.made_from, Tensor) else torch.cat([p.flatten(1) for p in parts], 1)


def _vector(parameter: Tensor) -> Tensor:
    return parameter if parameter.ndim else parameter[None]


def _inside(distribution: Any, probabilities: Any, logits: Tensor) -> Tensor:
    # torch clamps probabilities of 0 and 1 before it takes their logits: they no longer are of that distribution.
    edge = (distribution.probs <= 0) | (distribution.probs >= 1)
    clamped = edge & (probabilities(logits.detach()) != distribution.probs).reshape(edge.shape)
    if bool(clamped.any()):
        raise UserError(
            "expected probabilities strictly between 0 and 1: at 0 and 1 there is no score; "
            "clamp them, to 1e-6 ... 1 - 1e-6 for example"
        )
    return logits
