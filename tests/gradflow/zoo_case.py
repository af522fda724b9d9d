"""One model of the zoo, with its inputs and with what is true of it; and what the cases are written with."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

VERDICTS = ("healthy", "vanishing", "exploding", "not finite")
CAUSES = (
    "saturation",
    "small norm",
    "large norm",
    "dead units",
    "slope",
    "recurrent norm",
    "missing residual",
    "not finite",
    "detached",
)

Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class Case:
    """A model and what a profile of it should say.

    Attributes:
        name: unique in the zoo.
        build: makes the model, the same each time, in the mode it is to be profiled in.
        inputs: makes a batch, the same each time.
        fault: the one cause, out of `CAUSES`; None where the model is healthy.
        where: names of modules any of which is an acceptable place to name; empty where the cause is nowhere in
            particular.
        verdict: one of `VERDICTS`.
        loss: of (output, inputs); what a healthy model is trained with.
        rate: the learning rate (Adam) that suits a healthy model.
        twin: the same model without the fault; None where the model is healthy.
        twin_inputs: the inputs without the fault (the same inputs where the fault is in the model).
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    fault: str | None
    where: tuple[str, ...]
    verdict: str
    loss: Loss
    rate: float = 3e-3
    twin: Callable[[], nn.Module] | None = None
    twin_inputs: Callable[[], Any] | None = None


def seeded(make: Callable[[], Any], name: str) -> Callable[[], Any]:
    """``make`` with random numbers that depend on the name alone, and that leave the generator as it was."""

    def made() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(name.encode()))
            return make()

    return made


# --- Inputs -----------------------------------------------------------------------------------------------------


def features(width: int, batch: int = 32) -> Callable[[], Tensor]:
    """Standardised tabular features, a few of them correlated."""

    def make() -> Tensor:
        x = torch.randn(batch, width)
        return x + 0.5 * x.roll(1, 1)

    return make


def images(channels: int, side: int, batch: int = 16) -> Callable[[], Tensor]:
    """Blurred noise with a bright spot somewhere: correlated neighbours, mean about 0, deviation about 1."""

    def make() -> Tensor:
        noise = torch.randn(batch, channels, side, side)
        x = nn.functional.avg_pool2d(noise, 3, 1, 1) * 2
        rows, columns = torch.randint(1, side - 1, (2, batch))
        for i in range(batch):
            x[i, :, rows[i] - 1 : rows[i] + 2, columns[i] - 1 : columns[i] + 2] += 2
        return (x - x.mean()) / x.std()

    return make


def waves(length: int, width: int, batch: int = 16) -> Callable[[], Tensor]:
    """Sequences (batch, length, width): sines of random frequency and phase, with noise."""

    def make() -> Tensor:
        time = torch.arange(length).float()[None, :, None]
        frequency, phase = 0.1 + torch.rand(batch, 1, width), 6.28 * torch.rand(batch, 1, width)
        return torch.sin(frequency * time + phase) + 0.2 * torch.randn(batch, length, width)

    return make


def tokens(vocabulary: int, length: int, batch: int = 8) -> Callable[[], Tensor]:
    """Token sequences in which each token follows from the two before it: start + step · t."""

    def make() -> Tensor:
        start, step = torch.randint(0, vocabulary, (batch, 1)), torch.randint(1, 4, (batch, 1))
        return (start + step * torch.arange(length)) % vocabulary

    return make


# --- Losses -----------------------------------------------------------------------------------------------------


def _main(inputs: Any) -> Tensor:
    return inputs[0] if isinstance(inputs, tuple) else inputs


def classification(output: Tensor, inputs: Any) -> Tensor:
    """Cross entropy; the label of a sample is the direction (out of fixed ones) it leans to the most."""
    return nn.functional.cross_entropy(output, labels(_main(inputs), output.shape[1]))


def probabilities(output: Tensor, inputs: Any) -> Tensor:
    """The same for a model that ends in a softmax."""
    return nn.functional.nll_loss(torch.log(output), labels(_main(inputs), output.shape[1]))


def labels(x: Tensor, classes: int) -> Tensor:
    flat = x.detach().flatten(1).float()
    directions = torch.randn(flat.shape[1], classes, generator=torch.Generator().manual_seed(0))
    return ((flat - flat.mean(0)) @ directions).argmax(1)


def reconstruction(output: Tensor, inputs: Any) -> Tensor:
    """Mean squared error against the inputs."""
    return nn.functional.mse_loss(output, _main(inputs))


def blur(output: Tensor, inputs: Any) -> Tensor:
    """Mean squared error against the blurred mean of the input's channels, a dense prediction (N, 1, H, W)."""
    target = nn.functional.avg_pool2d(_main(inputs).mean(1, keepdim=True), 3, 1, 1)
    return nn.functional.mse_loss(output, target)


def next_token(output: Tensor, inputs: Any) -> Tensor:
    """Cross entropy of logits (N, T, V) against the token that follows."""
    ids = _main(inputs)
    return nn.functional.cross_entropy(output[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def regression(output: Tensor, inputs: Any) -> Tensor:
    """Mean squared error against a smooth function of the inputs."""
    x = _main(inputs).detach().flatten(1)
    target = torch.stack([torch.sin(x.mean(1) * (i + 1) * 3) for i in range(output[0].numel())], 1)
    return nn.functional.mse_loss(output.flatten(1), target)


# --- Cases ------------------------------------------------------------------------------------------------------


def planted(
    fault: str,
    verdict: str,
    where: tuple[str, ...],
    inputs: Callable[[], Any],
    *,
    loss: Loss = classification,
    twin_inputs: Callable[[], Any] | None = None,
) -> Callable[[Callable[[bool], nn.Module]], Case]:
    """Makes a case of ``make(broken)``, which builds the model with the fault or without."""

    def case(make: Callable[[bool], nn.Module]) -> Case:
        name = make.__name__
        return Case(
            name=name,
            build=seeded(lambda: make(True), name),
            inputs=seeded(inputs, name),
            fault=fault,
            where=where,
            verdict=verdict,
            loss=loss,
            twin=seeded(lambda: make(False), name),
            twin_inputs=seeded(twin_inputs or inputs, name),
        )

    return case


def healthy(
    inputs: Callable[[], Any], *, loss: Loss = classification, rate: float = 3e-3
) -> Callable[[Callable[[], nn.Module]], Case]:
    """Makes a case of ``make()``, which builds a model that trains."""

    def case(make: Callable[[], nn.Module]) -> Case:
        name = make.__name__
        return Case(name, seeded(make, name), seeded(inputs, name), None, (), "healthy", loss, rate)

    return case


# --- Measures, in plain autograd -----------------------------------------------------------------------------


def call(model: nn.Module, inputs: Any) -> Any:
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def train(model: nn.Module, inputs: Any, loss: Loss, steps: int, rate: float) -> list[float]:
    """The losses of ``steps`` steps of Adam on one batch, in the mode the model is in."""
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss(call(model, inputs), inputs)
        value.backward()
        optimiser.step()
        losses.append(float(value.detach()))
    optimiser.zero_grad()
    return losses
