"""What reaches the recurrent modules in one forward pass of a model, put in the order in which it is processed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from layerlab.errors import UserError
from layerlab.gradflow.evaluation import Call, run
from layerlab.gradflow.recurrent.steps import Kind, Weights
from layerlab.lab.models.nested import leaves

LAYERS = (nn.RNN, nn.LSTM, nn.GRU)
CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)
_NAMES = "nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell or nn.GRUCell"


@dataclass(frozen=True, eq=False)
class Recorded:
    """One call of one recurrent module, as (T, B, ·) in the module's own dtype.

    Attributes:
        name: of the module, "" for the model itself.
        module: its type's name.
        weights: of each layer and direction: [layer][direction].
        inputs: (T, B, I); a cell has T = 1.
        lengths: (B) of a packed sequence; None where all have T steps.
        start: h_0 or (h_0, c_0), each (layers · directions, B, ·).
        given: whether the start was given; otherwise it is zero.
        outputs: of the module, (T, B, directions · P).
        end: as ``start``, after the last step.
        dropout: between layers; 0 in eval mode.
        random: state of torch's generator before the call, for the masks of dropout.
    """

    name: str
    module: str
    weights: list[list[Weights]]
    inputs: Tensor
    lengths: Tensor | None
    start: tuple[Tensor, ...]
    given: bool
    outputs: Tensor
    end: tuple[Tensor, ...]
    dropout: float
    random: Tensor


@dataclass(eq=False)
class Run:
    """Calls of one module of which each starts from the state where the one before ended."""

    calls: list[Recorded] = field(default_factory=list)


def recurrent_modules(model: nn.Module, name: str | None) -> dict[str, nn.Module]:
    """The recurrent modules of a model, or of the part ``name`` of it.

    Raises:
        UserError: there is none.
    """
    found: dict[str, nn.Module] = {n: m for n, m in model.named_modules() if isinstance(m, LAYERS + CELLS)}
    if not found:
        raise UserError(
            f"expected a model with {_NAMES} in it, got {type(model).__name__} without; see jacobian for other models"
        )
    if name is None:
        return found
    chosen = {n: m for n, m in found.items() if n == name or n.startswith(f"{name}.") or name == ""}
    if not chosen:
        raise UserError(
            f"there is no recurrent module {name!r} in the model; there are {', '.join(repr(n) for n in found)}"
        )
    return chosen


def record(call: Call, modules: dict[str, nn.Module]) -> list[Recorded]:
    """Every call of the modules in one forward pass, in order.

    Raises:
        UserError: the model raises (file and line named), or calls none of the modules.
    """
    found: list[Recorded] = []
    with contextlib.ExitStack() as hooks, torch.inference_mode(False), torch.no_grad():
        for name, module in modules.items():
            hooks.enter_context(_watched(name, module, found))
        run(call, {})
    if not found:
        raise UserError(
            f"the forward pass calls none of the recurrent modules {', '.join(repr(name) for name in modules)}"
        )
    return found


def linked(calls: list[Recorded]) -> list[Run]:
    """Calls put one after the other where one is given the state in which another ended."""
    runs: list[Run] = []
    for call in calls:
        before = next((run for run in reversed(runs) if call.given and _continues(run.calls[-1], call)), None)
        if before is None:
            runs.append(Run([call]))
        else:
            before.calls.append(call)
    return runs


def _continues(before: Recorded, after: Recorded) -> bool:
    return (
        before.name == after.name
        and before.lengths is None
        and after.lengths is None
        and all(torch.equal(a, b) for a, b in zip(before.end, after.start, strict=True))
    )


@contextlib.contextmanager
def _watched(name: str, module: nn.Module, found: list[Recorded]) -> Iterator[None]:
    seen: list[tuple[Any, Any, Tensor]] = []
    known: list[list[list[Weights]]] = []

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = dict(zip(("input", "hx"), args, strict=False)) | kwargs
        seen.append((_copied(given["input"]), _copied(given.get("hx")), torch.get_rng_state()))

    def after(module: nn.Module, args: Any, output: Any) -> None:
        if not known:
            # Once, and inside of the pass: a parametrisation may change its state when it is read.
            known.append(_weights(module))
        put = _of_cell if isinstance(module, CELLS) else _of_layer
        found.append(put(name, module, known[0], *seen.pop(), output))

    # Last before and first after, to see what the module's own forward sees.
    handles = [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, prepend=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _of_cell(
    name: str, module: Any, weights: list[list[Weights]], given: Any, hx: Any, random: Tensor, output: Any
) -> Recorded:
    inputs = given if given.ndim == 2 else given[None]
    end = tuple(t.detach().cpu() for t in (output if isinstance(output, tuple) else (output,)))
    end = tuple((t if given.ndim == 2 else t[None])[None].clone() for t in end)
    if hx is None:
        start = tuple(torch.zeros_like(t) for t in end)
    else:
        start = tuple(
            (t if given.ndim == 2 else t[None])[None] for t in (hx if isinstance(hx, tuple) else (hx,))
        )
    kind = type(module).__name__
    return Recorded(name, kind, weights, inputs[None], None, start, hx is not None, end[0], end, 0.0, random)


def _of_layer(
    name: str, module: Any, weights: list[list[Weights]], given: Any, hx: Any, random: Tensor, output: Any
) -> Recorded:
    outputs, states = output
    end = tuple(t.detach().cpu() for t in (states if isinstance(states, tuple) else (states,)))
    start = None if hx is None else hx if isinstance(hx, tuple) else (hx,)
    lengths: Tensor | None = None
    if isinstance(given, PackedSequence):
        inputs, lengths = pad_packed_sequence(given)
        outputs, _ = pad_packed_sequence(outputs)
        if bool((lengths == lengths[0]).all()):
            lengths = None
    elif given.ndim == 2:
        inputs, outputs = given[:, None], outputs[:, None]
        end = tuple(t[:, None] for t in end)
        start = None if start is None else tuple(t[:, None] for t in start)
    elif module.batch_first:
        inputs, outputs = given.transpose(0, 1), outputs.transpose(0, 1)
    else:
        inputs = given
    return Recorded(
        name,
        type(module).__name__,
        weights,
        inputs,
        lengths,
        tuple(torch.zeros_like(t) for t in end) if start is None else start,
        start is not None,
        outputs.detach().cpu().clone(),
        tuple(t.clone() for t in end),
        float(module.dropout) if module.training and module.num_layers > 1 else 0.0,
        random,
    )


def _weights(module: Any) -> list[list[Weights]]:
    """[layer][direction], in float64 on the CPU."""
    if isinstance(module, CELLS):
        return [[_one(module, _kind(module), "")]]
    directions = ("", "_reverse") if module.bidirectional else ("",)
    return [
        [_one(module, _kind(module), f"_l{layer}{direction}") for direction in directions]
        for layer in range(module.num_layers)
    ]


def _one(module: Any, kind: Kind, suffix: str) -> Weights:
    def read(name: str) -> Tensor:
        return getattr(module, name + suffix).detach().to("cpu", torch.float64)

    recurrent = read("weight_hh")
    zero = torch.zeros(recurrent.shape[0], dtype=torch.float64)
    return Weights(
        kind=kind,
        input=read("weight_ih"),
        recurrent=recurrent,
        input_bias=read("bias_ih") if module.bias else zero,
        recurrent_bias=read("bias_hh") if module.bias else zero,
        projection=read("weight_hr") if getattr(module, "proj_size", 0) else None,
    )


def _kind(module: Any) -> Kind:
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return "lstm"
    if isinstance(module, (nn.GRU, nn.GRUCell)):
        return "gru"
    return "tanh" if module.nonlinearity == "tanh" else "relu"


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, PackedSequence):
        return value.cpu()
    if isinstance(value, (tuple, list)):
        return tuple(_copied(item) for item in value)
    return value


def packed_first(inputs: Any) -> Any:
    """A packed sequence is one argument, though it is a tuple of tensors."""
    return (inputs,) if isinstance(inputs, PackedSequence) else inputs


def called_with(model: nn.Module, inputs: Any, seed: int) -> Call:
    """The call, with every floating-point input checked; none of them has to be chosen.

    Raises:
        UserError: as `layerlab.gradflow.evaluation.Call.of`.
    """
    inputs = packed_first(inputs)
    given = dict(inputs) if isinstance(inputs, dict) else inputs
    numbered = given if isinstance(given, (dict, tuple, list)) else (given,)
    real = [path for path, tensor in leaves(numbered) if tensor.is_floating_point()]
    return Call.of(model, given, real or None, None, seed)
