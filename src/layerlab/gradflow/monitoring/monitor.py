"""What depth does to gradients while a model trains: a monitor for anyone's training loop."""

from __future__ import annotations

import difflib
import fnmatch
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.gradflow.monitoring.layers import layers_of
from layerlab.gradflow.monitoring.record import Record
from layerlab.gradflow.monitoring.update import Update
from layerlab.gradflow.monitoring.watch import Watch
from layerlab.lab.models.untouched import unchanged
from layerlab.lab.report.page import Page, write

SHARE = 0.05
"""With ``every="auto"`` watching takes less than this share of the training time."""

MEASURES: dict[str, str] = {
    "activation_rms": "root mean square of the layer's output",
    "saturated": "share of entries where an activation's slope is below 5 per cent of its largest",
    "dead": "share of units whose slope is 0 at every sample and position",
    "slope": "root mean square of an activation's slope",
    "gradient_out": "norm of the loss gradient at the layer's output",
    "gradient_in": "norm of what the layer hands back of it to its input",
    "gain": "their ratio: how much the layer amplifies the gradient",
    "weight_norm": "norm of the layer's parameters",
    "weight_gradient": "norm of their gradient",
    "relative_gradient": "ratio of these two",
    "update_ratio": "norm of the optimiser's step relative to the norm of the parameters",
}
"""What is measured of a row in a snapshot. Of several forward passes in one step (gradient accumulation) the norms
are those over all samples, the shares means, ``dead`` the least; the gradient of weights is what has accumulated."""

# "auto" aims lower than it promises: the time of the next watched step is a guess, and not all of it can be clocked.
_AIM = 0.6 * SHARE
_MOST = 400
_SAVE_SECONDS = 60.0
_RECENT = 20


