"""The claims about products of Jacobians, and when the bound is reached (homework 4, question 1.2.1, hint)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from layerlab.claims import Claim, Falsifier, Measurement
from layerlab.gradflow.theorems import backward, recurrent, subjects
from layerlab.gradflow.theorems.scalar import FINITE, ORDINARY
from layerlab.gradflow.theorems.subjects import Affine, Chain, Network, Pipeline, Stage

# ------------------------------------------------------------------------------------------------------ product

Factors = Callable[[Sequence[Stage], Sequence[Tensor]], list[float]]


def _factors(stages: Sequence[Stage], along: Sequence[Tensor]) -> list[float]:
    """log2 σ_max(J_l) of each stage, at the point that reaches it."""
    return [
        backward.jacobian([stage], along[number : number + 2]).log2_norm()
        for number, stage in enumerate(stages)
    ]


def _one_left_out(stages: Sequence[Stage], along: Sequence[Tensor]) -> list[float]:
    """Broken: the last factor forgotten."""
    return _factors(stages, along)[:-1]


def _at_another_point(stages: Sequence[Stage], along: Sequence[Tensor]) -> list[float]:
    """Broken: the factors at the points that another input would reach."""
    return _factors(stages, backward.points(stages, along[0] + 3.0))


def _smallest(stages: Sequence[Stage], along: Sequence[Tensor]) -> list[float]:
    """Broken: σ_min in place of σ_max."""
    found = [backward.jacobian([stage], along[n : n + 2]) for n, stage in enumerate(stages)]
    return [backward.log2(float(np.linalg.svdvals(each.matrix).min())) + each.exponent for each in found]


def _measure_product(
    pipeline: Pipeline, generator: np.random.Generator, *, factors: Factors = _factors
) -> Measurement:
    stages, x = pipeline.stages, pipeline.x
    if not stages:
        return Measurement.unmet_because("there is no module")
    if x.dtype != torch.float64:
        return Measurement.unmet_because(f"the input is {str(x.dtype).removeprefix('torch.')}, not float64")
    along = backward.points(stages, x)
    width = max(point.numel() for point in along)
    if reason := backward.out_of_range(along) or recurrent.too_wide(width):
        return Measurement.unmet_because(reason)
    logs = factors(stages, along)
    measured = backward.per_layer(backward.jacobian(stages, along).log2_norm(), len(stages))
    bound = backward.per_layer(math.fsum(logs), len(stages))
    return Measurement(measured, bound, backward.slack(len(stages), width, bound, logs))


class _Residual(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _seeded(build: Callable[[], nn.Sequential], *shape: int) -> Pipeline:
    """Modules with torch's default weights from a fixed seed, in float64, and a fixed input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20260101)
        modules = build().double().eval()
    return Pipeline(tuple(modules.requires_grad_(False)), subjects.gaussian(*shape))


def _matrices(*weights: Tensor) -> Pipeline:
    return Pipeline(tuple(Affine(weight) for weight in weights), torch.ones(weights[0].shape[1]).double())


def _mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 20), nn.GELU(), nn.Linear(20, 9), nn.Tanh(), nn.Linear(9, 4))


def _convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(0), nn.Linear(36, 5)
    )


def _residual_blocks() -> nn.Sequential:
    return nn.Sequential(*(_Residual(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))) for _ in range(12)))


def _encoder() -> nn.Sequential:
    return nn.Sequential(*(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0) for _ in range(3)))


