"""Changes to a copy of a model that should let gradients through: weights, activations, skips and normalisations.

Weights are set in place; everything else is done by hooks and by exchanging calls of torch's functions, so that the
user's source need not be touched and any module will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from layerlab.gradflow.evaluation import Call, run
from layerlab.gradflow.points import Point
from layerlab.gradflow.recurrent.gates import make_orthogonal, open_forget_gate
from layerlab.gradflow.remedies.weighted import Weighted
from layerlab.lab.models.nested import leaves, replaced

RECTIFIERS = frozenset(
    {"relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "gelu", "silu", "mish", "softplus", "hardswish"}
)
"""Activations off on one side: half of the gradient passes, so weights of variance 2/n keep its size (He et al.)."""

# What the functions of a kind are called in torch, with and without "_", where not like the kind alone.
_CALLED = {
    "sigmoid": {"sigmoid", "special_expit"},
    "relu6": {"relu6", "hardtanh"},
    "threshold": {"threshold", "_threshold"},
    "log_softmax": {"log_softmax", "special_log_softmax"},
}


def gain(w: Weighted) -> float:
    """The factor on weights of norm 1 at which gradients keep their size: 1/√E[f'²] of the activation that follows.

    A sigmoid is 1/2 + tanh(x/2)/2: with twice the weights on either side, and biases that take the 1/2 away (see
    `centring`), a net of sigmoids is one of tanh, whose slope at 0 is 1.
    """
    factor = 2.0 if w.comes_from == "sigmoid" else 1.0
    if w.follows == "sigmoid":
        return 2 * factor
    return factor * math.sqrt(2) if w.follows in RECTIFIERS else factor


@torch.no_grad()
def orthogonal(model: nn.Module, weighted: Iterable[Weighted], seed: int) -> None:
    """Weights with all singular values equal to `gain`, biases 0; of a recurrent layer W_hh for each gate.

    Reference: A. Saxe, J. McClelland, S. Ganguli, ICLR 2014.
    """
    generator = torch.Generator().manual_seed(seed)
    for w in weighted:
        for name in w.weights:
            parameter = model.get_parameter(name)
            if w.role == "recurrent":
                make_orthogonal(model.get_submodule(w.module), parameter, generator, gain(w))
                continue
            new = torch.empty(parameter.shape, dtype=torch.float64)
            for part in new.chunk(w.groups):
                nn.init.orthogonal_(part, gain(w), generator=generator)
            parameter.copy_(new)
        _centre(model, w)


@torch.no_grad()
def preserve_variance(model: nn.Module, weighted: Iterable[Weighted], seed: int) -> None:
    """Independent normal weights of variance gain²/n, n inputs, biases 0; of a recurrent layer W_hh orthogonal.

    References: K. He, X. Zhang, S. Ren, J. Sun, ICCV 2015; X. Glorot, Y. Bengio, AISTATS 2010.
    """
    generator = torch.Generator().manual_seed(seed)
    for w in weighted:
        for name in w.weights:
            parameter = model.get_parameter(name)
            if "weight_hh" in name:
                orthogonal(model, [replace(w, weights=(name,))], seed)
                continue
            new = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
            parameter.copy_(new * deviation(w, parameter))
        _centre(model, w)


def deviation(w: Weighted, parameter: Tensor) -> float:
    """gain/√n, with n inputs of each output."""
    outputs = parameter.shape[1] if w.swapped and w.groups == 1 else parameter.shape[0]
    return gain(w) / math.sqrt(parameter.numel() / outputs)


def _centre(model: nn.Module, w: Weighted) -> None:
    """Biases 0; behind a sigmoid, whose mean is 1/2, what takes the mean away: b = -½ W 1."""
    if w.role == "recurrent":
        return
    zero_biases(model, [w])
    if w.comes_from == "sigmoid" and len(w.biases) == len(w.weights) == 1 and w.groups == 1:
        weight, bias = model.get_parameter(w.weights[0]), model.get_parameter(w.biases[0])
        matrix = weight.transpose(0, 1) if w.swapped else weight
        sums = matrix.flatten(1).sum(1)
        if sums.shape == bias.shape:
            bias.copy_(-sums / 2)


@torch.no_grad()
def zero_biases(model: nn.Module, weighted: Iterable[Weighted]) -> None:
    """Biases 0, and shifts of normalisations."""
    for w in weighted:
        for name in w.biases:
            model.get_parameter(name).zero_()


@torch.no_grad()
def reset_norms(model: nn.Module, weighted: Iterable[Weighted]) -> None:
    """Gains of normalisations 1, shifts 0."""
    for w in weighted:
        for name in w.weights:
            model.get_parameter(name).fill_(1.0)
    zero_biases(model, weighted)


def forget_bias(model: nn.Module, weighted: Iterable[Weighted]) -> None:
    """The bias of an LSTM's forget gate 1: a state is kept by σ(1) = 0.73 a step rather than σ(0) = 0.5."""
    for w in weighted:
        for name in w.biases:
            open_forget_gate(model.get_submodule(w.module), name, model.get_parameter(name))


def renew_statistics(call: Call, names: Collection[str]) -> None:
    """Running means and variances of batch normalisations gathered anew on the inputs.

    Reference: Y. Wu, J. Johnson, "Rethinking 'Batch' in BatchNorm", 2021 (precise batch norm).
    """
    model = call.model
    assert isinstance(model, nn.Module)
    norms = [model.get_submodule(name) for name in names]
    found: list[tuple[Any, Tensor, Tensor]] = []

    def gather(norm: Any, args: Any, output: Tensor) -> Tensor:
        (x,) = args
        across = [d for d in range(x.ndim) if d != 1]
        mean, var = x.mean(across), x.var(across, unbiased=False)
        found.append((norm, mean, var))
        return F.batch_norm(x, mean, var, norm.weight, norm.bias, eps=norm.eps)

    with torch.no_grad():
        _with_hooks(call, dict.fromkeys(norms, gather))
        for norm, mean, var in found:
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)


