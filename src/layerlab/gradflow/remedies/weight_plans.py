"""Plans of changes to weights, biases, gains and running statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.remedies import interventions
from layerlab.gradflow.remedies.targets import Change, Targets, listed, module_of, path
from layerlab.gradflow.remedies.weighted import Weighted


def reset(t: Targets) -> Change | None:
    """The gain of normalisations 1, the shift 0."""
    targets = [w for w in t.weighted if w.role == "norm"]
    if not targets:
        return None
    names = [name for w in targets for name in (*w.weights, *w.biases)]
    return t.change(
        "gain and shift reset",
        f"{listed(names)} set to 1 and 0: {path(targets[0].module)}.reset_parameters()",
        names,
        "S. Ioffe, C. Szegedy, ICML 2015",
        lambda call, seed: interventions.reset_norms(module_of(call), targets),
    )


def biases(t: Targets) -> Change | None:
    """Biases 0."""
    targets = [w for w in t.weighted if w.biases]
    if not targets:
        return None
    names = [name for w in targets for name in w.biases]
    return t.change(
        "bias 0",
        f"{listed(names)} set to 0: nn.init.zeros_({path(names[0])})",
        names,
        "X. Glorot, Y. Bengio, AISTATS 2010",
        lambda call, seed: interventions.zero_biases(module_of(call), targets),
    )


def statistics(t: Targets) -> Change | None:
    """What batch norm knows of the data gathered anew, where it is used."""
    names = [
        w.module
        for w in t.weighted
        if w.role == "norm" and _running(module := t.model.get_submodule(w.module)) and not module.training
    ]
    if not names:
        return None
    return t.change(
        "statistics renewed",
        f"running mean and variance of {listed(names)} gathered anew: "
        f"{path(names[0])}.reset_running_stats(), then a pass over the data in train mode",
        names,
        "Y. Wu, J. Johnson, 2021 (arXiv:2105.07576)",
        lambda call, seed: interventions.renew_statistics(call, names),
    )


def orthogonal(t: Targets) -> Change | None:
    """Orthogonal weights."""
    targets = t.matrices
    return _of_weights(
        t,
        "orthogonal initialisation",
        targets,
        lambda w, name: f"nn.init.orthogonal_({path(name)}, {interventions.gain(w):.3g})",
        "A. Saxe, J. McClelland, S. Ganguli, ICLR 2014",
        lambda call, seed: interventions.orthogonal(module_of(call), targets, seed),
    )


def variance(t: Targets) -> Change | None:
    """Independent weights that keep variances."""
    targets = t.matrices

    def line(w: Weighted, name: str) -> str:
        kind = {1.0: "linear", math.sqrt(2): "relu"}.get(interventions.gain(w))
        if kind is None or w.swapped or w.role == "recurrent":
            deviation = interventions.deviation(w, t.model.get_parameter(name))
            return f"nn.init.normal_({path(name)}, std={deviation:.3g})"
        return f'nn.init.kaiming_normal_({path(name)}, nonlinearity="{kind}")'

    return _of_weights(
        t,
        "variance-preserving initialisation",
        targets,
        line,
        "K. He et al., ICCV 2015; X. Glorot, Y. Bengio, AISTATS 2010",
        lambda call, seed: interventions.preserve_variance(module_of(call), targets, seed),
    )


def unit_variance(t: Targets) -> Change | None:
    """Weights scaled until every output has variance 1."""
    targets = [w for w in t.matrices if w.role == "linear" and w.leaves]
    return _of_weights(
        t,
        "layer-sequential unit variance",
        targets,
        lambda w, name: f"nn.init.orthogonal_({path(name)}); {path(name)}.data /= output.std()",
        "D. Mishkin, J. Matas, ICLR 2016",
        lambda call, seed: interventions.unit_variance(call, targets, seed),
        centred=False,
    )


def _of_weights(
    t: Targets,
    name: str,
    targets: Sequence[Weighted],
    line: Callable[[Weighted, str], str],
    reference: str,
    apply: Callable[[Call, int], Any],
    *,
    centred: bool = True,
) -> Change | None:
    computed = [w.module for w in t.weighted if w.computed]
    names = [weight for w in targets for weight in w.weights]
    if not targets and not computed:
        return None
    left_out = (
        f"the weight of {listed(computed)} is not a parameter but computed (weight norm, spectral norm)"
    )
    if not targets:

        def refuse(call: Call, seed: int) -> None:
            raise UserError(left_out)

        return t.change(name, f"nothing changed: {left_out}", computed, reference, refuse)
    what = f"weights {listed(names)} drawn anew{_biases_of(targets, centred)}: {line(targets[0], names[0])}"
    what += f"; {left_out} and left as it is" if computed else ""
    return t.change(name, what, names, reference, apply)


def recurrent(t: Targets) -> Change | None:
    """Orthogonal recurrent weights, the others as they are."""
    targets = [replace(w, weights=tuple(n for n in w.weights if "weight_hh" in n)) for w in t.recurrent]
    names = [name for w in targets for name in w.weights]
    if not names:
        return None
    return t.change(
        "orthogonal recurrent weights",
        f"{listed(names)} orthogonal, gate by gate: nn.init.orthogonal_({path(names[0])})",
        names,
        "M. Henaff, A. Szlam, Y. LeCun, ICML 2016; A. Saxe et al., ICLR 2014",
        lambda call, seed: interventions.orthogonal(module_of(call), targets, seed),
    )


def forget(t: Targets) -> Change | None:
    """The forget gate of an LSTM open."""
    targets = [
        w
        for w in t.recurrent
        if w.biases and isinstance(t.model.get_submodule(w.module), (nn.LSTM, nn.LSTMCell))
    ]
    if not targets:
        return None
    names = [name for w in targets for name in w.biases]
    return t.change(
        "forget gate bias 1",
        f"the quarter for the forget gate of {listed(names)} set to 1 in sum: "
        f"{path(next(n for n in names if 'bias_hh' in n))}.data[hidden:2 * hidden] = 1",
        names,
        "R. Jozefowicz, W. Zaremba, I. Sutskever, ICML 2015",
        lambda call, seed: interventions.forget_bias(module_of(call), targets),
    )


def _biases_of(targets: Sequence[Weighted], centred: bool) -> str:
    plain = [w for w in targets if w.biases and w.role != "recurrent"]
    if centred and any(w.comes_from == "sigmoid" for w in plain):
        return ", biases 0, or -weight.sum(1) / 2 behind a sigmoid, whose mean is 1/2"
    return ", biases 0" if plain else ""


def _running(module: nn.Module) -> bool:
    return isinstance(getattr(module, "running_var", None), Tensor)
