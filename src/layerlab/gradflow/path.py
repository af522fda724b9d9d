"""The way from the input to the output in steps that multiply: from one bottleneck of the dataflow to the next."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from layerlab.errors import UserError
from layerlab.gradflow.flow import Flow, ModuleCall, Operation
from layerlab.gradflow.points import INPUT, OUTPUT, Point

# Of this many modules in a step each is named in its label; of more the first and the last.
_NAMED = 3


@dataclass(frozen=True, eq=False)
class Step:
    """A piece of the model through which everything passes: y = f(x), with x at ``start`` and y at ``stop``.

    Attributes:
        name: of the module, or of the modules in it.
        kind: their types, and the operations outside of them.
        start: where x is.
        stop: where y is.
        begins: the value x.
        ends: the value y.
        operations: in order.
        modules: names of all modules called in it.
        module: the one module to name for it; of functions outside of modules the one before them.
    """

    name: str
    kind: str
    start: Point
    stop: Point
    begins: int
    ends: int
    operations: tuple[Operation, ...]
    modules: tuple[str, ...]
    module: str


def steps(flow: Flow, model: object, layers: Sequence[str] = ()) -> tuple[Step, ...]:
    """The steps from the input to the output, whose Jacobians' product is the Jacobian of the model.

    Args:
        flow: of a forward pass.
        model: the module that was run, for the types of its parts; or a function.
        layers: names of modules, with ``*`` and ``?``: steps then end only where one of these ends; all bottlenecks
            by default.

    Raises:
        UserError: a name that fits no module on the way.

    >>> import torch
    >>> from layerlab.gradflow.evaluation import Call
    >>> from layerlab.gradflow.flow import record
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> flow = record(Call.of(model, torch.ones(3, 2), None, None, 0))
    >>> [(step.name, step.kind, str(step.stop)) for step in steps(flow, model)]
    [('0', 'Linear', '0'), ('1', 'Tanh', '1'), ('2', 'Linear', 'output')]
    """
    if not flow.connected or flow.source == flow.sink:
        return ()
    caught: dict[int, Point] = {}
    inner = set(flow.bottlenecks()) - {flow.source, flow.sink}
    for place in flow.places:
        if not place.complete or place.value not in inner:
            continue
        # An output before an input, and of several the innermost module's: the first to return.
        if place.value not in caught or caught[place.value].side == "input" != place.point.side:
            caught[place.value] = place.point
    if layers:
        caught = _chosen(flow, caught, layers)
    points = {flow.source: INPUT, **dict(sorted(caught.items())), flow.sink: OUTPUT}
    types = dict(model.named_modules(remove_duplicate=False)) if isinstance(model, nn.Module) else {}
    return tuple(_step(flow, a, b, points[a], points[b], types) for a, b in pairwise(points))


def _chosen(flow: Flow, caught: dict[int, Point], layers: Sequence[str]) -> dict[int, Point]:
    """Bottlenecks at which one of the layers begins or ends."""
    ends: set[int] = set()
    on_the_way = {o.module for o in flow.operations}
    for pattern in layers:
        calls = [c for c in flow.calls if fnmatch.fnmatchcase(c.module, pattern)]
        if not calls:
            names = sorted({c.module for c in flow.calls if c.module in on_the_way})
            raise UserError(
                f"no module that is called fits {pattern!r}; there are {', '.join(names[:8])}"
                + (", …" if len(names) > 8 else "")
            )
        ends.update(v for c in calls for v in (c.enters, c.leaves) if v is not None)
    return {value: point for value, point in caught.items() if value in ends}


def _step(flow: Flow, begins: int, ends: int, start: Point, stop: Point, types: dict[str, nn.Module]) -> Step:
    operations = flow.between(begins, ends)
    made = {o.writes for o in operations}
    # Calls that do something in the step and nothing on the way outside of it; of nested ones the outermost.
    within = []
    for call in flow.calls:
        inside = {o.writes for o in flow.operations if call.first < o.writes <= call.last}
        if inside and inside <= made:
            within.append(call)
    outer = [c for c in within if not any(_inside(c, other) for other in within)]
    outside = [o for o in operations if not any(c.first < o.writes <= c.last for c in outer)]
    kinds = [type(types[c.module]).__name__ for c in outer if c.module in types]
    kinds += list(dict.fromkeys(_plain(o) for o in outside))
    if any(begins in o.reads and o.name.startswith("aten::add") for o in operations[1:]):
        kinds = [kind for kind in kinds if kind != "add"] + ["skip"]
    names = [c.module + (f"#{c.call}" if c.call else "") for c in outer]
    if not names and (begins, ends) == (flow.source, flow.sink) and "" in types:
        names = kinds = [type(types[""]).__name__]
    if not names:
        names = [", ".join(kinds) + (f" after {start.module}" if start.module else "")]
    if len(names) > _NAMED:
        names = [names[0], "…", names[-1]]
    modules = dict.fromkeys(c.module for c in within)
    return Step(
        _joined(names),
        " + ".join(kinds),
        start,
        stop,
        begins,
        ends,
        operations,
        tuple(modules),
        outer[0].module if outer else start.module,
    )


def _inside(call: ModuleCall, other: ModuleCall) -> bool:
    if call is other or not (other.first <= call.first and call.last <= other.last):
        return False
    return call.module.startswith(other.module + ".")


def _plain(operation: Operation) -> str:
    return operation.name.split("::")[-1].rstrip("_")


def _joined(names: Sequence[str]) -> str:
    """``a.0.norm``, ``a.0.drop`` as ``a.0.{norm, drop}``: what they share is said once."""
    if len(names) == 1:
        return names[0]
    parts = [name.split(".") for name in names if name != "…"]
    shared = 0
    while all(len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    if not shared:
        return ", ".join(names)
    head = ".".join(parts[0][:shared])
    return f"{head}.{{{', '.join('…' if n == '…' else n[len(head) + 1 :] for n in names)}}}"
