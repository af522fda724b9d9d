"""The continuous numbers behind discrete samples: logistic behind a bit, Gumbel behind a category.

A bit is ``b = [z > 0]`` with ``z = logit + logit(u)``, a category ``b = argmax z`` with ``z = log p + Gumbel``. Both z
and z given b can be written as a function of the parameters and of noise; that is what REBAR and RELAX subtract.

Here b is drawn first and z given b after it, by the noise v; as a number z then also has its unconditional law, so one
point serves both paths (the common random numbers of Tucker et al. 2017, appendix), and one evaluation of f both terms.

References: Maddison, Mnih and Teh, The concrete distribution, ICLR 2017; Jang, Gu and Poole, Categorical
reparameterization with Gumbel-softmax, ICLR 2017; Tucker et al., REBAR, NeurIPS 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from layerlab.estimators.draws import drawn, exponential
from layerlab.estimators.families import Bernoulli, Categorical

Discrete = Bernoulli | Categorical

# Log-probabilities below this share of the smallest number's logarithm are taken to be there: 1 / p must be finite.
_RAREST = 0.9

_FEW = 16


@dataclass(frozen=True)
class Latent:
    """Discrete samples and the continuous numbers behind them.

    Attributes:
        hard: b, ``(n, *batch, *event)``, samples of the family.
        z: ``(n, *parameters.shape)``, behind them.
        remaining: ``1 - dz/dlocation`` along the path of z given b, in the shape of z; along the free path
            ``dz/dlocation`` is 1. The location is the logit of a bit, the log-probability of a category.
    """

    hard: Tensor
    z: Tensor
    remaining: Tensor


def latent(family: Discrete, n: int, generator: torch.Generator) -> Latent:
    """``n`` samples and what is behind them, from ``generator`` alone."""
    hard = family.sample(n, generator)
    shape = (n, *family.parameters.shape)
    draw = torch.rand if isinstance(family, Bernoulli) else exponential
    return latent_of(family, hard, drawn(draw, shape, generator, family.parameters))


def latent_of(family: Discrete, hard: Tensor, noise: Tensor) -> Latent:
    """What is behind given samples, by given noise.

    Args:
        family: Bernoulli or Categorical.
        hard: ``(n, *batch, *event)``.
        noise: ``(n, *parameters.shape)``: uniform on [0, 1) for bits, exponential for categories.
    """
    if isinstance(family, Bernoulli):
        # z given b = 1 is log(1 + v e^logit) - log(1 - v), and the mirror image of it given b = 0.
        sign = 2 * hard - 1
        scaled = sign * family.logits + noise.log()
        z = sign * (functional.softplus(scaled) - torch.log1p(-noise))
        return Latent(hard, z, torch.sigmoid(-scaled))
    # The first of clocks that ring at E_i / p_i: z is -log of the times, but for the chosen clock, which rings at E_k.
    hot = family.hot(hard)
    clocks = noise.clamp_min(torch.finfo(noise.dtype).tiny)
    first = (hot * clocks).sum(-1, keepdim=True)
    rarest = _RAREST * math.log(torch.finfo(noise.dtype).tiny)
    waits = family.log_probabilities.clamp_min(rarest).neg().exp()
    times = torch.addcmul(first, clocks * waits, 1 - hot)
    return Latent(hard, -times.log(), first / times)


def free(family: Discrete, n: int, generator: torch.Generator) -> Tensor:
    """z alone, ``(n, *parameters.shape)``, without a sample."""
    shape, tiny = (n, *family.parameters.shape), torch.finfo(family.parameters.dtype).tiny
    if isinstance(family, Bernoulli):
        return family.logits + torch.logit(drawn(torch.rand, shape, generator, family.parameters), eps=tiny)
    return (
        family.log_probabilities
        - drawn(exponential, shape, generator, family.parameters).clamp_min(tiny).log()
    )


def squashed(family: Discrete, z: Tensor, temperature: float) -> Tensor:
    """The relaxed samples: ``sigmoid(z / t)`` of bits, ``softmax(z / t)`` of categories."""
    if isinstance(family, Bernoulli):
        return torch.sigmoid(z / temperature)
    if z.shape[-1] > _FEW:
        return torch.softmax(z / temperature, -1)
    # Along a short last dimension torch's softmax takes three times as long as along the first.
    return torch.softmax((z / temperature).movedim(-1, 0), 0).movedim(0, -1).contiguous()


def to_latent(family: Discrete, y: Tensor, slopes: Tensor, temperature: float) -> Tensor:
    """Slopes with respect to the relaxed samples y as slopes with respect to z."""
    if isinstance(family, Bernoulli):
        return slopes * y * (1 - y) / temperature
    return y * (slopes - (y * slopes).sum(-1, keepdim=True)) / temperature


def to_parameters(family: Discrete, slopes: Tensor) -> Tensor:
    """Slopes with respect to the locations as slopes with respect to the logits."""
    if isinstance(family, Bernoulli):
        return slopes
    return slopes - family.probabilities * slopes.sum(-1, keepdim=True)