class Monitor:
    """Records what passes through each layer at some steps of a training; the others run without any hook.

    The training is not changed: the same weights, bit for bit, with and without. (Equal to
    rounding only for a `layerlab.segmentation.UNet` on a CPU: it takes another layout, and joins norm and activation,
    while nobody looks on.) Only the class `torch.nn.Module` itself is understood: models under `torch.compile` or
    `torch.nn.DataParallel` are refused. Gradients are those that `torch.Tensor.backward` computes: under a gradient
    scaler they carry its factor.

    Args:
        model: the model that trains.
        every: watch every n-th step, or "auto": as often as costs less than 5 per cent of the training time,
            measured while it runs; then at most 400 snapshots are kept, evenly spaced.
        layers: names of modules to watch, shell wildcards allowed (``"blocks.*.mlp"``); None watches each module
            without modules inside and each with parameters of its own.
        optimizer: if given, how far its step moves the weights is measured too (needs a copy of them meanwhile).
        probe: inputs that ``measure`` is called with, besides the model, every ``probe_every`` steps.
        measure: returns a dictionary for the record. The model is put back as it was, with all random numbers.
        probe_every: in steps.
        out: a JSON file that the record is written to, every minute and at the end. If it is there, it is gone on
            with.
        start: the number of the first step; what ``out`` has from there on is dropped (a training that begins again
            at a checkpoint). None goes on after the last step in ``out``, or begins at 0.

    Attributes:
        record: what was seen.

    Raises:
        UserError: no module, a compiled or parallel one, no such layer, settings that cannot be, or a file in ``out``
            that is no record of this model.

    >>> torch.manual_seed(0) and None
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with Monitor(model, every=10) as monitor:
    ...     for _ in range(20):
    ...         with monitor.step():
    ...             loss = model(torch.ones(3, 4)).square().mean()
    ...             loss.backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    >>> [snapshot["step"] for snapshot in monitor.record.snapshots]
    [0, 10]
    >>> [layer["name"] for layer in monitor.record.layers], sorted(monitor.record.series("gain"))
    (['0', '1', '2'], ['1', '2'])
    """

    def __init__(
        self,
        model: nn.Module,
        every: int | Literal["auto"] = "auto",
        *,
        layers: Sequence[str] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        probe: Any = None,
        measure: Callable[[nn.Module, Any], Mapping[str, Any]] | None = None,
        probe_every: int = 1000,
        out: str | Path | None = None,
        start: int | None = None,
    ) -> None:
        _check_model(model)
        if every != "auto" and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise UserError(f'expected every="auto" or a number of steps above 0, got {every!r}')
        if (probe is None) != (measure is None):
            raise UserError(
                "a probe needs both: probe= (inputs) and measure= (a function of model and inputs)"
            )
        if isinstance(probe_every, bool) or not isinstance(probe_every, int) or probe_every < 1:
            raise UserError(f"expected probe_every to be a number of steps above 0, got {probe_every!r}")
        if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
            raise UserError(f"expected a torch.optim.Optimizer, got {type(optimizer).__name__}")
        self._model, self._every, self._optimizer = model, every, optimizer
        self._layers = _chosen(model, layers)
        self._probe, self._measure, self._probe_every = probe, measure, probe_every
        self._out = None if out is None else Path(out)
        self.record = _resumed(self._out, type(model).__name__, start)
        self._watch: Watch | None = None
        self._update: Update | None = None
        self._updates: Mapping[str, float] = {}
        self._first = self.record.steps
        self._next = self.record.steps  # the step that comes
        self._watched = self._first - 1  # the last watched
        self._gap = 1
        self._cost = 0.0
        self._seconds = self._saved = 0.0
        self._begun: float | None = None
        self._until = 0.0  # what comes after the training is not part of it
        self._step_begun: float | None = None
        self._plain: deque[float] = deque(maxlen=_RECENT)
        self._spent_before = self.record.overhead["seconds"]
        self._trained_before = self.record.overhead["training"]

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def step(self) -> _Step:
        """A step of training: put the forward and the backward pass into ``with monitor.step():``."""
        return _Step(self)

    def before(self) -> None:
        """Begins a step; for loops that cannot use `step` (``on_train_batch_start``)."""
        self._until = now = perf_counter()
        if self._begun is None:
            self._begun = now
        self._step_begun = now
        self._release()
        if self._measure is not None and self._next % self._probe_every == 0:
            self._run_probe()
        if self._due(now):
            self._watch = Watch(self._model, self._layers)
            self._watched = self._next
            if self._optimizer is not None:
                self._update = Update(self._optimizer, self._layers, self._moved)
        self._next += 1

    def after(self) -> None:
        """Ends a step (``on_train_batch_end``); does nothing where none began."""
        self.record.steps = self._next
        self._until = perf_counter()
        if self._watch is None:
            if self._step_begun is not None:
                self._plain.append(self._until - self._step_begun)
                self._step_begun = None
            return
        watch, self._watch = self._watch, None
        watch.finish()
        begun = perf_counter()
        if watch.passes:
            rows = watch.rows()
            self._enter_updates(rows)
            self.record.add(self._watched, watch.seconds, watch.not_finite, rows)
        elif self._watched == self._first:
            self._release()
            raise UserError(
                "no forward pass of the model was seen in the first step: give the monitor the model that is called "
                "in it (the one before torch.compile does not do)"
            )
        else:
            self.record.note(f"step {self._watched}: no forward pass of the model was seen")
        if self._every == "auto" and len(self.record.snapshots) >= _MOST:
            self._gap = self.record.thin()
        self._until = perf_counter()
        self._spend(self._extra(watch.seconds + self._until - begun), watched=True)
        if self._out is not None and perf_counter() - self._saved > _SAVE_SECONDS:
            self.save(self._out)

    def discard(self) -> None:
        """Ends a step that failed: nothing of it is recorded."""
        self._release()

    def close(self) -> None:
        """Takes all hooks away and writes ``out``; the monitor may go on afterwards."""
        self._release()
        if self._out is not None:
            self.save(self._out)

    @property
    def overhead(self) -> dict[str, float]:
        """Seconds spent on watching, seconds of training without them, and their ratio; probes count as watching."""
        return self._measured()

    def save(self, path: str | Path) -> None:
        """Writes the record as JSON, whole or not at all.

        Raises:
            UserError: the file cannot be written.
        """
        begun = self._saved = perf_counter()
        self.record.overhead = self._measured()
        self.record.save(path)
        self._spend(perf_counter() - begun)

    def page(self) -> Page:
        """A page with heat maps of layers against steps; see `layerlab.gradflow.monitoring.page`."""
        from layerlab.gradflow.monitoring.page import page

        self.record.overhead = self._measured()
        return page(self.record)

    def report(self, path: str | Path) -> Path:
        """Writes `page` as one HTML file.

        Raises:
            UserError: nothing was recorded, or the file cannot be written.
        """
        return write(self.page(), path)

    def _due(self, now: float) -> bool:
        if self._every != "auto":
            return self._next % self._every == 0
        if self._next == self._first:
            return True
        if self._next - self._watched < self._gap:
            return False
        begun = now if self._begun is None else self._begun
        trained = now - begun - self._seconds
        return self._seconds + self._cost <= _AIM * trained

    def _extra(self, own: float) -> float:
        """What the watched step took more than others: also the calls into Python that no clock of ours sees.

        Never less than what was clocked, nor more than that could cause: the rest is noise.
        """
        if self._step_begun is None or len(self._plain) < _RECENT // 2:
            return own
        more = self._until - self._step_begun - median(self._plain)
        return min(max(own, more), 2 * own)

    def _spend(self, seconds: float, watched: bool = False) -> None:
        self._seconds += seconds
        if watched:
            self._cost = seconds

    def _measured(self) -> dict[str, float]:
        elapsed = 0.0 if self._begun is None else self._until - self._begun
        training = self._trained_before + max(elapsed - self._seconds, 0.0)
        seconds = self._spent_before + self._seconds
        return {"seconds": seconds, "training": training, "share": seconds / training if training else 0.0}

    def _moved(self, found: Mapping[str, float]) -> None:
        """What the optimiser did: after the step, when its snapshot is there, or within it."""
        self._updates = found
        snapshots = self.record.snapshots
        if self._watch is None and snapshots and snapshots[-1]["step"] == self._watched:
            self._enter_updates(snapshots[-1]["layers"])

    def _enter_updates(self, rows: Mapping[str, dict[str, Any]]) -> None:
        for name, value in self._updates.items():
            if name in rows:
                rows[name]["update_ratio"] = value
        self._updates = {}

    def _run_probe(self) -> None:
        begun = perf_counter()
        assert self._measure is not None
        with unchanged(self._model, 0):
            values = dict(self._measure(self._model, self._probe))
        self.record.probes.append({"step": self._next, "values": values})
        self._spend(perf_counter() - begun)

    def _release(self) -> None:
        if self._watch is not None:
            self._watch.finish()
            self._watch = None
        if self._update is not None:
            self._update.finish()
            self._spend(self._update.seconds)
            self._update = None


