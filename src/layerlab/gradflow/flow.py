"""The dataflow of one forward pass: which value is made from which, by which operation, inside which module.

Operations are seen below autograd, as torch dispatches them, so activations called as functions count like modules.
Values are kept apart by their memory: all views of one storage are one value, and writing to a storage makes a new
one. What is said to be a bottleneck therefore is one; some bottlenecks of parts of a tensor are missed.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from layerlab.gradflow.evaluation import Call, run
from layerlab.gradflow.points import INPUT, OUTPUT, Point
from layerlab.lab.models.nested import leaves


@dataclass(frozen=True, eq=False)
class Seen:
    """An operation about to be computed, with its tensors as they are before it.

    Attributes:
        name: as torch calls it, without overload: ``"aten::addmm"``, ``"aten::relu_"``.
        function: the operator itself; calling it again computes it again.
        args: positional arguments.
        kwargs: named arguments.
        depends: for each tensor among the arguments, in order, whether it depends on the input.
        module: the innermost module that is running, by the name of `torch.nn.Module.named_modules`; "" is the model.
        call: which of its calls that is, from 0.
    """

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    depends: tuple[bool, ...]
    module: str
    call: int

    @property
    def schema(self) -> Any:
        """What the operator says of its arguments: names, defaults, and which are written to."""
        return self.function._schema

    def named(self) -> dict[str, Any]:
        """The arguments by name, in the operator's order, defaults included."""
        named = {a.name: a.default_value for a in self.schema.arguments if a.has_default_value()}
        given = {a.name: value for a, value in zip(self.schema.arguments, self.args, strict=False)}
        values = {**named, **given, **self.kwargs}
        return {a.name: values[a.name] for a in self.schema.arguments if a.name in values}

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors among the arguments, in order."""
        return tuple(t for _, t in _tensors(self.args, self.kwargs))


# Of these a tensor gives its shape alone.
_CREATES = re.compile(r"aten::(empty|new_|rand|normal_functional|\w+_like).*")

Look = Callable[[Seen], Callable[[Any], Any] | None]
"""Is shown an operation before it is computed, and may return what is then to be called with its result; what that
returns is kept as `Operation.note`."""


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation that the output depends on and that depends on the input.

    Attributes:
        name: as in `Seen`.
        module: as in `Seen`.
        call: as in `Seen`.
        reads: values it depends on and that depend on the input; one for each such tensor argument, in order.
        writes: the value it makes, the largest number so far.
        note: what the look said.
    """

    name: str
    module: str
    call: int
    reads: tuple[int, ...]
    writes: int
    note: Any


