"""One training loop for every task: seeded, early-stopped, resumable, by default the same bits on any number of cores.

A task says what a model, a step and an evaluation are; `fit` does the rest. It knows no graphs and no images.

Determinism: `fit` runs torch on one thread unless told otherwise, since a parallel reduction's bits depend on the
number of threads (races use the cores by training several seeds at once), and it seeds torch's generator at the
start of every epoch from (seed, epoch). So a run that resumes at epoch k draws what an uninterrupted one draws, and a
checkpoint needs no generator state.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.lab import optimizing
from layerlab.lab.checkpoint import Progress, load_checkpoint, save_checkpoint
from layerlab.lab.interrupts import interruptible
from layerlab.lab.process_group import Group
from layerlab.lab.schedule import Schedule, exhausted, judge


class Task(Protocol):
    """What `fit` needs to know about a problem. A batch is whatever `batches` yields; full batch yields one."""

    def build(self) -> nn.Module:
        """A new model; called once, with torch's generator seeded."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer over the model's parameters; a checkpoint needs its state to be tensors (not LBFGS)."""

    def batches(self, epoch: int) -> Iterable[Any]:
        """The batches of an epoch, at least one; random order comes from torch's generator, seeded for the epoch."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The scalar training loss of one batch; the model is in training mode."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics by name; the model is in evaluation mode and no gradient is recorded."""


@runtime_checkable
class OwnBackward(Protocol):
    """A task that has a shorter way to its gradients than autograd's."""

    def backward(self, model: nn.Module, batch: Any) -> float:
        """Does what ``loss(model, batch).backward()`` does, and returns the loss."""


Backward: TypeAlias = Callable[[nn.Module, Any], float]
"""Leaves the gradients of the loss of a batch in the parameters, and returns the loss."""

Step: TypeAlias = Callable[[Any, tuple[int, int, int]], float]
"""The same for one model, of a batch and (seed, epoch, position)."""


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

    def record(self) -> dict[str, Any]:
        """Everything but the weights, as JSON; curves by metric, to six decimals."""
        return {
            "metrics": self.metrics,
            "best_epoch": self.best_epoch,
            "epochs": len(self.history),
            "parameters": self.parameters,
            "step_seconds": self.step_seconds,
            "seconds": self.seconds,
            "curves": {name: [round(epoch[name], 6) for epoch in self.history] for name in self.history[0]},
        }


