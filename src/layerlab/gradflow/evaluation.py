"""One forward pass of a user's model that leaves no trace in it, with a look at chosen points."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.points import INPUT, OUTPUT, Point
from layerlab.lab.models.nested import Key, Path, leaves, replaced, spelled
from layerlab.lab.models.untouched import arguments, copied, unchanged
from layerlab.lab.subjects import user_code

Tap: TypeAlias = Callable[[list[Tensor]], list[Tensor]]
"""Is given the tensors at a point and returns what the model goes on with."""

Choice: TypeAlias = Key | Path | None


@dataclass(frozen=True, eq=False)
class Call:
    """What a model is called with, and which tensors count.

    Attributes:
        model: the module, or a function of tensors.
        args: positional arguments.
        kwargs: named arguments.
        sources: paths of the inputs to differentiate, into (args, kwargs) as one mapping; empty where there are
            integers only: then the output of the first embedding takes the input's place.
        output: which of several outputs; None where there is one.
        seed: of all random numbers drawn in the pass (dropout), so that each pass draws the same.
    """

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    sources: tuple[Path, ...]
    output: Choice
    seed: int

    @staticmethod
    def of(
        model: Callable[..., Any], inputs: Any, wrt: Choice | Sequence[Choice], output: Choice, seed: int
    ) -> Call:
        """Sorts out ``inputs``: a tensor, a tuple of arguments or a mapping of named ones.

        Raises:
            UserError: no model, no tensor among the inputs, an empty or non-finite one, or a choice that is needed
                or cannot be.
        """
        if not callable(model):
            raise UserError(f"expected a torch.nn.Module or a function, got {type(model).__name__}")
        args, kwargs = arguments(inputs)
        found = dict(leaves({**dict(enumerate(args)), **kwargs}))
        if not found:
            raise UserError(f"expected a tensor among the inputs, got {type(inputs).__name__}")
        for path, tensor in found.items():
            if tensor.numel() == 0:
                raise UserError(f"the input {spelled(path)} is empty: its shape is {tuple(tensor.shape)}")
        sources = _sources(found, wrt)
        for path in sources:
            if not bool(torch.isfinite(found[path]).all()):
                raise UserError(f"the input {spelled(path)} has entries that are NaN or Inf")
        if isinstance(model, nn.Module):
            _check_parameters(model)
        return Call(model, args, kwargs, sources, output, seed)


def _sources(found: dict[Path, Tensor], wrt: Choice | Sequence[Choice]) -> tuple[Path, ...]:
    real = [path for path, tensor in found.items() if tensor.is_floating_point()]
    if wrt is None:
        if len(real) > 1:
            raise UserError(
                "several inputs can be differentiated: choose with wrt= one or a list of "
                f"{', '.join(map(spelled, real))}"
            )
        return tuple(real)
    chosen = []
    for choice in wrt if isinstance(wrt, list) else [wrt]:
        path = choice if isinstance(choice, tuple) else (choice,)
        if path not in found:
            raise UserError(f"wrt={choice!r} is no input; there are {', '.join(map(spelled, found))}")
        if not found[path].is_floating_point():
            raise UserError(
                f"the input {spelled(path)} is of dtype {found[path].dtype}, which cannot be differentiated; "
                "leave wrt out to differentiate from the first embedding, or name it as the start"
            )
        chosen.append(path)
    return tuple(chosen)


def _check_parameters(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(
                f"{name or 'the model'} is scripted or traced (torch.jit), which cannot be watched; pass the model it "
                "was made from"
            )
        if isinstance(getattr(module, "_orig_mod", None), nn.Module):
            raise UserError(
                f"{name or 'the model'} is compiled (torch.compile), which cannot be watched; pass the model it was "
                "made from"
            )
    for name, tensor in model.named_parameters():
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise UserError(
                f"the parameter {name} has no shape yet; call the model once before (lazy module)"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"the parameter {name} has entries that are NaN or Inf; initialise or load it anew"
            )


class _Reached(BaseException):
    """Ends a forward pass. Not an `Exception`: a model's own ``except`` must not swallow it."""