PRODUCT = Claim(
    id="gradflow.product",
    title="The norm of a chain's Jacobian is at most the product of its modules' norms",
    source="Homework 4, question 1.2.1, hint",
    statement=(
        "σ_max(A B) ≤ σ_max(A) σ_max(B); so for modules f = f_n ∘ … ∘ f_1: σ_max(∂f/∂x) ≤ Π σ_max(J_l), J_l the"
        " Jacobian of f_l at the very point that x sends there; measured: σ_max^(1/n), the mean over modules"
    ),
    hypotheses=(
        "each module takes one tensor to one tensor, the same whenever it is called, differentiable by autograd",
        "modules and input are float64, and no output leaves it",
        recurrent.DENSE,
    ),
    relation="<=",
    measure=_measure_product,
    subjects={
        "two-matrices": lambda: _matrices(subjects.gaussian(7, 4), subjects.gaussian(5, 7, seed=1)),
        "orthogonal-matrices": lambda: _matrices(*(2.0 * subjects.orthogonal(5, seed) for seed in range(4))),
        "product-0": lambda: _matrices(
            torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([0.0, 1.0]))
        ),
        "single-matrix": lambda: _matrices(subjects.gaussian(7, 4)),
        "mlp": lambda: _seeded(_mlp, 6),
        "convolutions": lambda: _seeded(_convolutions, 2, 6, 6),
        "residual-12": lambda: _seeded(_residual_blocks, 8),
        "encoder-3": lambda: _seeded(_encoder, 5, 8),
        "sigmoid-200": lambda: Pipeline(
            tuple(subjects.scalar([1.0] * 200, 0.3).stages(subjects.SIGMOID)), torch.tensor([0.3]).double()
        ),
    },
    falsifiers={
        "one-left-out": Falsifier(
            "a factor above 1 left out",
            lambda: _matrices(*(2.0 * subjects.orthogonal(5, seed) for seed in range(4))),
            replaces={"factors": _one_left_out},
        ),
        "another-point": Falsifier(
            "the factors measured at another input",
            lambda: Pipeline((torch.tanh, torch.tanh), torch.zeros(3).double()),
            replaces={"factors": _at_another_point},
        ),
        "smallest": Falsifier(
            "σ_min of the factors",
            lambda: _matrices(subjects.gaussian(4, 4), subjects.gaussian(4, 4, seed=1)),
            replaces={"factors": _smallest},
        ),
        "float32": Falsifier(
            "an input of float32",
            lambda: Pipeline((torch.tanh,), torch.zeros(3)),
            expected="hypotheses unmet",
        ),
        "overflow": Falsifier(
            "a module that overflows",
            lambda: Pipeline((torch.exp, torch.exp), torch.full((2,), 100.0).double()),
            expected="hypotheses unmet",
        ),
    },
)


# ----------------------------------------------------------------------------------------------- lipschitz-chain

Norm = Callable[[Tensor], float]


def _largest_entry(weight: Tensor) -> float:
    """Broken as a bound: max |w_ij|."""
    return float(weight.abs().max())


def _allowed(network: Network, norm: Norm) -> list[float]:
    pairs = zip(network.activations, network.chain.maps, strict=True)
    return [
        backward.log2(activation.slope) + backward.log2(norm(affine.weight)) for activation, affine in pairs
    ]


def _measure_lipschitz(
    network: Network, generator: np.random.Generator, *, norm: Norm = backward.norm
) -> Measurement:
    if reason := network.chain.unmet() or recurrent.too_wide(network.chain.width):
        return Measurement.unmet_because(reason)
    return backward.compared(network.stages(), network.chain.x, _allowed(network, norm), network.chain.width)


def _dense(widths: Sequence[int], activations: Sequence[subjects.Activation], scale: float = 1.0) -> Network:
    """Gaussian weights of norm about ``scale``, Gaussian biases and input."""
    maps = [
        Affine(
            subjects.gaussian(rows, columns, seed=seed) * scale / (math.sqrt(rows) + math.sqrt(columns)),
            subjects.gaussian(rows, seed=seed + 1000),
        )
        for seed, (columns, rows) in enumerate(itertools.pairwise(widths))
    ]
    return Network(Chain(tuple(maps), subjects.gaussian(widths[0])), tuple(activations))


def _single(activation: subjects.Activation, x: float) -> Network:
    return Network(subjects.scalar([1.0], x), (activation,))


_MIXED = (
    *(subjects.SIGMOID, subjects.TANH, subjects.RELU, subjects.GELU, subjects.SILU, subjects.SOFTPLUS),
    *(subjects.ELU, subjects.SINE, subjects.leaky_relu(-2.0), subjects.IDENTITY),
)