def stream_seed(*parts: int) -> int:
    """A 64-bit seed that mixes non-negative integers: nearby inputs give unrelated streams.

    >>> stream_seed(0, 1) == stream_seed(0, 1), stream_seed(0, 1) == stream_seed(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Run torch on so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """Run torch on one thread inside the block, so that bits do not depend on the number of threads."""
    return thread_count(1)


def fit(
    task: Task,
    schedule: Schedule,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    config: Mapping[str, Any] | None = None,
    every_seconds: float = 10.0,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    threads: int = 1,
    group: Group | None = None,
) -> FitResult:
    """Train a task's model and restore its best epoch.

    Args:
        task: model, optimizer, batches, loss and evaluation.
        schedule: epochs, patience and monitor.
        seed: of the initial weights and of every epoch's draws, from 0 to 2**32 - 1.
        checkpoint: a file to resume from if it exists, written every ``every_seconds`` and when interrupted
            (the first Ctrl-C ends training after the epoch, the second at once). The caller removes it once the
            result is safe.
        config: what the checkpoint belongs to besides seed and schedule (JSON); a checkpoint of other settings is
            refused.
        every_seconds: time between checkpoints; 0 writes one an epoch.
        on_epoch: called after each epoch with its number and metrics.
        threads: of torch. With 1, a result is the same bits however many cores there are and whatever else runs, and
            several runs side by side use the cores best. More can make one large model's run shorter,
            and the price is that its bits belong to that number of threads: it is part of what a checkpoint belongs
            to.
        group: the processes that train this model together (`layerlab.lab.process_group`); each calls `fit` with the
            same arguments. The task gives each its share of a batch, with a loss whose mean over the processes is
            that of the whole batch; gradients and losses are that mean, so all take the same steps. ``evaluate`` is
            called in all of them and has to say the same. Rank 0 reads and writes the checkpoint, which belongs to
            this number of processes. Each draws its own dropout.

    Returns:
        The model with its best weights, the history and the times. Same seed and ``threads``, same bits, on one
        machine, whatever the interruptions. The caller's generator and threads are left as they were.

    Raises:
        UserError: the loss or the kept weights are not finite, the monitor is not a metric, there is no batch, or
            the checkpoint is damaged, belongs to another run or cannot be written.
        LostPeerError: another process of the group is gone.
        KeyboardInterrupt: Ctrl-C; with a checkpoint, the epochs so far are in it.
    """
    # numpy mixes seeds in words of 32 bits: a longer one could draw what another seed and epoch draw.
    if not 0 <= seed < 2**32:
        raise UserError(f"expected a seed from 0 to 4,294,967,295, got {seed}")
    if threads < 1:
        raise UserError(f"expected at least one thread, got {threads}")
    belongs = {"seed": int(seed), "schedule": asdict(schedule), "config": dict(config or {})}
    # Left out where it is 1, as it always was: older checkpoints stay valid.
    counted = {"threads": threads, "processes": 1 if group is None else group.size}
    identity = json.dumps(belongs | {k: n for k, n in counted.items() if n != 1}, sort_keys=True)
    with torch.random.fork_rng(devices=_cuda_devices()), thread_count(threads):
        _seed_torch(stream_seed(seed, 0))
        model = task.build()
        optimizer = task.optimizer(model)
        resumed = None
        if checkpoint is not None:
            with nullcontext(checkpoint) if group is None else group.copied(checkpoint) as kept:
                resumed = load_checkpoint(kept, identity, model, optimizer)
        state, best = resumed or (Progress(), _copy_weights(model))
        best = _train(
            *(task, schedule, seed, model, optimizer, best, state, checkpoint, identity, every_seconds),
            *(on_epoch, group),
        )
        model.load_state_dict(best)
        model.eval()
    # The loss of an epoch is taken before its steps, so it does not show what the last step did.
    if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
        raise UserError(
            f"the weights of epoch {state.best_epoch} are not finite, training diverged; lower the learning rate"
        )
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
    state: Progress,
    checkpoint: Path | None,
    identity: str,
    every_seconds: float,
    on_epoch: Callable[[int, dict[str, float]], None] | None,
    group: Group | None,
) -> dict[str, Tensor]:
    """The loop itself; returns the best weights and leaves everything else in ``state``."""
    saved_at = time.monotonic()
    step = _step_of(task, model, group)
    with interruptible(enabled=checkpoint is not None) as interrupted:
        while state.epoch < schedule.epochs and not exhausted(schedule, state):
            epoch_started = time.perf_counter()
            metrics, step_seconds = _epoch(task, seed, state.epoch + 1, model, optimizer, step)
            improved = judge(schedule, state, metrics)
            state.epoch += 1
            state.history.append(metrics)
            state.step_times.append(step_seconds)
            if improved:
                # Without a monitor the last epoch is kept: that of the model itself.
                best = _copy_weights(model) if schedule.monitor is not None else best
                state.best_epoch = state.epoch
            state.seconds += time.perf_counter() - epoch_started
            if on_epoch is not None:
                on_epoch(state.epoch, metrics)
            # Read once: a Ctrl-C between saving and stopping must not stop without having saved.
            stop, due = interrupted.is_set(), time.monotonic() - saved_at >= every_seconds
            if group is not None:
                stop, due = group.any(stop, due and group.first)
            if checkpoint is not None and (stop or due):
                kept = best if schedule.monitor is not None else _copy_weights(model)
                save = partial(save_checkpoint, checkpoint, identity, model, optimizer, kept, state)
                save() if group is None else group.from_first(save)
                saved_at = time.monotonic()
            if stop:
                interrupted.set()
                break
    return best if schedule.monitor is not None else _copy_weights(model)


def _seed_torch(seed: int) -> None:
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        # The same numbers. For devices that are not there, `manual_seed` writes down where it was called, each time:
        # most of a millisecond.
        torch.default_generator.manual_seed(seed)


def _epoch(
    task: Task,
    seed: int,
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: Step,
) -> tuple[dict[str, float], float]:
    """One pass over the batches and one evaluation: the metrics and the seconds of the steps."""
    _seed_torch(stream_seed(seed, epoch))
    started = time.perf_counter()
    model.train()
    losses = []
    for position, batch in enumerate(task.batches(epoch)):
        optimizing.zero_grad(optimizer)
        losses.append(step(batch, (seed, epoch, position)))
        if not math.isfinite(losses[-1]):
            raise UserError(
                f"the training loss became {losses[-1]} in epoch {epoch}; lower the learning rate"
            )
        optimizing.step(optimizer)
    step_seconds = time.perf_counter() - started
    if not losses:
        raise UserError(f"expected at least one batch in epoch {epoch}, got none; add training data")
    model.eval()
    with torch.no_grad():
        evaluated = {name: float(value) for name, value in task.evaluate(model).items()}
    return {"loss": math.fsum(loss / len(losses) for loss in losses), **evaluated}, step_seconds


def _backward_of(task: Task) -> Backward:
    """The task's own way to the gradients, or autograd's; to be asked for once, a protocol's check takes its time."""
    if isinstance(task, OwnBackward):
        return task.backward

    def backward(model: nn.Module, batch: Any) -> float:
        loss = task.loss(model, batch)
        loss.backward()
        return float(loss.detach())

    return backward


def _step_of(task: Task, model: nn.Module, group: Group | None) -> Step:
    """What leaves a batch's gradients in the model and returns its loss, alone or together with other processes."""
    backward = _backward_of(task)
    if group is None:
        return lambda batch, _: backward(model, batch)
    shared = group.wrap(model)

    def step(batch: Any, drawn: tuple[int, ...]) -> float:
        # What all draw alike (order, squares) must not depend on what a share of a batch takes of the generator.
        with group.step(stream_seed(*drawn, group.rank + 1)):
            loss = backward(shared, batch)
        return group.mean(loss)

    return step


def _copy_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _cuda_devices() -> list[int]:
    return list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
