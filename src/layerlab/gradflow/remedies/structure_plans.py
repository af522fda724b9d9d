"""Plans of changes to what lies between weights: inputs, activations, normalisations, skips."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.flow import Operation
from layerlab.gradflow.points import INPUT, OUTPUT, Point
from layerlab.gradflow.remedies import interventions
from layerlab.gradflow.remedies.targets import OFF_AT_ZERO, Change, Targets, listed, module_of, path
from layerlab.gradflow.remedies.weighted import Weighted, matrices

SQUASHING = ("sigmoid", "tanh", "hardtanh", "hardsigmoid")
"""Activations that are flat far out on both sides."""

_ACTIVATIONS: dict[str, tuple[str, Callable[[Tensor], Tensor], str, str]] = {
    "relu": ("ReLU", F.relu, "nn.ReLU()", "V. Nair, G. Hinton, ICML 2010; K. He et al., ICCV 2015"),
    "gelu": ("GELU", F.gelu, "nn.GELU()", "D. Hendrycks, K. Gimpel, 2016"),
    "selu": ("SELU", F.selu, "nn.SELU()", "G. Klambauer et al., NeurIPS 2017"),
    "leaky_relu": (
        "leaky ReLU",
        lambda x: F.leaky_relu(x, 0.2),
        "nn.LeakyReLU(0.2)",
        "A. Maas, A. Hannun, A. Ng, ICML 2013",
    ),
}


def inputs(t: Targets) -> Change | None:
    """Inputs of mean 0 and deviation 1, where the layer sees them."""
    if not t.found.call.sources or not any(t.found.first(w) for w in t.weighted):
        return None
    return t.change(
        "inputs standardised",
        "each feature of the input to mean 0 and deviation 1: x = (x - x.mean(0)) / x.std(0)",
        ["input"],
        "Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, 1998",
        lambda call, seed: interventions.standardised(call.kwargs or call.args, call.sources),
    )


def softmax(t: Targets) -> Change | None:
    """What enters a softmax of size 1."""
    found = [(o.module, a) for o, a in t.found.activations(t.here) if a.kind in ("softmax", "log_softmax")]
    if not found:
        return None
    by = max(a.input_rms for _, a in found)
    kinds, owners = {a.kind for _, a in found}, list(dict.fromkeys(name for name, _ in found))
    return t.change(
        "softmax scaled",
        f"what enters the softmax in {listed(owners)} divided by its size: softmax(x / {by:.3g})",
        owners,
        "A. Vaswani et al., NeurIPS 2017 (scaled dot products)",
        lambda call, seed: interventions.divide_softmax(module_of(call), kinds, owners, by),
    )


def activation(t: Targets, to: str) -> Change | None:
    """Another activation, and weights for it."""
    name, function, line, reference = _ACTIVATIONS[to]
    meant = OFF_AT_ZERO if to == "leaky_relu" else SQUASHING
    here = [(o.module, a.kind) for o, a in t.found.activations(t.here) if a.kind in meant]
    if not here:
        return None
    owners, kinds = list(dict.fromkeys(owner for owner, _ in here)), {kind for _, kind in here}
    # All calls from the same module: of functions none is told from another.
    everything = t.found.activations(t.found.flow.operations)
    found = [o for o, a in everything if o.module in owners and a.kind in kinds]
    targets = _matching(t, found, kinds, to)

    def apply(call: Call, seed: int) -> None:
        interventions.exchange(module_of(call), kinds, owners, function)
        interventions.preserve_variance(module_of(call), targets, seed)

    return t.change(
        name,
        f"{line} in place of {', '.join(sorted(kinds))}{_in(owners)}, weights before it of variance "
        f"{'1/n' if to == 'selu' else '2/n'}",
        owners,
        reference,
        apply,
    )


def _matching(t: Targets, found: Collection[Operation], kinds: Collection[str], to: str) -> list[Weighted]:
    """The weights before these activations, as they will be once the activations are exchanged."""
    before = t.found.feeding(found)
    return [
        replace(
            w,
            follows=to if w.follows in kinds else w.follows,
            comes_from=to if w.comes_from in kinds else w.comes_from,
        )
        for w in matrices(before)
        if w.role == "linear"
    ]


def _in(owners: Sequence[str]) -> str:
    return "" if owners == [""] else f" in {listed(owners)}"


def norm(t: Targets) -> Change | None:
    """A normalisation behind each layer with weights."""
    sink = t.found.flow.sink
    names = [
        w.module
        for w in t.weighted
        if w.role == "linear"
        and w.leaves
        and w.writes != sink
        and (t.scope != "everywhere" or w.follows is not None)
    ]
    if not names:
        return None
    names = list(dict.fromkeys(names))
    convolution = interventions.is_convolution(t.model.get_submodule(names[0]))
    kind, reference = (
        ("nn.GroupNorm(1, channels)", "Y. Wu, K. He, ECCV 2018")
        if convolution
        else ("nn.LayerNorm(width)", "J. L. Ba, J. R. Kiros, G. E. Hinton, 2016")
    )
    return t.change(
        "normalisation",
        f"the output of {listed(names)} normalised: {kind} behind {path(names[0])}",
        names,
        reference,
        lambda call, seed: interventions.normalise(module_of(call), names),
    )


def skip(t: Targets, *, scaled: bool) -> Change | None:
    """Skips around layers."""
    spans = _spans(t)
    # Around one layer, the scale would be 1.
    if len(spans) < 1 + scaled:
        return None
    scale = 1 / math.sqrt(len(spans)) if scaled else 1.0
    names = [name for name, _, _ in spans]
    points = [(start, stop) for _, start, stop in spans]
    line = f"x = x + {f'{scale:.3g} * ' if scaled else ''}{path(names[0])}(x)"
    return t.change(
        "residual connections of 1/√L" if scaled else "residual connections",
        f"the input of {listed(names)} added to what comes out before the next layer with weights: {line}",
        names,
        "S. De, S. Smith, NeurIPS 2020" if scaled else "K. He, X. Zhang, S. Ren, J. Sun, CVPR 2016",
        lambda call, seed: interventions.add_skips(module_of(call), points, scale),
    )


def _spans(t: Targets) -> list[tuple[str, Point, Point]]:
    """From before each layer with weights to before the next, where the shape is the same."""
    way = t.found.way
    shapes = {str(p.point): p.shape for p in t.found.flow.places}
    made = {o.writes for o in t.here}
    heavy = [any(w.role != "norm" for w in t.found.among(step.operations)) for step in way]
    found = []
    starts = [i for i, has in enumerate(heavy) if has]
    for first, following in zip(starts, [*starts[1:], len(way)], strict=True):
        span = way[first:following]
        start, stop = span[0].start, span[-1].stop
        inside = any(o.writes in made for step in span for o in step.operations)
        plain = not any("skip" in step.kind for step in span)
        real = start != INPUT and stop != OUTPUT and shapes.get(str(start)) == shapes.get(str(stop))
        if inside and plain and real and shapes.get(str(start)):
            module = next(w.module for w in t.found.among(span[0].operations) if w.role != "norm")
            found.append((module, start, stop))
    return found