LIPSCHITZ_CHAIN = Claim(
    id="gradflow.lipschitz-chain",
    title="Any layers: the product of Lipschitz constants and weight norms bounds the gradient",
    source="Homework 4, section 1, generalised: any activations, weights of any shape, biases",
    statement=(
        "x_l = φ_l(W_l x_(l−1) + b_l) with |φ_l'| ≤ L_l: σ_max(∂x_n/∂x_0) ≤ Π L_l σ_max(W_l), whatever the biases;"
        " L is 1/4 for sigmoid, 1 for tanh, ReLU, softplus, ELU and sine, max(1, |slope|) for leaky ReLU, 1.12890… for"
        " GELU, 1.09984… for SiLU; measured: σ_max^(1/n), the geometric mean over the layers"
    ),
    hypotheses=("no slope of an activation exceeds its stated constant", ORDINARY, FINITE, recurrent.DENSE),
    relation="<=",
    measure=_measure_lipschitz,
    subjects={
        "mixed-activations": lambda: _dense((5, 9, 4, 7, 3, 8, 6, 6, 2, 5, 4), _MIXED),
        "mixed-100-layers": lambda: _dense((6,) * 101, _MIXED * 10, scale=1.5),
        "relu-200-layers": lambda: _dense((12,) * 201, (subjects.RELU,) * 200, scale=4.0),
        "one-output": lambda: _dense((12, 20, 1), (subjects.TANH, subjects.SIGMOID)),
        "through-one-unit": lambda: _dense((6, 1, 6), (subjects.TANH, subjects.IDENTITY)),
        "wide": lambda: _dense((120, 60, 90), (subjects.RELU, subjects.GELU)),
        "gelu-at-its-steepest": lambda: _single(subjects.GELU, math.sqrt(2.0)),
        "silu-at-its-steepest": lambda: _single(subjects.SILU, 2.3993572805154677),
        "leaky-relu-on-its-steep-side": lambda: _single(subjects.leaky_relu(3.0), -1.0),
    },
    falsifiers={
        "gelu-taken-for-1": Falsifier(
            "1 taken for the Lipschitz constant of GELU, at √2",
            lambda: _single(subjects.Activation("GELU", nn.functional.gelu, 1.0), math.sqrt(2.0)),
        ),
        "leaky-taken-for-1": Falsifier(
            "1 taken for a leaky ReLU whose slope is 1.1",
            lambda: _single(subjects.Activation("leaky ReLU", subjects.leaky_relu(1.1).function, 1.0), -1.0),
        ),
        "spectral-radius": Falsifier(
            "the spectral radius in place of σ_max, for weights that are not normal",
            lambda: Network(subjects.recurrent(subjects.shear(0.5), torch.zeros(2), 3), (subjects.TANH,) * 3),
            replaces={"norm": recurrent.spectral_radius},
        ),
        "largest-entry": Falsifier(
            "the largest entry in place of σ_max",
            lambda: Network(
                subjects.recurrent(subjects.orthogonal(4), torch.zeros(4), 3), (subjects.TANH,) * 3
            ),
            replaces={"norm": _largest_entry},
        ),
        "not-finite": Falsifier(
            "a weight that is infinite",
            lambda: Network(subjects.scalar([math.inf], 0.0), (subjects.TANH,)),
            expected="hypotheses unmet",
        ),
    },
)


# ------------------------------------------------------------------------------------------------------ attained

Check = Callable[[Network], str | None]

# A pre-activation a lowers the slope of sigmoid and tanh by a² at most: below a rounding.
_CENTRED = 2.0**-27


def _off_centre(network: Network) -> str | None:
    along = backward.points(network.stages(), network.chain.x)
    for number, (affine, point) in enumerate(zip(network.chain.maps, along[:-1], strict=True), start=1):
        if not (affine(point).abs() <= _CENTRED).all():
            return f"a pre-activation of layer {number} is not 0"
    return None


def _not_orthogonal(network: Network) -> str | None:
    for number, affine in enumerate(network.chain.maps, start=1):
        rows, columns = affine.weight.shape
        values = np.linalg.svdvals(affine.weight.numpy())
        if rows != columns or values[0] - values[-1] > 2 * rows * np.finfo(np.float64).eps * values[0]:
            return f"the weight of layer {number} is no multiple of an orthogonal matrix"
    return None


def _unchecked(network: Network) -> str | None:
    """Broken: a hypothesis that nobody looks at."""
    return None


def _other_slope(network: Network) -> str | None:
    for activation in network.activations:
        if activation not in (subjects.SIGMOID, subjects.TANH, subjects.SINE, subjects.IDENTITY):
            return f"{activation.name} is not known to be steepest at 0"
    return None


def _measure_attained(
    network: Network,
    generator: np.random.Generator,
    *,
    steepest_at_0: Check = _other_slope,
    orthogonal: Check = _not_orthogonal,
    centred: Check = _off_centre,
) -> Measurement:
    chain = network.chain
    if reason := chain.unmet() or recurrent.too_wide(chain.width):
        return Measurement.unmet_because(reason)
    if reason := steepest_at_0(network) or orthogonal(network) or centred(network):
        return Measurement.unmet_because(reason)
    return backward.compared(network.stages(), chain.x, _allowed(network, backward.norm), chain.width)