def run(call: Call, taps: Mapping[Point, Tap], *, until: Point | None = None) -> None:
    """One forward pass; each tap sees, and may exchange, the tensors at its point.

    Afterwards the model is as before: buffers are exchanged for copies during the pass, attributes set in it are
    taken back, and the state of the random number generators is restored. Inputs are copied, so operations in
    place do not reach the caller's.

    Args:
        call: the model and its inputs.
        taps: by point.
        until: the pass may stop there.

    Raises:
        UserError: the model raises (with file and line), a point is not reached or has no tensor, or the model
            writes to its parameters.
    """
    reached: set[Point] = set()

    def at(point: Point, value: Any) -> Any:
        paths = [path for path, tensor in leaves(value) if tensor.is_floating_point()][:1]
        if not paths:
            raise UserError(f"there is no floating-point tensor at {point}")
        return tapped(point, value, paths)

    def tapped(point: Point, value: Any, paths: Sequence[Path]) -> Any:
        tensors = dict(leaves(value))
        for path, tensor in zip(paths, taps[point]([tensors[p] for p in paths]), strict=True):
            value = replaced(value, path, tensor)
        reached.add(point)
        if point == until:
            raise _Reached
        return value

    args, kwargs = copied(call.args), copied(call.kwargs)
    with unchanged(call.model, call.seed), contextlib.ExitStack() as hooks:
        _hook(call, taps, at, hooks)
        try:
            if INPUT in taps and call.sources:
                given = tapped(INPUT, {**dict(enumerate(args)), **kwargs}, call.sources)
                args, kwargs = tuple(given[i] for i in range(len(args))), {k: given[k] for k in kwargs}
            with user_code(f"the model, called with {_described(call)}, raised"):
                result = call.model(*args, **kwargs)
            if OUTPUT in taps:
                tapped(OUTPUT, result, [_chosen_output(result, call.output)])
        except _Reached:
            pass
    missed = [point for point in taps if point not in reached]
    if missed and missed[0] == INPUT:
        raise UserError("the inputs are integers and no embedding was called; name a module as the start")
    if missed:
        again = " so often" if missed[0].call else ""
        raise UserError(f"the forward pass does not reach {missed[0]}: the module is not called{again}")


def _hook(
    call: Call, taps: Mapping[Point, Tap], at: Callable[[Point, Any], Any], hooks: contextlib.ExitStack
) -> None:
    """Registers what watches the points inside the model."""
    inner = [point for point in taps if point.module]
    if not isinstance(call.model, nn.Module):
        if inner:
            raise UserError(f"the point {inner[0]} needs a torch.nn.Module, got a function")
        return
    for name in {point.module for point in inner}:
        points: dict[tuple[str, int], Point] = {(p.side, p.call): p for p in inner if p.module == name}
        module = next(iter(points.values())).module_in(call.model)
        hooks.enter_context(_watching(module, points, at))
    if INPUT in taps and not call.sources:
        seen: list[nn.Module] = []

        def first(module: nn.Module, args: Any, output: Any) -> Any:
            if seen:
                return output
            seen.append(module)
            return at(INPUT, output)

        for module in call.model.modules():
            if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
                hooks.enter_context(_removing(module.register_forward_hook(first)))


@contextlib.contextmanager
def _watching(
    module: nn.Module, points: Mapping[tuple[str, int], Point], at: Callable[[Point, Any], Any]
) -> Iterator[None]:
    calls = 0

    def before(module: nn.Module, args: Any, kwargs: Any) -> Any:
        point = points.get(("input", calls))
        if point is None:
            return None
        given = at(point, {**dict(enumerate(args)), **kwargs})
        return tuple(given[i] for i in range(len(args))), {k: given[k] for k in kwargs}

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal calls
        point = points.get(("output", calls))
        calls += 1
        return output if point is None else at(point, output)

    with (
        _removing(module.register_forward_pre_hook(before, with_kwargs=True)),
        _removing(module.register_forward_hook(after)),
    ):
        yield


@contextlib.contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _chosen_output(result: Any, choice: Choice) -> Path:
    found = dict(leaves(result))
    real = [path for path, tensor in found.items() if tensor.is_floating_point()]
    if not found:
        raise UserError(f"the model returns {type(result).__name__}, in which there is no tensor")
    if choice is None:
        if len(real) == 1:
            return real[0]
        if not real:
            dtype = next(iter(found.values())).dtype
            raise UserError(f"the model returns {dtype}, which is not differentiable")
        raise UserError(
            f"the model returns several tensors: choose with output= one of {', '.join(map(spelled, real))}"
        )
    path = choice if isinstance(choice, tuple) else (choice,)
    if path not in real:
        raise UserError(
            f"output={choice!r} is no floating-point output; there are {', '.join(map(spelled, real)) or 'none'}"
        )
    return path


def _described(call: Call) -> str:
    shapes = [tuple(t.shape) for _, t in leaves({**dict(enumerate(call.args)), **call.kwargs})]
    return "inputs of shape " + ", ".join(map(str, shapes))