@dataclass(frozen=True)
class Place:
    """A value as it passes a point of the model.

    Attributes:
        point: the point.
        value: its number.
        complete: whether the tensor there holds all of the value, and all that reads the value reads it from there:
            not the input of a branch beside which the value goes on.
        shape: of the tensor.
    """

    point: Point
    value: int
    complete: bool
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Flow:
    """What one forward pass computed on the way from the input to the output.

    Attributes:
        source: the value at the input.
        sink: the value at the output.
        operations: in order; only those on the way.
        places: where values on the way pass a module's input or output, in order.
        calls: every call of a module, in order of return.
        not_finite: where NaN first appears, or, where none does and the output has an Inf, where Inf does, in words;
            None where nowhere. (Inf alone is no fault: masks are made of it.)
    """

    source: int
    sink: int
    operations: tuple[Operation, ...]
    places: tuple[Place, ...]
    calls: tuple[ModuleCall, ...]
    not_finite: str | None

    @property
    def connected(self) -> bool:
        """Whether the output depends on the input at all."""
        return bool(self.operations) or self.source == self.sink

    def bottlenecks(self) -> tuple[int, ...]:
        """Values through which every way from the input to the output leads, in order, both ends included.

        In the order of making, no operation on the way reads something older than a bottleneck and makes something
        younger.
        """
        if not self.operations:
            return (self.source,) if self.source == self.sink else ()
        reach = {self.source: self.source}
        for operation in self.operations:
            for value in operation.reads:
                reach[value] = max(reach.get(value, value), operation.writes)
        values = sorted({self.source, *(operation.writes for operation in self.operations)})
        found, farthest = [], self.source
        for value in values:
            if farthest <= value:
                found.append(value)
            farthest = max(farthest, reach.get(value, value))
        return tuple(found)

    def between(self, start: int, stop: int) -> tuple[Operation, ...]:
        """The operations that make ``stop`` from ``start``, two bottlenecks."""
        return tuple(o for o in self.operations if start < o.writes <= stop)


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module.

    Attributes:
        module: its name.
        call: which of its calls, from 0.
        enters: the first floating-point value that enters; None where there is none.
        leaves: the first that leaves.
        first: what it makes is younger than this value,
        last: and no younger than this.
    """

    module: str
    call: int
    enters: int | None
    leaves: int | None
    first: int
    last: int


def record(call: Call, look: Look = lambda seen: None) -> Flow:
    """Runs the model once and keeps what it computed; the model is left as it was.

    Args:
        call: the model and its inputs.
        look: is shown every operation that depends on the input.

    Raises:
        UserError: as `layerlab.gradflow.evaluation.run`.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> flow = record(Call.of(model, torch.ones(3, 2), None, None, 0))
    >>> [operation.name for operation in flow.operations], len(flow.bottlenecks())
    (['aten::addmm', 'aten::relu', 'aten::addmm'], 4)
    """
    recorder = _Recorder(look)

    def enter(tensors: list[Tensor]) -> list[Tensor]:
        recorder.begin(tensors)
        return tensors

    def leave(tensors: list[Tensor]) -> list[Tensor]:
        recorder.end(tensors[0])
        return tensors

    with torch.inference_mode(False), torch.enable_grad(), contextlib.ExitStack() as hooks:
        # Torch's own fused encoder layers show nothing of what is within.
        hooks.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        if isinstance(call.model, nn.Module):
            for name, module in call.model.named_modules():
                if name:
                    hooks.enter_context(recorder.watching(name, module))
        hooks.enter_context(recorder)
        run(call, {INPUT: enter, OUTPUT: leave})
    return recorder.flow()


def _tensors(args: Any, kwargs: Any) -> Iterator[tuple[Any, Tensor]]:
    yield from leaves((args, dict(kwargs)))


@dataclass
class _Passed:
    """A value at a point, while its readers are not yet known: they come after ``first`` and up to ``last``."""

    point: Point
    first: int
    last: float = math.inf
    value: int | None = None
    whole: bool = False
    shape: tuple[int, ...] = ()


def _within(readers: Iterable[int], passed: _Passed) -> bool:
    return all(passed.first < reader <= passed.last for reader in readers)


class _Recorder(TorchDispatchMode):
    """Numbers the values as they are made."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look
        self._storages: list[Any] = []  # held: memory given back would be taken again, for another value
        self._current: dict[int, int] = {}
        self._tainted: set[int] = set()
        self._operations: list[Operation] = []
        self._passed: list[_Passed] = []
        self._calls: list[ModuleCall] = []
        self._stack: list[tuple[str, int]] = [("", 0)]
        self._count: dict[str, int] = {}
        self._values = 0
        self._source = self._sink = -1
        self._nan: str | None = None
        self._inf: str | None = None
        self._output = torch.zeros(())

    def begin(self, tensors: Iterable[Tensor]) -> None:
        self._source = self._next()
        for tensor in tensors:
            self._set(tensor, self._source)
        self._tainted.add(self._source)

    def end(self, tensor: Tensor) -> None:
        self._sink = self._value(tensor)
        self._output = tensor

    def flow(self) -> Flow:
        needed, kept = {self._sink}, []
        for operation in reversed(self._operations):
            if operation.writes in needed:
                needed.update(operation.reads)
                kept.append(operation)
        kept.reverse()
        if self._source not in needed:
            needed, kept = set(), []
        readers: dict[int, list[int]] = {}
        for operation in kept:
            for value in operation.reads:
                readers.setdefault(value, []).append(operation.writes)
        places = tuple(
            Place(p.point, p.value, p.whole and _within(readers.get(p.value, []), p), p.shape)
            for p in self._passed
            if p.value in needed
        )
        fault = self._nan or (None if bool(torch.isfinite(self._output).all()) else self._inf)
        return Flow(self._source, self._sink, tuple(kept), places, tuple(self._calls), fault)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [t for _, t in _tensors(args, kwargs)]
        values = [self._value(t) for t in given]
        name = func.name().split(".")[0]
        depends = tuple(value in self._tainted and not _CREATES.fullmatch(name) for value in values)
        seen = Seen(name, func, args, kwargs, depends, *self._stack[-1])
        # `detach` and the like only look: no operation, and nothing to be shown.
        after = self._look(seen) if any(depends) and not _is_view(func) else None
        result = func(*args, **kwargs)
        made = [t for _, t in leaves(result)]
        written = {_key(given[i]) for i in _mutated(func, args, given)}
        before = {_key(t) for t in given}
        fresh = [t for t in made if _key(t) not in before] + [t for t in given if _key(t) in written]
        if fresh and any(depends):
            reads = tuple(v for v, d in zip(values, depends, strict=True) if d)
            # What is written to in part keeps the rest: its old value is read even if it is only an output.
            value = self._next()
            self._tainted.add(value)
            self._operations.append(
                Operation(
                    seen.name, seen.module, seen.call, reads, value, None if after is None else after(result)
                )
            )
            self._inspect(seen, fresh)
        else:
            value = self._next() if fresh else -1
        for tensor in fresh:
            self._set(tensor, value)
        return result

    @contextlib.contextmanager
    def watching(self, name: str, module: nn.Module) -> Iterator[None]:
        """Keeps the values that enter and leave a module."""
        entered: list[_Passed] = []

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            call = self._count.get(name, 0)
            self._count[name] = call + 1
            entered.append(self._pass(Point(name, "input", call), (args, kwargs)))
            self._stack.append((name, call))

        def after(module: nn.Module, args: Any, output: Any) -> None:
            _, call = self._stack.pop()
            left = self._pass(Point(name, "output", call), output)
            came = entered.pop()
            came.last = self._values
            self._calls.append(ModuleCall(name, call, came.value, left.value, came.first, came.last))

        handles = (
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _inspect(self, seen: Seen, fresh: Iterable[Tensor]) -> None:
        """Notes the first NaN and the first Inf."""
        name = seen.name.split("::")[-1].rstrip("_")
        if name == "copy":
            # It makes none. Circular padding copies whole columns of memory whose ends nobody has written yet.
            return
        where = f"{name} in {seen.module or 'the model'}"
        for tensor in fresh:
            if self._nan is None and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                self._inf = self._inf or where
                if bool(torch.isnan(tensor).any()):
                    self._nan = where

    def _pass(self, point: Point, value: Any) -> _Passed:
        real = [t for _, t in leaves(value) if t.is_floating_point()]
        passed = _Passed(point, self._values)
        if real:
            passed.value = self._value(real[0])
            passed.whole = real[0].layout == torch.strided and (
                real[0].numel() * real[0].element_size() == real[0].untyped_storage().nbytes()
            )
            passed.shape = tuple(real[0].shape)
            self._passed.append(passed)
        return passed

    def _next(self) -> int:
        self._values += 1
        return self._values

    def _value(self, tensor: Tensor) -> int:
        key = _key(tensor)
        if key not in self._current:
            self._set(tensor, self._next())
        return self._current[key]

    def _set(self, tensor: Tensor, value: int) -> None:
        self._storages.append(tensor.untyped_storage() if tensor.layout == torch.strided else tensor)
        self._current[_key(tensor)] = value


def _key(tensor: Tensor) -> int:
    """Names the memory of a tensor; a sparse one has several pieces, and is its own."""
    return int(tensor.untyped_storage()._cdata) if tensor.layout == torch.strided else -id(tensor)


def _is_view(func: Any) -> bool:
    """Whether the result is another look at an argument."""
    returns: Sequence[Any] = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _mutated(func: Any, args: tuple[Any, ...], given: Sequence[Tensor]) -> list[int]:
    """Positions in ``given`` of the arguments that are written to."""
    written = [
        id(value)
        for argument, value in zip(func._schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return [i for i, tensor in enumerate(given) if id(tensor) in written]
