"""One training step of a model, watched: hooks that read what passes, change nothing, and are gone afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from layerlab.gradflow.activations import Activation, look
from layerlab.gradflow.flow import Seen
from layerlab.gradflow.monitoring.layers import parameters_of
from layerlab.gradflow.monitoring.ways import Edge, Sum, edge_of, ways_through
from layerlab.lab.models.nested import leaves

CALLS = 16
"""A layer that one forward pass calls more often (a recurrent cell) is watched for its first calls only."""

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_CELLS = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)


@dataclass
class _Reading:
    """Sums over the calls and passes of one row."""

    kind: str
    squares: float = 0.0
    entries: int = 0
    out: float | None = None
    into: float | None = None
    activations: list[Activation] = field(default_factory=list)


class Watch:
    """Hooks on a model during one step; `finish` takes them away and tells what they saw.

    Nothing is exchanged: gradients are read at tensors and at nodes of the graph as they are, so the step computes
    the same bits as without, unless a module computes otherwise while somebody listens (a U-Net of ours does). The
    input gradient of a layer is the part that came through it, not what a residual branch adds to it.

    Args:
        model: the model.
        layers: what to watch, by name.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        self.seconds = 0.0
        """The time spent in here."""
        self.passes = 0
        """How many forward passes were seen."""
        self.not_finite: str | None = None
        """Where NaN or Inf first appeared, in words."""
        begun = perf_counter()
        self._rows: dict[tuple[str, int, str], _Reading] = {}
        self._handles: list[Any] = []
        self._stack: list[tuple[str | None, int, list[Edge]]] = []  # None: a call that does not count
        self._counts: dict[str, int] = {}
        self._positions: dict[tuple[str, int, str], int] = {}
        self._sums: list[Sum] = []
        self._tops: set[str] = set()
        self._layers = layers
        self._weights: dict[int, float] = {}
        self._gradients: dict[int, float] = {}
        self._reader = _Reader(self)
        self._entered = False
        self._unread: set[str] = set()
        closed = _closed(model)
        for name, module in model.named_modules():
            if "parametrizations" in name.split(".") or module in closed:
                continue
            if _is_unread(module):
                self._unread.add(name)
            self._handles += (
                module.register_forward_pre_hook(self._timed(self._before(name)), with_kwargs=True),
                module.register_forward_hook(self._timed(self._after(name)), always_call=True),
            )
        for parameter in {id(p): p for module in layers.values() for p in parameters_of(module)}.values():
            self._weights[id(parameter)] = self._norm(parameter.detach(), "")
            if parameter.requires_grad and parameter.is_leaf:
                hook = self._timed(self._accumulated)
                self._handles.append(parameter.register_post_accumulate_grad_hook(hook))
        self.seconds += perf_counter() - begun

    def finish(self) -> None:
        """Takes every hook away; the second time it does nothing."""
        begun = perf_counter()
        for handle in self._handles:
            handle.remove()
        for both in self._sums:
            both.finish()
        self._handles.clear()
        self._sums.clear()
        self._stack.clear()
        # A forward pass can be broken off by what hooks are not told of, like Ctrl-C.
        self._read_operations(False)
        self.seconds += perf_counter() - begun

    def rows(self) -> dict[str, dict[str, Any]]:
        """What was measured: row -> measure -> value, in order of execution."""
        found: dict[str, dict[str, Any]] = {}
        kinds: dict[tuple[str, int], set[str]] = {}
        for module, call, kind in self._rows:
            if kind:
                kinds.setdefault((module, call), set()).add(kind)
        for (module, call, kind), reading in self._rows.items():
            label = f"{module}#{call}" if call else module
            alone = module in self._layers and len(kinds.get((module, call), ())) == 1
            if kind and not alone:
                label = f"{label or 'model'}: {kind}"
            entry = found.setdefault(label or "model", {"kind": reading.kind})
            entry.update(_summed(reading))
        for name, layer in self._layers.items():
            own = [p for p in parameters_of(layer) if id(p) in self._weights]
            if own:
                entry = found.setdefault(name or "model", {"kind": type(layer).__name__})
                entry.update(self._of_weights(own))
        return found

    def _of_weights(self, own: Iterable[nn.Parameter]) -> dict[str, Any]:
        weight = math.hypot(*(self._weights[id(p)] for p in own))
        gradients = [self._gradients[id(p)] for p in own if id(p) in self._gradients]
        values: dict[str, Any] = {"weight_norm": weight}
        if gradients:
            values["weight_gradient"] = math.hypot(*gradients)
            if weight > 0:
                values["relative_gradient"] = values["weight_gradient"] / weight
        return values

    # In the hooks ------------------------------------------------------------------------------------------------

    def _timed(self, hook: Callable[..., None]) -> Callable[..., None]:
        def timed(*args: Any) -> None:
            begun = perf_counter()
            hook(*args)
            self.seconds += perf_counter() - begun

        return timed

    def _before(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            if (self._stack and self._stack[-1][0] is None) or not (self._stack or self._counted(name)):
                self._stack.append((None, 0, []))
                return
            if not self._stack:
                self._counts.clear()
                self._positions.clear()
                self.passes += 1
                self._read_operations(True)
            call = self._counts.get(name, 0)
            self._counts[name] = call + 1
            edges: list[Edge] = []
            if name in self._layers and call < CALLS and torch.is_grad_enabled():
                edges = [edge_of(t) for _, t in leaves((args, kwargs)) if t.requires_grad]
            self._stack.append((name, call, edges))
            if name in self._unread:
                self._read_operations(False)

        return hook

    def _counted(self, name: str) -> bool:
        """Whether a call from outside is a forward pass. Once the model itself was called, calls of its parts are
        none: checkpointing computes them again in the backward pass."""
        if name and "" in self._tops:
            return False
        self._tops.add(name)
        return True

    def _after(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not self._stack:
                return
            there, call, edges = self._stack.pop()
            if there == name and name in self._layers and call < CALLS:
                self._read(name, call, module, output, edges)
            if there is not None:
                self._read_operations(bool(self._stack))

        return hook

    def _read_operations(self, wanted: bool) -> None:
        """Whether operations are shown to the reader from now on."""
        if wanted and not self._entered:
            self._reader.__enter__()
        elif self._entered and not wanted:
            self._reader.__exit__(None, None, None)
        self._entered = wanted

    def _read(self, name: str, call: int, module: nn.Module, output: Any, edges: list[Edge]) -> None:
        tensors = [t for _, t in leaves(output) if t.is_floating_point()]
        if not tensors:
            return
        row = self._rows.setdefault((name, call, ""), _Reading(type(module).__name__))
        label = f"{name or 'the model'}#{call}" if call else name or "the model"
        for tensor in tensors:
            row.squares += self._norm(tensor.detach(), f"the output of {label}") ** 2
            row.entries += tensor.numel()
        live = [t for t in tensors if t.requires_grad]
        if not live or not torch.is_grad_enabled():
            return

        def arrived(grad: Tensor) -> None:
            row.out = (row.out or 0.0) + self._norm(grad, f"the gradient at the output of {label}") ** 2

        def left(grad: Tensor) -> None:
            row.into = (row.into or 0.0) + self._norm(grad, f"the gradient at the input of {label}") ** 2

        for tensor in live:
            self._handles.append(tensor.register_hook(self._timed(arrived)))
        for ways in ways_through([edge_of(t) for t in live], edges):
            both = Sum(len(ways), left)
            self._sums.append(both)
            for node, position in ways:
                self._handles.append(node.register_hook(self._timed(both.hook(position))))

    def _accumulated(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._gradients[id(parameter)] = self._norm(parameter.grad, "the gradient of a weight")

    def activation(self, found: Activation) -> None:
        """Keeps an activation that the forward pass computed."""
        module, call, kind = key = (found.module, found.call, found.kind)
        if module not in self._layers:  # several in one forward function are kept apart
            self._positions[key] = position = self._positions.get(key, 0) + 1
            kind += f" {min(position, CALLS)}" if position > 1 else ""
        self._rows.setdefault((module, call, kind), _Reading(found.kind)).activations.append(found)

    def running(self) -> tuple[str, int]:
        """The innermost module, and which of its calls."""
        name, call, _ = self._stack[-1] if self._stack else ("", 0, [])
        return name or "", call

    def _norm(self, tensor: Tensor, where: str) -> float:
        if tensor.is_sparse:
            tensor = tensor.coalesce().values()
        if tensor.numel() == 0:
            return 0.0
        dtype = torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else None
        norm = float(torch.linalg.vector_norm(tensor, dtype=dtype))
        if not math.isfinite(norm):
            if bool(torch.isfinite(tensor).all()):  # only the squares are beyond float32
                return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
            if self.not_finite is None and where:
                self.not_finite = where
        return norm


class _Reader(TorchDispatchMode):
    """Shows every operation of a forward pass to `activations.look`."""

    supports_higher_order_operators = True

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        begun = perf_counter()
        kwargs = kwargs or {}
        module, call = self._watch.running()
        after = None
        if call < CALLS:
            after = look(Seen(func.name().split(".")[0], func, args, kwargs, (True,), module, call))
        computed = perf_counter()
        result = func(*args, **kwargs)
        again = perf_counter()
        if after is not None:
            self._watch.activation(after(result))
        self._watch.seconds += perf_counter() - again + computed - begun
        return result


def _is_unread(module: nn.Module) -> bool:
    """Whether the operations inside are not looked at: a layer of weights.

    Some bring kernels of their own, and take others where somebody looks on: then bits would differ. An activation
    that such a layer calls itself is missed; torch's recurrent layers, which are known, are read.
    """
    return (
        all(name == "parametrizations" for name, _ in module.named_children())
        and bool(parameters_of(module))
        and not isinstance(module, _RECURRENT)
    )


def _closed(model: nn.Module) -> set[nn.Module]:
    """Frozen transformer layers in eval mode, with what is inside: hooks there would make torch take other kernels."""
    return {
        inner
        for module in model.modules()
        if isinstance(module, _CELLS)
        and not module.training
        and not any(p.requires_grad for p in module.parameters())
        for inner in module.modules()
    }


def _summed(reading: _Reading) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if reading.entries:
        values["activation_rms"] = math.sqrt(reading.squares / reading.entries)
    if reading.out is not None:
        values["gradient_out"] = math.sqrt(reading.out)
    if reading.into is not None:
        values["gradient_in"] = math.sqrt(reading.into)
        if reading.out:
            values["gain"] = math.sqrt(reading.into / reading.out)
    if seen := reading.activations:
        values["saturated"] = sum(a.saturated for a in seen) / len(seen)
        values["slope"] = math.sqrt(sum(a.slope_rms**2 for a in seen) / len(seen))
        dead = [a.dead for a in seen if a.dead is not None]
        if dead:
            values["dead"] = min(dead)
    return values
