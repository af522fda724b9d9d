"""A recorded forward pass: the tensors at chosen points, and the graph of derivatives between them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from layerlab.errors import UserError
from layerlab.gradflow.evaluation import Call, Tap, run
from layerlab.gradflow.points import OUTPUT, Point
from layerlab.lab.models.nested import leaves


class Trace:
    """One forward pass, with everything between the points differentiable.

    Each recorded tensor is a copy of what the model made and the model goes on with a copy of that, so operations
    in place behind a point do not reach it.

    Args:
        call: the model and its inputs.
        points: where to record.

    Raises:
        UserError: as `layerlab.gradflow.evaluation.run`, or a value that is NaN or Inf at a point: the first
            module that makes one is named.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    >>> trace = Trace(Call.of(model, torch.ones(5, 2), None, None, 0), ["0", "output"])
    >>> trace.tensor("0").shape
    torch.Size([5, 3])
    """

    def __init__(self, call: Call, points: Sequence[str | Point]) -> None:
        self.call = call
        self.plain = False
        self.points = tuple(dict.fromkeys(Point.parse(point) for point in points))
        self._tensors: dict[Point, list[Tensor]] = {}
        self._record()

    def tensors(self, point: str | Point) -> list[Tensor]:
        """The tensors recorded at a point: several only at the input."""
        return self._tensors[Point.parse(point)]

    def tensor(self, point: str | Point) -> Tensor:
        """The one recorded at a point.

        Raises:
            UserError: there are several.
        """
        found = self.tensors(point)
        if len(found) > 1:
            raise UserError(f"there are several tensors at {point}, where one is needed")
        return found[0]

    def use_plain_kernels(self) -> None:
        """Records anew without fused kernels, many of which can be differentiated only once."""
        if not self.plain:
            self.plain = True
            self._record()

    @contextlib.contextmanager
    def kernels(self) -> Iterator[None]:
        """The kernels of this pass, for another one."""
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with contextlib.ExitStack() as stack:
                if self.plain:
                    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
                    stack.enter_context(_without_onednn())
                    stack.enter_context(torch.backends.cudnn.flags(enabled=False))
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)

    def passes(self, start: Point, stop: Point) -> bool:
        """Whether there is a derivative of the value at ``stop`` by the one at ``start``."""
        x, y = self.tensors(start), self.tensor(stop)
        if not y.requires_grad:
            return False
        grads = torch.autograd.grad(y, x, torch.zeros_like(y), retain_graph=True, allow_unused=True)
        return any(grad is not None for grad in grads)

    def check_path(self, start: Point, stop: Point) -> None:
        """Whether y at ``stop`` can be differentiated by x at ``start``.

        Raises:
            UserError: it does not depend on x.
        """
        if not self.tensor(stop).requires_grad:
            raise UserError(
                f"the value at {stop} is not differentiable: it was computed without a record (torch.no_grad, "
                "detach, numpy or integers)"
            )
        if start == stop:
            raise UserError(f"the path from {start} to {stop} is empty")
        if not self.passes(start, stop):
            raise UserError(
                f"the value at {stop} does not depend on the one at {start}; is it before it, or detached?"
            )

    def _record(self) -> None:
        self._tensors.clear()
        taps: dict[Point, Tap] = {}

        def at(point: Point) -> None:
            def keep(tensors: list[Tensor]) -> list[Tensor]:
                kept = [t.clone() for t in tensors]
                kept = [t if t.requires_grad else t.detach().requires_grad_() for t in kept]
                self._tensors[point] = kept
                return [t.clone() for t in kept]

            def keep_last(tensors: list[Tensor]) -> list[Tensor]:
                self._tensors[point] = [t.clone() for t in tensors]
                return tensors

            taps[point] = keep_last if point == OUTPUT else keep

        for point in self.points:
            at(point)
        with by_memory(), torch.inference_mode(False), torch.enable_grad(), self.kernels():
            run(self.call, taps)
        for point, tensors in self._tensors.items():
            if not all(bool(torch.isfinite(t).all()) for t in tensors):
                raise UserError(f"the value at {point} is not finite{_first_fault(self.call)}")


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    # Not `torch.backends.mkldnn.flags`: it touches a switch of Intel's GPUs, and warns where there are none.
    before = torch.backends.mkldnn.set_flags(_enabled=False, _fp32_precision=None)[0]
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=before, _fp32_precision=None)


def is_memory(error: BaseException | None) -> bool:
    """Whether memory did not suffice."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)


@contextlib.contextmanager
def by_memory() -> Iterator[None]:
    """Says what to do when memory does not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError, UserError) as error:
        cause = error.__cause__ if isinstance(error, UserError) else error
        if is_memory(cause):
            raise UserError(
                "out of memory; pass fewer samples, a smaller input or a smaller budget"
            ) from error
        raise


def _first_fault(call: Call) -> str:
    """The first module whose output is not finite, as the end of a sentence."""
    if not isinstance(call.model, nn.Module):
        return ""
    found: list[str] = []
    with contextlib.ExitStack() as stack:
        for name, module in call.model.named_modules():

            def look(module: nn.Module, args: object, output: object, name: str = name) -> None:
                real = [t for _, t in leaves(output) if t.is_floating_point()]
                if not found and not all(bool(torch.isfinite(t).all()) for t in real):
                    found.append(
                        f": NaN or Inf first appears in the output of {name or 'the model'} "
                        f"({type(module).__name__})"
                    )

            stack.callback(module.register_forward_hook(look).remove)
        with torch.no_grad():
            run(call, {})
    return found[0] if found else ""
