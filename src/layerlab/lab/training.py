"""One training loop for every task: seeded, early-stopped, resumable, and the same bits at any thread count.

A task says what a model, a step and an evaluation are; `fit` does the rest. It knows no graphs and no images.

Determinism: `fit` runs torch on one thread, since a parallel reduction's bits depend on the number of threads (races
use the cores by training several seeds at once), and it seeds torch's generator at the start of every epoch from
(seed, epoch). So a run that resumes at epoch k draws what an uninterrupted one draws, and a checkpoint needs no
generator state.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.lab.weights import write_tensors

CHECKPOINT_VERSION = 1


class Task(Protocol):
    """What `fit` needs to know about a problem. ``Batch`` is whatever `batches` yields; full batch yields one."""

    def build(self) -> nn.Module:
        """A new model; called once, with torch's generator seeded."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer over the model's parameters."""

    def batches(self, epoch: int) -> Iterable[Any]:
        """The batches of an epoch; random order comes from torch's generator, which is seeded for the epoch."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The scalar training loss of one batch; the model is in training mode."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics by name; the model is in evaluation mode and no gradient is recorded."""


@dataclass(frozen=True)
class Schedule:
    """How long to train and which epoch to keep.

    Args:
        epochs: at most this many.
        monitor: metric that decides which epoch is best: names that end in ``loss`` are minimised, others maximised.
            Ties go to the earlier epoch. None keeps the last epoch.
        patience: stop when none of the ``watch`` metrics has reached a new best for this many epochs; None never stops.
        watch: metrics that reset the patience; the monitor alone when empty.
    """

    epochs: int
    monitor: str | None = None
    patience: int | None = None
    watch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UserError(f"expected epochs >= 1, got {self.epochs}")
        if self.patience is not None and self.patience < 1:
            raise UserError(f"expected patience >= 1, got {self.patience}")
        if self.patience is not None and self.monitor is None:
            raise UserError("patience needs a monitor: name the metric that has to improve")


@dataclass
class FitResult:
    """What training left behind.

    Attributes:
        model: with the weights of ``best_epoch``, in evaluation mode.
        best_epoch: the epoch that was kept, counted from 1.
        metrics: the metrics of that epoch.
        history: one dict of metrics an epoch, ``loss`` being the training loss.
        step_seconds: median time of an epoch's optimisation steps, evaluation excluded.
        seconds: total time, evaluation included, over all sittings of a resumed run.
        parameters: number of trained numbers.
    """

    model: nn.Module
    best_epoch: int
    metrics: dict[str, float]
    history: list[dict[str, float]]
    step_seconds: float
    seconds: float
    parameters: int


@dataclass
class _State:
    """Everything that a resumed run must know, apart from tensors. Plain JSON."""

    epoch: int = 0
    best_epoch: int = 0
    waited: int = 0
    records: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    step_times: list[float] = field(default_factory=list)
    seconds: float = 0.0


