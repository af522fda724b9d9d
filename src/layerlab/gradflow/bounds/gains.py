"""By how much each operation of a forward pass can amplify a change of what it reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerlab.gradflow.bounds import attention, elementwise, linear, normalization, shape
from layerlab.gradflow.bounds.arguments import Arguments, Combine, Law, Rule, Scope, copies_in_view
from layerlab.gradflow.bounds.convolution_norm import convolution_norm
from layerlab.gradflow.flow import Seen
from layerlab.lab.models.nested import leaves

_RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **shape.RULES,
    **linear.RULES,
    **normalization.RULES,
    **attention.RULES,
}


@dataclass(frozen=True, eq=False)
class Gain:
    """By how much an operation can amplify a small change of each argument that depends on the input.

    With A_i the derivative of the result by argument i, both taken as all that is in their memory: ‖A_i‖₂ ≤ factor_i.
    Results that only serve a backward pass (the statistics of a normalisation, attention's log-sums) are not counted.

    Attributes:
        factors: computes the factors, one for each entry of `layerlab.gradflow.flow.Operation.reads`. To be called
            before weights change; infinite where nothing is known.
        combine: how the contributions of the arguments add: "sum", or "rss" (root of the sum of squares) where they go
            to different entries of the result.
        scope: "any input": a Lipschitz constant; "these inputs": of the Jacobian at the inputs of this pass;
            "unknown": there is no rule.
        reason: in a few words.
        apart: whether arguments that are the same value are parts of it without overlap.
    """

    factors: Callable[[], tuple[float, ...]]
    combine: Combine
    scope: Scope
    reason: str
    apart: bool = False


def gain(seen: Seen) -> Callable[[Any], Gain]:
    """A `layerlab.gradflow.flow.Look`: what an operation can amplify, by `Gain`.

    >>> from layerlab.gradflow.evaluation import Call
    >>> from layerlab.gradflow.flow import record
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Sigmoid())
    >>> flow = record(Call.of(model, torch.ones(3, 1), None, None, 0), gain)
    >>> [(operation.note.reason, operation.note.scope) for operation in flow.operations]
    [('linear: spectral norm of the weight', 'any input'), ('sigmoid: slope at most 1/4', 'any input')]
    >>> flow.operations[1].note.factors()
    (0.25,)
    """
    arguments = Arguments(seen)
    tensors = [tensor for _, tensor in arguments.dependents]
    overwritten = _overwritten(seen)
    # The tensors may be overwritten once the operation ran, so views and what lies beside them are looked at now.
    views = [math.sqrt(copies_in_view(t)) for t in tensors]
    rest = overwritten is not None and _partial(overwritten)
    apart = not rest and _apart(tensors)
    law = None if any(t.is_complex() for t in tensors) else _rule(seen.name)(arguments)

    def after(result: Any) -> Gain:
        made = [t for _, t in leaves(result)]
        if not any(t.is_floating_point() or t.is_complex() for t in made):
            zeros = tuple(0.0 for _ in tensors)
            return Gain(lambda: zeros, "sum", "these inputs", "a result that jumps: slope 0 between")
        found = law if law is None or isinstance(law, Law) else law(result)
        known = found is not None and all(
            name in found.factors or not tensor.is_floating_point() for name, tensor in arguments.dependents
        )
        if found is None or not known:
            unknown = tuple(math.inf for _ in tensors)
            return Gain(lambda: unknown, "sum", "unknown", f"no rule for {seen.name}")
        names = [name if t.is_floating_point() else None for name, t in arguments.dependents]
        kept = [rest and t is overwritten for t in tensors]
        given = found.factors

        def factors() -> tuple[float, ...]:
            values = []
            for name, view, keeps in zip(names, views, kept, strict=True):
                factor = 0.0 if name is None else given[name]
                value = view * (factor() if callable(factor) else factor)
                # What lies beside the part that is overwritten stays as it is.
                value = max(value, 1.0) if keeps else value
                values.append(value if value == value else math.inf)
            return tuple(values)

        return Gain(factors, found.combine, found.scope, found.reason, apart)

    return after


def module_gain(module: nn.Module, input_shape: Sequence[int]) -> Gain | None:
    """What is known of a module as a whole and better than its operations tell; None where they tell as much.

    - A convolution with circular padding: exact where its output is as large as its input, or one stride-th of it
      (`layerlab.gradflow.bounds.convolution_norm.convolution_norm`). Torch pads by copying, which doubles the bound in
      each dimension.
    - Softsign and tanhshrink, which torch computes from quotients and differences: slope at most 1.

    Args:
        module: without the modules inside it.
        input_shape: of what enters it, batch included.

    >>> layer = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    >>> _ = nn.init.constant_(layer.weight, 0.5)
    >>> found = module_gain(layer, (1, 1, 8))
    >>> found.factors(), found.reason
    ((1.5,), 'circular convolution: spectral norm, exact')
    """
    if isinstance(module, (nn.Softsign, nn.Tanhshrink)):
        return Gain(lambda: (1.0,), "sum", "any input", f"{type(module).__name__}: slope at most 1")
    if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) or module.padding_mode != "circular":
        return None
    dims = module.weight.ndim - 2
    size = tuple(input_shape)[-dims:]
    # Torch keeps what is padded last dimension first, both sides in turn.
    sides = module._reversed_padding_repeated_twice[::-1]
    behind, front = sides[::2], sides[1::2]
    outputs = [
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, before, after, d, k, s in zip(
            size, front, behind, module.dilation, module.kernel_size, module.stride, strict=True
        )
    ]
    value, exact = convolution_norm(
        module.weight,
        size,
        stride=module.stride,
        padding=front,
        dilation=module.dilation,
        groups=module.groups,
        circular=True,
        outputs=outputs,
    )
    kind = "exact" if exact else "bound"
    return Gain(lambda: (value,), "sum", "any input", f"circular convolution: spectral norm, {kind}")


def _rule(name: str) -> Rule:
    nothing: Rule = lambda arguments: None  # noqa: E731
    return _RULES.get(name) or _RULES.get(name.removesuffix("_")) or nothing


def _overwritten(seen: Seen) -> Tensor | None:
    """The argument that the operation writes to."""
    for argument, value in zip(seen.schema.arguments, seen.args, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, Tensor):
            return value
    return None


def _partial(tensor: Tensor) -> bool:
    return tensor.numel() * tensor.element_size() < tensor.untyped_storage().nbytes()


def _apart(tensors: list[Tensor]) -> bool:
    """Whether tensors of one storage do not overlap in it."""
    storages: dict[int, list[Tensor]] = {}
    for tensor in tensors:
        storages.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
    return all(len(group) == 1 or _disjoint(group) for group in storages.values())


def _disjoint(tensors: list[Tensor]) -> bool:
    if len({t.dtype for t in tensors}) > 1:
        return False
    length = tensors[0].untyped_storage().nbytes() // tensors[0].element_size()
    seen = torch.zeros(length, dtype=torch.bool)
    for tensor in tensors:
        place = seen.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        if bool(place.any()):
            return False
        place.fill_(True)
    return True
