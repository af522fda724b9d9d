"""Which weights act where on the way from the input to the output, and which activation follows them.

Weights are found by the memory that an operation reads, so those of a user's own layers, of tied and of shared ones
count. Weights that are computed from parameters (weight norm, spectral norm) are known by the module only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from layerlab.gradflow.activations import Activation
from layerlab.gradflow.activations import look as look_at_activation
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.flow import Flow, Operation, Seen, record
from layerlab.gradflow.path import Step, steps

Role = Literal["linear", "norm", "recurrent"]

_MULTIPLIES = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "convolution"}


@dataclass(frozen=True, eq=False)
class Weighted:
    """An operation with weights, or a recurrent module.

    Attributes:
        module: the innermost module that was running; "" is the model.
        call: which of its calls.
        role: "linear" (a product or convolution with the weights), "norm" (a normalisation's gain and shift) or
            "recurrent" (a whole `torch.nn.RNN`, `LSTM`, `GRU` or cell).
        weights: names of parameters that are multiplied with; more than one only where recurrent.
        biases: names of parameters that are added.
        computed: whether the weight is not a parameter but made from some.
        swapped: whether the rows of the weight are its inputs: x @ W, transposed convolutions.
        groups: of a convolution.
        follows: kind of the activation that comes next, before other weights; None where there is none.
        comes_from: kind of the activation before, where nothing but pooling and dropout lies between.
        reads: values, as in `layerlab.gradflow.flow.Operation`.
        writes: the value made.
        leaves: whether that is what the module returns.
    """

    module: str
    call: int
    role: Role
    weights: tuple[str, ...]
    biases: tuple[str, ...]
    computed: bool
    swapped: bool
    groups: int
    follows: str | None
    comes_from: str | None
    reads: tuple[int, ...]
    writes: int
    leaves: bool


@dataclass(frozen=True, eq=False)
class _Note:
    """What is kept of an operation."""

    activation: Activation | None
    names: tuple[tuple[str, ...], ...]  # of the parameters among the arguments: weights, biases
    computed: bool
    swapped: bool
    groups: int


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The weights and activations of a model, as one forward pass used them.

    Attributes:
        call: the model and its inputs.
        flow: of that pass.
        way: its steps.
        weighted: in order of use.
    """

    call: Call
    flow: Flow
    way: tuple[Step, ...]
    weighted: tuple[Weighted, ...]

    def operations_at(self, layer: str | None, module: str | None) -> tuple[Operation, ...]:
        """Those of a module within the steps of that name; of the steps or of the module where there are none such.

        Functions called outside of modules make steps of the same name: all of them are meant.
        """
        steps = tuple(o for step in self.way if step.name == layer for o in step.operations)
        inside = tuple(o for o in steps or self.flow.operations if _within(o.module, module))
        return inside or steps

    def activations(self, operations: Iterable[Operation]) -> tuple[tuple[Operation, Activation], ...]:
        """The activations among the operations, but not gates: those whose value another one is multiplied with."""
        gates = {
            value
            for o in self.flow.operations
            if o.name.startswith("aten::mul") and len(o.reads) > 1
            for value in o.reads
        }
        return tuple(
            (o, found)
            for o in operations
            if (found := cast(_Note, o.note).activation) is not None and o.writes not in gates
        )

    def among(self, operations: Iterable[Operation]) -> tuple[Weighted, ...]:
        """What has weights among the operations."""
        made = {o.writes for o in operations}
        return tuple(w for w in self.weighted if w.writes in made)

    def feeding(self, operations: Iterable[Operation]) -> tuple[Weighted, ...]:
        """What has weights and comes right before the operations; behind a normalisation also what it normalises."""
        makers = {o.writes: o for o in self.flow.operations}
        by_value = {w.writes: w for w in self.weighted}
        found: list[Weighted] = []
        todo, seen = [value for o in operations for value in o.reads], set[int]()
        while todo:
            value = todo.pop()
            if value in seen or value not in makers:
                continue
            seen.add(value)
            if value in by_value:
                found.append(by_value[value])
                if by_value[value].role != "norm":
                    continue
            todo.extend(makers[value].reads)
        return tuple(w for w in self.weighted if w in found)

    def first(self, weighted: Weighted) -> bool:
        """Whether nothing with weights comes before."""
        return not self.feeding([o for o in self.flow.operations if o.writes == weighted.writes])


def anatomy(call: Call, layers: Sequence[str] = ()) -> Anatomy:
    """Runs the model once; it is left as it was.

    Args:
        call: a module and its inputs.
        layers: as of `layerlab.gradflow.path.steps`.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2, bias=False))
    >>> found = anatomy(Call.of(model, torch.ones(5, 3), None, None, 0)).weighted
    >>> [(w.module, w.weights, w.biases, w.follows, w.comes_from) for w in found]
    [('0', ('0.weight',), ('0.bias',), 'tanh', None), ('2', ('2.weight',), (), None, 'tanh')]
    """
    model = cast(nn.Module, call.model)
    named: dict[int, list[tuple[int, str]]] = {}
    for name, parameter in model.named_parameters():
        where = parameter.untyped_storage().data_ptr()
        named.setdefault(where, []).append((int(parameter.storage_offset()), name))

    def look(seen: Seen) -> Callable[[Any], _Note]:
        note = _uses(seen, named)
        after = look_at_activation(seen)
        return lambda result: note if after is None else replace(note, activation=after(result))

    flow = record(call, look)
    return Anatomy(call, flow, steps(flow, model, layers), tuple(_weighted(flow, model)))


def _owner(tensor: Tensor, named: Mapping[int, Sequence[tuple[int, str]]]) -> str | None:
    """The parameter in whose memory a tensor lies; several can share a storage, one after another."""
    if tensor.layout != torch.strided:
        return None
    found = [p for p in named.get(tensor.untyped_storage().data_ptr(), ()) if p[0] <= tensor.storage_offset()]
    return max(found)[1] if found else None


def _uses(seen: Seen, named: Mapping[int, Sequence[tuple[int, str]]]) -> _Note:
    """The weights and biases among the arguments."""
    name = seen.name.removeprefix("aten::")
    weights: list[str] = []
    biases: list[str] = []
    computed = swapped = False
    norm = "norm" in name
    groups, transposed = (seen.args[8], seen.args[6]) if name == "convolution" else (1, False)
    for tensor, depends in zip(seen.tensors, seen.depends, strict=True):
        if depends or not tensor.is_floating_point():
            continue
        parameter = _owner(tensor, named)
        if norm:
            if parameter is not None:
                (biases if weights else weights).append(parameter)
        elif name in _MULTIPLIES and tensor.ndim >= 2:
            computed |= parameter is None and tensor.requires_grad
            weights += [] if parameter is None else [parameter]
            # The weight as it lies in memory, on the right: its rows are the inputs.
            swapped = bool(transposed) or (
                name != "convolution" and tensor.is_contiguous() and tensor is seen.tensors[-1]
            )
        elif parameter is not None and tensor.ndim == 1 and (name in _MULTIPLIES or name == "add"):
            biases.append(parameter)
    return _Note(None, (tuple(weights), tuple(biases)), computed, swapped, int(groups))


def _weighted(flow: Flow, model: nn.Module) -> Iterable[Weighted]:
    modules = dict(model.named_modules(remove_duplicate=False))
    makers = {o.writes: o for o in flow.operations}
    readers: dict[int, list[Operation]] = {}
    for o in flow.operations:
        for value in o.reads:
            readers.setdefault(value, []).append(o)
    returned = {(c.module, c.call): c.leaves for c in flow.calls}
    recurrent: set[tuple[str, int]] = set()
    for o in flow.operations:
        note = cast(_Note, o.note)
        key = (o.module, o.call)
        if isinstance(modules.get(o.module), (nn.RNNBase, nn.RNNCellBase)):
            last = [p.writes for p in flow.operations if (p.module, p.call) == key][-1]
            if key not in recurrent:
                recurrent.add(key)
                yield _recurrent(o, modules[o.module], last)
            continue
        weights, biases = note.names
        if not (weights or note.computed):
            continue
        yield Weighted(
            o.module,
            o.call,
            "norm" if "norm" in o.name else "linear",
            weights,
            biases or _added(o, readers),
            note.computed,
            note.swapped,
            note.groups,
            _next(o, readers),
            _previous(o, makers),
            o.reads,
            o.writes,
            returned.get(key) == o.writes,
        )


def _recurrent(o: Operation, module: nn.Module, last: int) -> Weighted:
    names = [f"{o.module}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False)]
    weights = tuple(name for name in names if ".weight" in f".{name}")
    biases = tuple(name for name in names if ".bias" in f".{name}")
    return Weighted(
        o.module, o.call, "recurrent", weights, biases, False, False, 1, None, None, o.reads, last, False
    )


def _added(o: Operation, readers: Mapping[int, list[Operation]]) -> tuple[str, ...]:
    """Biases that are added by an operation of their own."""
    after = readers.get(o.writes, [])
    if len(after) != 1 or not after[0].name.startswith("aten::add") or len(after[0].reads) != 1:
        return ()
    return cast(_Note, after[0].note).names[1]


def _next(o: Operation, readers: Mapping[int, list[Operation]]) -> str | None:
    """The activation that comes next, before a sum of branches or other weights."""
    while len(after := readers.get(o.writes, [])) == 1:
        (o,) = after
        note = cast(_Note, o.note)
        if note.activation is not None:
            return note.activation.kind
        if len(o.reads) > 1 or (note.names[0] and "norm" not in o.name) or note.computed:
            return None
    return None


def _previous(o: Operation, makers: Mapping[int, Operation]) -> str | None:
    """The activation before, with nothing between that changes a mean."""
    while len(o.reads) == 1 and o.reads[0] in makers:
        o = makers[o.reads[0]]
        note = cast(_Note, o.note)
        if note.activation is not None:
            return note.activation.kind
        if not _keeps_mean(o.name):
            return None
    return None


def _keeps_mean(name: str) -> bool:
    plain = name.removeprefix("aten::")
    return plain in ("clone", "mean", "native_dropout") or "avg_pool" in plain


def _within(module: str, name: str | None) -> bool:
    return bool(name) and (module == name or module.startswith(f"{name}."))


def matrices(weighted: Iterable[Weighted]) -> list[Weighted]:
    """Those that multiply by parameters, each weight once."""
    found: dict[tuple[str, ...], Weighted] = {}
    for w in weighted:
        if w.role != "norm" and w.weights and not w.computed:
            found.setdefault(w.weights, w)
    return list(found.values())