def unit_variance(call: Call, weighted: Collection[Weighted], seed: int) -> None:
    """Orthogonal weights, divided layer by layer by the deviation of what the layer makes of the inputs.

    Reference: D. Mishkin, J. Matas, "All you need is a good init", ICLR 2016 (LSUV).
    """
    model = call.model
    assert isinstance(model, nn.Module)
    orthogonal(model, weighted, seed)
    zero_biases(model, weighted)
    of = {w.module: w for w in weighted}
    done: set[str] = set()

    def scale(name: str) -> Callable[[Any, Any, Any], Any]:
        def hook(module: Any, args: Any, output: Any) -> Any:
            if name in done or not isinstance(output, Tensor):
                return output
            done.add(name)
            deviation = float(output.double().std())
            if not deviation > 0 or not math.isfinite(deviation):
                return output
            for parameter in of[name].weights:
                # Not to be counted as a change by the forward pass itself.
                model.get_parameter(parameter).data.div_(deviation)
            return output / deviation

        return hook

    with torch.no_grad():
        _with_hooks(call, {model.get_submodule(name): scale(name) for name in of})


def _with_hooks(call: Call, hooks: Mapping[nn.Module, Callable[[Any, Any, Any], Any]]) -> None:
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        run(call, {})
    finally:
        for handle in handles:
            handle.remove()


def normalise(model: nn.Module, names: Iterable[str]) -> None:
    """The output of modules normalised, for each sample: images over everything, else over the last dimension.

    References: J. L. Ba, J. R. Kiros, G. E. Hinton, 2016; Y. Wu, K. He, ECCV 2018 (one group).
    """

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        if is_convolution(module):
            return F.group_norm(output, 1)
        return F.layer_norm(output, output.shape[-1:])

    for name in names:
        model.get_submodule(name).register_forward_hook(hook)


def is_convolution(module: nn.Module) -> bool:
    """Whether channels come before places."""
    return isinstance(module, nn.modules.conv._ConvNd)


def standardised(inputs: Any, paths: Iterable[tuple[int | str, ...]]) -> Any:
    """Inputs with mean 0 and deviation 1: each feature over the batch, of images (4 or more dimensions) each channel.

    Reference: Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, "Efficient BackProp", 1998.
    """
    bare = isinstance(inputs, Tensor)
    given = (inputs,) if bare else inputs
    found = dict(leaves(given))
    for path in paths:
        x = found[path]
        kept = 1 if x.ndim >= 4 else x.ndim - 1
        across = [d for d in range(x.ndim) if d != kept]
        mean, deviation = x.mean(across, keepdim=True), x.std(across, keepdim=True, unbiased=False)
        given = replaced(given, path, (x - mean) / torch.where(deviation > 0, deviation, 1.0))
    return given[0] if bare else given