def stream_seed(*parts: int) -> int:
    """A 64-bit seed that mixes non-negative integers: nearby inputs give unrelated streams.

    >>> stream_seed(0, 1) == stream_seed(0, 1), stream_seed(0, 1) == stream_seed(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread inside the block, so that bits do not depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit(
    task: Task,
    schedule: Schedule,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    config: Mapping[str, Any] | None = None,
    every_seconds: float = 10.0,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> FitResult:
    """Train a task's model and restore its best epoch.

    Args:
        task: model, optimizer, batches, loss and evaluation.
        schedule: epochs, patience and monitor.
        seed: of the initial weights and of every epoch's draws; non-negative.
        checkpoint: a file to resume from if it exists, written every ``every_seconds`` and when interrupted. The
            caller removes it once the result is safe.
        config: what the checkpoint belongs to (JSON); a checkpoint with another one is refused.
        every_seconds: time between checkpoints; 0 writes one an epoch.
        on_epoch: called after each epoch with its number and metrics.

    Returns:
        The model with its best weights, the history and the times. Same seed, same bits, on one machine, whatever
        the number of threads and interruptions.

    Raises:
        UserError: the loss is not finite, the monitor is not a metric, or the checkpoint belongs to another run.
    """
    if seed < 0:
        raise UserError(f"expected a seed >= 0, got {seed}")
    identity = json.dumps({"seed": seed, **(config or {})}, sort_keys=True)
    with torch.random.fork_rng(devices=_cuda_devices()), one_thread():
        torch.manual_seed(stream_seed(seed, 0))
        model = task.build()
        optimizer = task.optimizer(model)
        best = _copy_weights(model)
        state = _State()
        if checkpoint is not None and checkpoint.exists():
            best = _load_checkpoint(checkpoint, identity, model, optimizer, state)
        best = _train(
            task, schedule, seed, model, optimizer, best, state, checkpoint, identity, every_seconds, on_epoch
        )
        model.load_state_dict(best)
        model.eval()
    return FitResult(
        model=model,
        best_epoch=state.best_epoch,
        metrics=state.history[state.best_epoch - 1],
        history=state.history,
        step_seconds=float(np.median(state.step_times)),
        seconds=state.seconds,
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
    )


def _train(
    task: Task,
    schedule: Schedule,
    seed: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    state: _State,
    checkpoint: Path | None,
    identity: str,
    every_seconds: float,
    on_epoch: Callable[[int, dict[str, float]], None] | None,
) -> dict[str, Tensor]:
    """The loop itself; returns the best weights and leaves everything else in ``state``."""
    saved_at = time.monotonic()
    with _interrupt_after_epoch(enabled=checkpoint is not None) as interrupted:
        while state.epoch < schedule.epochs and not _exhausted(schedule, state):
            epoch_started = time.perf_counter()
            metrics, step_seconds = _epoch(task, seed, state.epoch + 1, model, optimizer)
            improved = _judge(schedule, state, metrics)
            state.epoch += 1
            state.history.append(metrics)
            state.step_times.append(step_seconds)
            if improved:
                best = _copy_weights(model)
                state.best_epoch = state.epoch
            state.seconds += time.perf_counter() - epoch_started
            due = interrupted.is_set() or time.monotonic() - saved_at >= every_seconds
            if checkpoint is not None and due:
                _save_checkpoint(checkpoint, identity, model, optimizer, best, state)
                saved_at = time.monotonic()
            if interrupted.is_set():
                raise KeyboardInterrupt
            if on_epoch is not None:
                on_epoch(state.epoch, metrics)
    return best


@contextmanager
def _interrupt_after_epoch(*, enabled: bool) -> Iterator[threading.Event]:
    """Let the first Ctrl-C wait for the epoch's end, so that a whole state can be saved; the second one stops at once.

    Python delivers signals to the main thread only; elsewhere, and where nothing would be saved, Ctrl-C keeps its
    usual meaning.
    """
    interrupted = threading.Event()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    previous = signal.getsignal(signal.SIGINT)

    def remember(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, remember)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def _epoch(
    task: Task, seed: int, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, float], float]:
    """One pass over the batches and one evaluation: the metrics and the seconds of the steps."""
    torch.manual_seed(stream_seed(seed, epoch))
    started = time.perf_counter()
    model.train()
    losses = []
    for batch in task.batches(epoch):
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    step_seconds = time.perf_counter() - started
    training_loss = math.fsum(losses) / max(1, len(losses))
    if not math.isfinite(training_loss):
        raise UserError(f"the training loss became {training_loss} in epoch {epoch}; lower the learning rate")
    model.eval()
    with torch.no_grad():
        return {"loss": training_loss, **task.evaluate(model)}, step_seconds


def _better(name: str, value: float, record: float | None) -> bool:
    if record is None:
        return not math.isnan(value)
    return value < record if name.endswith("loss") else value > record


def _judge(schedule: Schedule, state: _State, metrics: dict[str, float]) -> bool:
    """Update the records and the patience; whether this epoch is the one to keep so far."""
    if schedule.monitor is None:
        return True
    watched = schedule.watch or (schedule.monitor,)
    improved: set[str] = set()
    for name in {schedule.monitor, *watched}:
        if name not in metrics:
            raise UserError(f"the monitored metric {name!r} is not among {sorted(metrics)}")
        if _better(name, metrics[name], state.records.get(name)):
            state.records[name] = metrics[name]
            improved.add(name)
    state.waited = 0 if improved & set(watched) else state.waited + 1
    return schedule.monitor in improved or state.best_epoch == 0


def _exhausted(schedule: Schedule, state: _State) -> bool:
    return schedule.patience is not None and state.waited >= schedule.patience


def _copy_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _cuda_devices() -> list[int]:
    return list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []


def _save_checkpoint(
    path: Path,
    identity: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    state: _State,
) -> None:
    """One atomic file: tensors, and the rest as JSON in its header, so that the two can never disagree."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
    header = {"version": str(CHECKPOINT_VERSION), "identity": identity, "state": json.dumps(vars(state))}
    write_tensors(path, tensors, header)


def _load_checkpoint(
    path: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer, state: _State
) -> dict[str, Tensor]:
    """Fill model, optimizer and state from a checkpoint; returns the best weights so far."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"cannot read the checkpoint ({error}); delete it to start again", file=path
        ) from None
    if header.get("version") != str(CHECKPOINT_VERSION):
        raise UserError(
            f"expected checkpoint version {CHECKPOINT_VERSION}, got {header.get('version')!r}; delete it",
            file=path,
        )
    if header.get("identity") != identity:
        raise UserError("this checkpoint belongs to a run with other settings; use another folder", file=path)
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = value
    model.load_state_dict(groups["model"])
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in groups["optimizer"].items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    for key, value in json.loads(header["state"]).items():
        setattr(state, key, value)
    return groups["best"]
