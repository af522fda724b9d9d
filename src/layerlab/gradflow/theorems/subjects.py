"""The chains of layers on which claims are checked by default, and the hypotheses that most claims share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from layerlab.errors import UserError

Stage: TypeAlias = Callable[[Tensor], Tensor]

# Beyond these, a weight times a slope may leave the range in which float64 rounds relatively.
_SMALLEST, _LARGEST = 1e-140, 1e140


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its Lipschitz constant: the largest magnitude of its slope.

    Args:
        name: for messages.
        function: elementwise, differentiable by autograd.
        slope: no slope of the function is larger in magnitude.
    """

    name: str
    function: Stage
    slope: float


SIGMOID = Activation("sigmoid", torch.sigmoid, 0.25)
TANH = Activation("tanh", torch.tanh, 1.0)
RELU = Activation("ReLU", torch.relu, 1.0)
SOFTPLUS = Activation("softplus", torch.nn.functional.softplus, 1.0)
ELU = Activation("ELU", torch.nn.functional.elu, 1.0)
SINE = Activation("sine", torch.sin, 1.0)
IDENTITY = Activation("identity", lambda x: x, 1.0)
# The slope of x Φ(x) is Φ(x) + x φ(x), largest at √2 (its derivative is (2 − x²) φ(x)).
GELU = Activation(
    "GELU",
    torch.nn.functional.gelu,
    0.5 * (1 + math.erf(1.0)) + math.exp(-1.0) / math.sqrt(math.pi),
)
# The slope of x S(x) is largest where x tanh(x / 2) = 2, at x = 2.39935728…; there it is (1 + x / 2) / 2.
SILU = Activation("SiLU", torch.nn.functional.silu, 1.0998393201288669)


def leaky_relu(slope: float) -> Activation:
    """max(x, 0) + slope · min(x, 0)."""
    return Activation(
        f"leaky ReLU with slope {slope:g}",
        lambda x: torch.nn.functional.leaky_relu(x, slope),
        max(1.0, abs(slope)),
    )


@dataclass(frozen=True)
class Affine:
    """x ↦ W x + b in float64.

    Args:
        weight: (outputs, inputs).
        bias: (outputs,); None is no bias.

    Raises:
        UserError: shapes that do not fit.
    """

    weight: Tensor
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", torch.as_tensor(self.weight, dtype=torch.float64).detach())
        if self.weight.dim() != 2 or 0 in self.weight.shape:
            raise UserError(f"a weight is a matrix (outputs, inputs), got shape {tuple(self.weight.shape)}")
        if self.bias is not None:
            object.__setattr__(self, "bias", torch.as_tensor(self.bias, dtype=torch.float64).detach())
            if self.bias.shape != self.weight.shape[:1]:
                raise UserError(
                    f"a bias has one entry an output, expected ({self.weight.shape[0]},),"
                    f" got {tuple(self.bias.shape)}"
                )

    def __call__(self, x: Tensor) -> Tensor:
        image = self.weight @ x
        return image if self.bias is None else image + self.bias


@dataclass(frozen=True)
class Chain:
    """Affine maps one behind the other, each followed by an activation, and the point at which to look.

    Which activation is up to the claim; `Network` brings its own.

    Args:
        maps: the affine maps, the one next to the input first.
        x: (inputs,), the point.

    Raises:
        UserError: a map that does not take what the one before it gives.
    """

    maps: tuple[Affine, ...]
    x: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "maps", tuple(self.maps))
        object.__setattr__(self, "x", torch.as_tensor(self.x, dtype=torch.float64).detach())
        width = tuple(self.x.shape)
        for number, affine in enumerate(self.maps, start=1):
            outputs, inputs = affine.weight.shape
            if width != (inputs,):
                raise UserError(f"layer {number} takes a vector of {inputs}, got shape {width}")
            width = (outputs,)

    def __len__(self) -> int:
        return len(self.maps)

    @property
    def width(self) -> int:
        """The largest number of units of a layer, the input included."""
        return max(max(affine.weight.shape) for affine in self.maps)

    def stages(self, *activations: Activation) -> list[Stage]:
        """The layers as functions: each map, then its activation (one for all, or one for each)."""
        if len(activations) == 1:
            activations *= len(self.maps)
        return [_layer(*pair) for pair in zip(self.maps, activations, strict=True)]

    def unmet(self, *, scalar: bool = False) -> str | None:
        """The hypothesis of a chain with ordinary numbers that does not hold, if any.

        Args:
            scalar: whether all layers must have a single unit.
        """
        if not self.maps:
            return "the chain has no layer"
        for number, affine in enumerate(self.maps, start=1):
            if scalar and affine.weight.numel() != 1:
                return f"layer {number} has {' × '.join(map(str, affine.weight.shape))} weights, not one"
            if not affine.weight.isfinite().all() or not (
                affine.bias is None or affine.bias.isfinite().all()
            ):
                return f"a weight or bias of layer {number} is not finite"
            sizes = affine.weight[affine.weight != 0].abs()
            if sizes.numel() and not (sizes.min() >= _SMALLEST and sizes.max() <= _LARGEST):
                return f"a weight of layer {number} has a magnitude outside {_SMALLEST:g} to {_LARGEST:g}"
        return None