class _Step:
    """``with monitor.step():``."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def __enter__(self) -> None:
        self._monitor.before()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._monitor.after()
        else:
            self._monitor.discard()


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"expected a torch.nn.Module, got {type(model).__name__}")
    for module in model.modules():
        if isinstance(module, nn.DataParallel):
            raise UserError("a model in nn.DataParallel cannot be watched; give and call the model inside")
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise UserError(
                "a model under torch.compile cannot be watched: hooks do not run in it; train without compiling it, "
                "or watch a short run without"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError("a TorchScript model cannot be watched; give the module that it was made from")


def _chosen(model: nn.Module, patterns: Sequence[str] | None) -> dict[str, nn.Module]:
    if patterns is None:
        return layers_of(model)
    if isinstance(patterns, str):
        raise UserError(f"expected layers= to be a list of names, got the string {patterns!r}")
    modules = dict(model.named_modules())
    chosen = set()
    for pattern in patterns:
        found = fnmatch.filter(modules, pattern)
        if not found:
            near = difflib.get_close_matches(pattern, modules, n=3) or [name for name in modules if name][:3]
            raise UserError(f"there is no layer {pattern!r}; there are {', '.join(near)} and others")
        chosen.update(found)
    return {name: module for name, module in modules.items() if name in chosen}


def _resumed(out: Path | None, model: str, start: int | None) -> Record:
    if start is not None and (isinstance(start, bool) or not isinstance(start, int) or start < 0):
        raise UserError(f"expected start to be the number of a step, got {start!r}")
    if out is None or not out.exists():
        return Record(model, start or 0)
    record = Record.load(out)
    if record.model != model:
        raise UserError(
            f"the file is a record of a {record.model}, not of a {model}; choose another out=", file=out
        )
    if start is not None:
        record.steps = start
        record.snapshots = [s for s in record.snapshots if s["step"] < start]
        record.probes = [p for p in record.probes if p["step"] < start]
    return record