def add_skips(model: nn.Module, spans: Sequence[tuple[Point, Point]], scale: float) -> None:
    """y = x + scale · f(x) around each span, from the value at its first point to that at its second.

    Reference: K. He, X. Zhang, S. Ren, J. Sun, CVPR 2016.
    """
    counts: dict[str, int] = {}
    kept: dict[int, Tensor] = {}
    at: dict[Point, list[Callable[[Tensor], Tensor]]] = {}

    def keep(index: int) -> Callable[[Tensor], Tensor]:
        def hook(x: Tensor) -> Tensor:
            kept[index] = x
            return x.clone()  # what comes may work in place

        return hook

    def add(index: int) -> Callable[[Tensor], Tensor]:
        return lambda y: kept.pop(index) + scale * y

    # Where a span ends and the next begins, the sum is what the next one keeps.
    for index, (_, stop) in enumerate(spans):
        at.setdefault(stop, []).append(add(index))
    for index, (start, _) in enumerate(spans):
        at.setdefault(start, []).append(keep(index))

    def change(point: Point, value: Any) -> Any:
        real = [(path, tensor) for path, tensor in leaves(value) if tensor.is_floating_point()]
        if point not in at or not real:
            return value
        path, tensor = real[0]
        for function in at[point]:
            tensor = function(tensor)
        return replaced(value, path, tensor)

    def begin(module: nn.Module, args: Any) -> None:
        counts.clear()
        kept.clear()

    def before(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
            point = Point(name, "input", counts.get(name, 0))
            given = change(point, {**dict(enumerate(args)), **kwargs})
            return tuple(given[i] for i in range(len(args))), {k: given[k] for k in kwargs}

        return hook

    def after(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            call = counts.get(name, 0)
            counts[name] = call + 1
            return change(Point(name, "output", call), output)

        return hook

    model.register_forward_pre_hook(begin)
    for name in dict.fromkeys(point.module for point in at):
        module = model.get_submodule(name)
        module.register_forward_pre_hook(before(name), with_kwargs=True)
        module.register_forward_hook(after(name))


class _Exchange(TorchFunctionMode):
    """Other functions in place of some of torch's, where the innermost module running is one of those meant."""

    def __init__(
        self, instead: Mapping[str, Callable[[Callable[..., Any], Tensor, Any, Any], Tensor]]
    ) -> None:
        super().__init__()
        self.instead = instead
        self.meant: list[bool] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        function = self.instead.get(name.removesuffix("_"))
        if function is None or not self.meant[-1]:
            return func(*args, **(kwargs or {}))
        given = dict(kwargs or {})
        x, rest = (args[0], args[1:]) if args else (given.pop("input"), ())
        in_place = name.endswith("_") or given.pop("inplace", False) or (rest and rest[-1] is True)
        # Derivatives of some activations need what they were given, which must then not be written over.
        return x.copy_(function(func, x.clone(), rest, given)) if in_place else function(func, x, rest, given)


def exchange(
    model: nn.Module,
    kinds: Iterable[str],
    owners: Collection[str],
    function: Callable[[Tensor], Tensor],
) -> None:
    """Another activation wherever one of these kinds is called, as module, function or method.

    Args:
        model: changed: its forward pass runs under a `torch.overrides.TorchFunctionMode`.
        kinds: as in `layerlab.gradflow.activations.Activation`.
        owners: names of the modules inside which (not inside whose parts) it is exchanged.
        function: the new activation.
    """
    _exchange(model, kinds, owners, lambda func, x, rest, kwargs: function(x))


def divide_softmax(model: nn.Module, kinds: Iterable[str], owners: Collection[str], by: float) -> None:
    """softmax(x / by) in place of softmax(x).

    Reference: A. Vaswani et al., NeurIPS 2017, section 3.2.1 (scaled dot products).
    """
    modules = [model.get_submodule(name) for name in owners]
    if all(isinstance(module, (nn.Softmax, nn.LogSoftmax)) for module in modules):
        # Before the module, where a user would divide: what enters it is already small.
        for module in modules:
            module.register_forward_pre_hook(lambda module, args: (args[0] / by, *args[1:]))
        return
    _exchange(model, kinds, owners, lambda func, x, rest, kwargs: func(x / by, *rest, **kwargs))


def _exchange(model: nn.Module, kinds: Iterable[str], owners: Collection[str], function: Any) -> None:
    mode = _Exchange({name: function for kind in kinds for name in _CALLED.get(kind, {kind})})

    def wrapped(forward: Callable[..., Any], meant: bool, outermost: bool) -> Callable[..., Any]:
        def run_with(*args: Any, **kwargs: Any) -> Any:
            mode.meant.append(meant)
            try:
                if not outermost:
                    return forward(*args, **kwargs)
                with mode:
                    return forward(*args, **kwargs)
            finally:
                mode.meant.pop()

        return run_with

    for name, module in model.named_modules():
        module.forward = wrapped(module.forward, name in owners, not name)
