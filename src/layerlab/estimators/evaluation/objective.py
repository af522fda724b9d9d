"""A user's function as something to optimise: counted, logged, never paid twice for the same sample."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from layerlab.errors import UserError
from layerlab.estimators.evaluation.log import Entry, EvaluationLog, rows_as_text
from layerlab.estimators.evaluation.memory import Memory, same
from layerlab.estimators.evaluation.pool import Part, Workers
from layerlab.estimators.evaluation.worker import Function

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["bits", "categories", "gaussian"]
Failures = Literal["stop", "worst"]

_SHOWN = 100  # characters of a sample in a message


class Objective:
    """Calls f, counts what is paid for, writes it down and remembers it.

    A sample that was evaluated before is not evaluated again, unless f turns out not to be deterministic: the first
    sample of all, and of the samples that come again the 1st, 2nd, 4th, 8th, ... are evaluated a second time and
    compared. Where they differ nothing is answered from memory any more, and the mean of a sample's values counts.

    Args:
        f: ``FILE.py:FUNC`` or a function; takes ``(n, ...)`` samples and returns n finite numbers.
        kind: "bits" (samples of 0 and 1), "categories" (int64) or "gaussian" (real numbers): how a sample is written.
        single: f takes one sample and returns one number.
        workers: processes that call f; each loads ``FILE.py`` by itself and has one thread. 0 calls it here.
        timeout: seconds for one evaluation; a process that takes longer is ended and replaced. A batch has as many
            times this as it has samples; one that takes longer is evaluated again, sample by sample.
        failures: "stop" raises when an evaluation fails; "worst" counts it as the worst value so far.
        maximise: which values are bad and good.
        budget: evaluations that may be paid for; None for any number.
        log: an open `EvaluationLog`. What it holds is taken from it, and counts as if f had been called.

    Raises:
        UserError: there is no such function; it cannot be sent to a process; a number is out of range.

    >>> import torch
    >>> with Objective(lambda x: x.sum(1), "bits") as objective:
    ...     values = objective(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    ...     values.tolist(), objective.evaluations, objective.best()
    ([1.0, 2.0], 3, ('"11"', 2.0))
    """

    def __init__(
        self,
        f: str | Function,
        kind: Kind,
        *,
        single: bool = False,
        workers: int = 0,
        timeout: float | None = None,
        failures: Failures = "stop",
        maximise: bool = True,
        budget: int | None = None,
        log: EvaluationLog | None = None,
    ) -> None:
        if workers < 0:
            raise UserError(f"expected a number of workers of at least 0, got {workers}")
        if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
            raise UserError(f"expected a time limit above 0 s, got {timeout:g}; leave it out for no limit")
        if failures not in ("stop", "worst"):
            raise UserError(f"expected failures to be 'stop' or 'worst', got {failures!r}")
        if budget is not None and budget < 1:
            raise UserError(f"expected a budget of at least 1 evaluation, got {budget}; give more")
        self.kind = kind
        self.failures = failures
        self.budget = budget
        self.evaluations = 0
        """Evaluations so far: calls of f, and what the log had of them."""
        self.called = 0
        """Of these, the ones for which f was called by this object."""
        self.repeats = 0
        """Samples that were answered from memory."""
        self.failed = 0
        """Evaluations that failed and were counted as the worst value."""
        self.remarks: list[str] = []
        """What a person should be told; grows."""
        self.memory = Memory(maximise)
        self._log = log
        self._workers = Workers(f, single, workers, timeout)
        if log is not None:
            self._look_into(log)

    def __enter__(self) -> Objective:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes, also those that hang; the log stays open."""
        self._workers.close()

    @property
    def remaining(self) -> float:
        """Evaluations that may still be paid for."""
        return math.inf if self.budget is None else self.budget - self.evaluations

    @property
    def deterministic(self) -> bool:
        """False from when a sample has had two different values."""
        return self.memory.deterministic

    def best(self) -> tuple[str, float] | None:
        """The best sample so far, as JSON text, with its value; of a noisy function, by the mean of its values."""
        return self.memory.best()

    def keys(self, samples: Tensor) -> list[str]:
        """Each sample as JSON text: how it is logged, and by what it is remembered."""
        if self.kind == "bits":
            width = samples.shape[-1]
            text = (samples.numpy() + 48).astype("uint8").tobytes().decode("ascii")
            return [f'"{text[start : start + width]}"' for start in range(0, len(text), width)]
        return rows_as_text(samples.numpy())

    def __call__(self, samples: Tensor) -> Tensor:
        """The values of f.

        Args:
            samples: ``(n, ...)``.

        Returns:
            ``(n,)`` float64.

        Raises:
            UserError: an evaluation failed (the sample is named), or they are more than the budget has left.
        """
        import torch

        samples = samples.detach()
        keys = self.keys(samples)
        rows = self.memory.asked(keys, self.remaining)
        if len(rows) > self.remaining:
            raise UserError(
                f"expected at most {self.remaining:g} evaluations, got {len(rows)}; ask for fewer"
            )
        own: dict[int, float | None] = {}
        for row, entry in zip(rows, self._entries(samples, keys, rows), strict=True):
            shown = self.memory.note(entry)
            if shown:
                self.remarks.append(
                    f"f is not deterministic: it gave {shown} for {_short(entry.key)}; from then on every evaluation "
                    "is paid for, and the mean of a sample's values counts"
                )
            if entry.failed:
                self._tell_failure(entry)
            own.setdefault(row, entry.value)
        self.repeats += len(keys) - len(own)
        answers = [own.get(row) for row in range(len(keys))]
        if self.memory.worst is None:
            raise UserError(
                "every evaluation so far failed, so that there is no worst value to count them as"
            )
        # A noisy f's own value, not the sample's mean: the estimators count on independent values.
        return torch.tensor(
            [
                self.memory.answer(key) if value is None else value
                for key, value in zip(keys, answers, strict=True)
            ],
            dtype=torch.float64,
        )

    def _entries(self, samples: Tensor, keys: Sequence[str], rows: Sequence[int]) -> list[Entry]:
        """The evaluations of the rows in their order: from the log, or from f."""
        first = self.evaluations + 1
        found: dict[int, Entry] = {}
        if self._log is not None:
            taken = ((place, self._log.take(keys[row])) for place, row in enumerate(rows))
            found = {place: entry for place, entry in taken if entry is not None}
        missing = [place for place in range(len(rows)) if place not in found]
        failures: dict[int, UserError] = {}
        try:
            for part in self._parts(samples[[rows[place] for place in missing]]):
                places = [missing[index] for index in part.rows]
                if part.failure is not None and self.failures == "stop":
                    failures[places[0]] = part.failure
                    continue
                told = "" if part.failure is None else str(part.failure)
                each = part.seconds / len(places)
                values = part.values if part.failure is None else [None] * len(places)
                entries = [
                    Entry(first + place, keys[rows[place]], value, each, told)
                    for place, value in zip(places, values, strict=True)
                ]
                found.update(zip(places, entries, strict=True))
                self.called += len(entries)
                if self._log is not None:
                    self._log.append(entries)
        finally:
            self.evaluations += len(found)
        if failures:
            place = min(failures)
            raise UserError(
                f"{failures[place]}; evaluation {first + place}, sample {_short(keys[rows[place]])}"
            )
        return [found[place] for place in range(len(rows))]

    def _parts(self, samples: Tensor) -> Iterator[Part]:
        """Call f; a batch that failed is called again sample by sample, so that the failures are single ones."""
        stop = self.failures == "stop"
        suspects: list[int] = []
        failed = False
        if not len(samples):
            return
        # What f prints must not end up in the result.
        with contextlib.redirect_stdout(sys.stderr):
            for part in self._workers.run(samples, self._workers.parts(range(len(samples))), stop):
                if part.failure is not None and len(part.rows) > 1:
                    suspects += part.rows
                else:
                    yield part
            for part in self._workers.run(samples, [[index] for index in sorted(suspects)], stop):
                failed = failed or part.failure is not None
                yield part
        if suspects and not failed:
            self._tell(
                "f failed on a batch of samples but on none of them alone: if it takes one sample, say --single"
            )

    def _tell_failure(self, entry: Entry) -> None:
        self.failed += 1
        self._tell(
            f"an evaluation failed and counts as the worst value so far: {entry.failed}, sample {_short(entry.key)}"
        )

    def _tell(self, text: str) -> None:
        """A remark, unless one of its kind was made."""
        kind = text.partition(":")[0]
        if not any(remark.startswith(kind) for remark in self.remarks):
            self.remarks.append(text)

    def _look_into(self, log: EvaluationLog) -> None:
        """Say what the log brings, and do not trust it where it does not fit f any more."""
        if log.torn:
            self.remarks.append(
                "the last line of the log was torn by a kill and taken off; its evaluation is made again"
            )
        if self.failures == "stop":
            log.forget_failures()
        entry = log.some()
        if not log.changed or entry is None:
            return
        self.remarks.append(
            f"the file of f has changed since {log.lines} evaluations were logged; they are kept"
        )
        if log.noisy:
            return
        part = next(iter(self._workers.run(self.sample(entry.key)[None], [[0]], stop=True)))
        if part.failure is not None:
            raise part.failure
        if not same(part.values[0], float(entry.value or 0.0)):
            raise UserError(
                f"f has changed since the log was written: it gives {part.values[0]!r}, not {entry.value!r}, for "
                f"{_short(entry.key)}; choose another --out",
                file=log.path,
            )

    def sample(self, key: str) -> Tensor:
        """The sample that `keys` wrote as ``key``."""
        import torch

        written = json.loads(key)
        if self.kind == "bits":
            return torch.tensor([float(bit) for bit in written], dtype=torch.float64)
        return torch.tensor(written, dtype=torch.int64 if self.kind == "categories" else torch.float64)


def _short(key: str) -> str:
    return key if len(key) <= _SHOWN else f"{key[:_SHOWN]}... ({len(key)} characters)"