def _same(chain: Chain, activation: subjects.Activation) -> Network:
    return Network(chain, (activation,) * len(chain))


def _centred_chain(depth: int, size: int, scale: float) -> Network:
    weights = [scale * subjects.orthogonal(size, seed) for seed in range(depth)]
    return _same(subjects.centred(weights, subjects.SIGMOID, 0.5 * subjects.gaussian(size)), subjects.SIGMOID)


def _tanh_at_0(weight: Tensor, steps: int) -> Network:
    return _same(subjects.recurrent(weight, torch.zeros(weight.shape[1]), steps), subjects.TANH)


ATTAINED = Claim(
    id="gradflow.attained",
    title="The bounds are reached: orthogonal weights, every unit where it is steepest",
    source="Homework 4, questions 1.1.1, 1.1.2 and 1.2.1: the bounds are tight",
    statement=(
        "x_l = φ_l(W_l x_(l−1) + b_l), W_l = s_l Q_l with Q_l orthogonal, φ_l steepest at 0 with slope L_l, every"
        " pre-activation 0: σ_max(∂x_n/∂x_0) = Π L_l s_l. So the bound of tanh is reached at x = 0 for every n, that of"
        " sigmoid for n = 1 at x = 0, and with the biases that centre every layer for every n; measured: σ_max^(1/n)"
    ),
    hypotheses=(
        "the activations are sigmoid, tanh, sine or the identity",
        "weights are multiples of orthogonal matrices",
        "every pre-activation is 0",
        ORDINARY,
        recurrent.DENSE,
    ),
    relation="==",
    measure=_measure_attained,
    subjects={
        "sigmoid-one-layer": lambda: _same(subjects.scalar([1.0], 0.0), subjects.SIGMOID),
        "sigmoid-centred-200": lambda: _same(
            subjects.scalar([1.0] * 200, 0.5, [-0.5] * 200), subjects.SIGMOID
        ),
        "sigmoid-centred-orthogonal-50": lambda: _centred_chain(50, 6, 3.0),
        "tanh-200": lambda: _same(subjects.scalar([1.0] * 200, 0.0), subjects.TANH),
        "rnn-tanh-half": lambda: _tanh_at_0(0.5 * subjects.orthogonal(8), 200),
        "rnn-tanh-2": lambda: _tanh_at_0(2.0 * subjects.orthogonal(8), 200),
        "mixed": lambda: Network(
            Chain(
                tuple(Affine(s * subjects.orthogonal(5, i)) for i, s in enumerate((0.3, 2.0, 5.0))),
                torch.zeros(5),
            ),
            (subjects.TANH, subjects.SINE, subjects.SIGMOID),
        ),
    },
    falsifiers={
        "off-centre": Falsifier(
            "tanh at x = 0.1, the pre-activations not looked at",
            lambda: _same(subjects.scalar([1.0] * 3, 0.1), subjects.TANH),
            replaces={"centred": _unchecked},
        ),
        "sigmoid-two-layers": Falsifier(
            "sigmoid, two layers, weights 1, x = 0: the second pre-activation is 1/2",
            lambda: _same(subjects.scalar([1.0, 1.0], 0.0), subjects.SIGMOID),
            replaces={"centred": _unchecked},
        ),
        "not-orthogonal": Falsifier(
            "a shear in place of an orthogonal matrix, not looked at",
            lambda: _tanh_at_0(subjects.shear(0.5), 3),
            replaces={"orthogonal": _unchecked},
        ),
        "gelu": Falsifier(
            "GELU, which is not steepest at 0, not looked at",
            lambda: _same(subjects.scalar([1.0], 0.0), subjects.GELU),
            replaces={"steepest_at_0": _unchecked},
        ),
        "sine-taken-for-a-half": Falsifier(
            "1/2 taken for the Lipschitz constant of sine, not looked at",
            lambda: _single(subjects.Activation("sine", torch.sin, 0.5), 0.0),
            replaces={"steepest_at_0": _unchecked},
        ),
        "sigmoid-two-layers-looked-at": Falsifier(
            "the same two layers, looked at",
            lambda: _same(subjects.scalar([1.0, 1.0], 0.0), subjects.SIGMOID),
            expected="hypotheses unmet",
        ),
    },
)