@dataclass(frozen=True)
class Network:
    """A chain with an activation for each of its maps.

    Raises:
        UserError: not as many activations as maps.
    """

    chain: Chain
    activations: tuple[Activation, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "activations", tuple(self.activations))
        if len(self.activations) != len(self.chain):
            raise UserError(
                f"one activation a layer: expected {len(self.chain)}, got {len(self.activations)}"
            )

    def stages(self) -> list[Stage]:
        """The layers as functions."""
        return self.chain.stages(*self.activations)


@dataclass(frozen=True)
class Pipeline:
    """Modules one behind the other, and the point at which to look.

    Args:
        stages: modules or functions, each from one tensor to one tensor, differentiable by autograd.
        x: what the first one takes.
    """

    stages: tuple[Stage, ...]
    x: Tensor


def _layer(affine: Affine, activation: Activation) -> Stage:
    return lambda x: activation.function(affine(x))


# ------------------------------------------------------------------------------------------------- builders


def scalar(weights: Sequence[float], x: float, biases: Sequence[float] | None = None) -> Chain:
    """Layers of a single unit."""
    shifts = [None] * len(weights) if biases is None else [torch.tensor([b]) for b in _doubles(biases)]
    maps = [Affine(torch.tensor([[w]]), b) for w, b in zip(_doubles(weights), shifts, strict=True)]
    return Chain(tuple(maps), torch.tensor([x], dtype=torch.float64))


def recurrent(weight: Tensor, x: Tensor, steps: int, bias: Tensor | None = None) -> Chain:
    """The same map over and over: x_1 = x, …, x_n with n = steps + 1."""
    return Chain((Affine(weight, bias),) * steps, x)


def orthogonal(size: int, seed: int = 0) -> Tensor:
    """A fixed orthogonal matrix: Q of a Gaussian one."""
    return torch.from_numpy(np.linalg.qr(_random(seed).standard_normal((size, size)))[0])


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    """A fixed array of standard normal numbers."""
    return torch.from_numpy(_random(seed).standard_normal(shape))


def with_norm(weight: Tensor, norm: float) -> Tensor:
    """The matrix scaled to that largest singular value."""
    return weight * (norm / torch.linalg.matrix_norm(weight, ord=2))


def shear(diagonal: float) -> Tensor:
    """A Jordan block: its eigenvalues are the diagonal, its largest singular value is larger."""
    return torch.tensor([[diagonal, 1.0], [0.0, diagonal]], dtype=torch.float64)


def centred(weights: Sequence[Tensor], activation: Activation, x: Tensor) -> Chain:
    """Biases with which every pre-activation is 0, up to rounding."""
    maps, point = [], x
    for weight in weights:
        maps.append(Affine(weight, -(weight @ point)))
        point = activation.function(maps[-1](point))
    return Chain(tuple(maps), x)


def _doubles(values: Sequence[float]) -> list[Tensor]:
    return list(torch.tensor(values, dtype=torch.float64))


def _random(seed: int) -> np.random.Generator:
    return np.random.default_rng([20260101, seed])
