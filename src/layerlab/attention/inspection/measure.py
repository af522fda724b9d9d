"""A model's attention looked at: its heads measured, mechanisms timed and their errors predicted, layers ranked."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerlab.attention.calls import AttentionCall
from layerlab.attention.crossover import Crossover, Setting, crossover
from layerlab.attention.inspection.heads import SiteHeads, measure_heads
from layerlab.attention.inspection.ranking import Advice, Candidate, advise, ranked
from layerlab.attention.mechanisms import Linformer, LowRank, Mechanism, Nystrom, mechanism
from layerlab.attention.prediction import Prediction, Swap, predict
from layerlab.attention.unseen import Unseen
from layerlab.attention.watching import attention_calls
from layerlab.errors import UserError
from layerlab.lab.models.nested import Path, leaves
from layerlab.lab.models.subject import Mode, Request, Subject

MECHANISMS = ("linear", "linear-relu", "linear-random", "hedgehog", "nystrom", "linformer")

Progress = Callable[[float, str], None]

# Shares of the work, for the progress bar: heads, timing, prediction.
_STAGES = (0.45, 0.65, 1.0)


@dataclass(frozen=True)
class Settings:
    """What is asked of a model; every field is JSON.

    Attributes:
        shapes: inputs by shape, see `layerlab.lab.models.input_shapes.InputShape.parse`.
        file: inputs from an ``.npz``.
        output: which of several outputs is predicted, by name or position, with dots (``1.0``).
        mechanisms: names of what is tried in the place of softmax.
        max_error: relative error of the output that is allowed.
        examples: the most examples of the batch that heads are measured on.
        budget: seconds for the singular values, and half as many for timing.
        backward: whether gradients are timed too.
        mode: "train" or "eval"; as the factory returns it by default.
        dtype: "float32" or "float64"; the model's own by default.
        seed: of the factory, the inputs and the measurement.

    Raises:
        UserError: an error, budget or number of examples out of range.
    """

    shapes: tuple[str, ...] = ()
    file: str | None = None
    output: str | None = None
    mechanisms: tuple[str, ...] = MECHANISMS
    max_error: float = 0.02
    examples: int = 8
    budget: float = 60.0
    backward: bool = False
    mode: Mode | None = None
    dtype: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.max_error < math.inf:
            raise UserError(f"expected a largest error of at least 0, got {self.max_error:g}; take e.g. 0.02")
        if not 0 < self.budget < math.inf:
            raise UserError(f"expected a budget above 0 s, got {self.budget:g}; take e.g. 60")
        if self.examples < 1:
            raise UserError(f"expected at least 1 example to measure heads on, got {self.examples}")

    def request(self) -> Request:
        """What `layerlab.lab.models.subject.load_subject` is asked for."""
        return Request(self.shapes, self.file, self.mode, self.dtype, self.seed)


@dataclass(frozen=True, eq=False)
class AttentionInspection:
    """What was found of a model's attention.

    Attributes:
        subject: the model.
        settings: what was asked.
        heads: measures of the heads, by site.
        candidates: what was tried, by site.
        advice: what to do, by site.
        order: positions of the sites, best replaced first.
        chosen: sites to replace together, as many as stay within the error.
        together: predicted error of these swaps together; None where there are none.
        all_together: the same of all sites that can be replaced alone.
        crossovers: times, by setting and mechanism.
        load: processes that wanted to run when the times were taken, over the cores; None where not known.
        unseen: attention that could not be watched.
        notes: remarks.
        seconds: it took so long.
    """

    subject: Subject
    settings: Settings
    heads: tuple[SiteHeads, ...]
    candidates: tuple[tuple[Candidate, ...], ...]
    advice: tuple[Advice, ...]
    order: tuple[int, ...]
    chosen: tuple[str, ...]
    together: float | None
    all_together: float | None
    crossovers: tuple[Crossover, ...]
    load: float | None
    unseen: tuple[Unseen, ...]
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        model = self.subject.model
        return {
            "subject": self.subject.name,
            "model": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "inputs": [
                {
                    "name": ".".join(map(str, path)),
                    "shape": list(t.shape),
                    "dtype": str(t.dtype).split(".")[-1],
                }
                for path, t in leaves(
                    (self.subject.inputs,) if isinstance(self.subject.inputs, Tensor) else self.subject.inputs
                )
            ],
            "mode": self.subject.mode,
            "dtype": str(self.subject.dtype).removeprefix("torch."),
            "seed": self.settings.seed,
            "max_error": self.settings.max_error,
            "backward": self.settings.backward,
            "threads": torch.get_num_threads(),
            "load": self.load,
            "sites": [
                {
                    **_described(site.call),
                    "examples": site.examples,
                    "ranks": list(site.ranks),
                    "indices": list(site.indices),
                    "heads": [site.to_dict(head) for head in range(site.call.heads)],
                    "candidates": [asdict(candidate) for candidate in candidates],
                    "advice": advice.to_dict(),
                }
                for site, candidates, advice in zip(self.heads, self.candidates, self.advice, strict=True)
            ],
            "ranking": [self.advice[position].site for position in self.order],
            "chosen": list(self.chosen),
            "together": self.together,
            "all_together": self.all_together,
            "crossovers": [{**found.to_dict(), "sentence": found.sentence()} for found in self.crossovers],
            "unseen": [asdict(unseen) for unseen in self.unseen],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def inspect(subject: Subject, settings: Settings, progress: Progress | None = None) -> AttentionInspection:
    """Measures every attention of a model and says which can be replaced, by what.

    Raises:
        UserError: the model raises; it has no attention, none that can be watched, or over one key only; NaN or Inf in
            it; an output or mechanism that does not exist.
    """
    began = time.monotonic()
    tell = progress or (lambda share, words: None)
    for name in settings.mechanisms:
        mechanism(name, heads=1, head_size=1, length=1)
    check_numbers(subject.model)
    try:
        watched = attention_calls(subject.model, subject.inputs, settings.seed)
    except UserError as error:
        if subject.guessed and error.__cause__ is not None:
            raise UserError(f"{error}; these inputs were a guess: give others with --input-shape") from error
        raise
    calls = _worth_it(subject, watched.calls, watched.unseen)
    path = _output(watched.output, settings.output)
    notes = list(subject.notes)

    heads, remarks = measure_heads(
        calls,
        examples=settings.examples,
        seconds=settings.budget,
        progress=lambda share, words: tell(share * _STAGES[0], words),
    )
    notes += remarks
    reasons = {call.site: _reasons(call, settings.mechanisms) for call in calls}
    times = _times(calls, reasons, settings, lambda s, w: tell(_STAGES[0] + s * (_STAGES[1] - _STAGES[0]), w))
    prediction, why = _predicted(
        subject, calls, reasons, path, settings, lambda s, w: tell(_STAGES[1] + s * (1 - _STAGES[1]), w)
    )
    notes += why
    candidates = [_candidates(call, reasons[call.site], times, prediction) for call in calls]
    advice = [
        advise(call.site, call.length, tried, settings.max_error)
        for call, tried in zip(calls, candidates, strict=True)
    ]
    order = ranked(advice, candidates)
    alone = [
        (advice[i].site, meant)
        for i in order
        if advice[i].standing == "replace" and (meant := advice[i].mechanism)
    ]
    chosen = _within(prediction, alone, settings.max_error)
    return AttentionInspection(
        subject,
        settings,
        tuple(heads),
        tuple(map(tuple, candidates)),
        tuple(advice),
        tuple(order),
        tuple(site for site, _ in chosen),
        prediction.error(chosen) if prediction is not None and chosen else None,
        prediction.error(alone) if prediction is not None and alone else None,
        tuple(times.values()),
        load_a_core(),
        watched.unseen,
        (*notes, *_remarks(calls)),
        time.monotonic() - began,
    )


def check_numbers(model: nn.Module) -> None:
    """Looks at the weights before anything is computed with them.

    Raises:
        UserError: a parameter without a shape, or with NaN or Inf.
    """
    for name, tensor in model.named_parameters():
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise UserError(
                f"the parameter {name} has no shape yet; call the model once before (lazy module)"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"the parameter {name} has entries that are NaN or Inf; initialise or load it anew"
            )


def _worth_it(
    subject: Subject, calls: Sequence[AttentionCall], unseen: Sequence[Unseen]
) -> tuple[AttentionCall, ...]:
    """The calls, if there is anything to find out about them."""
    if not calls:
        name = type(subject.model).__name__
        if unseen:
            first = unseen[0]
            others = f", and {len(unseen) - 1} more" if len(unseen) > 1 else ""
            raise UserError(
                f"the attention of {name} cannot be watched: {first.module or 'the model'} ({first.kind}) at "
                f"{first.place or 'a place unknown'}: {first.why}{others}"
            )
        raise UserError(
            f"{name} computes no attention on these inputs: expected torch.nn.MultiheadAttention, a layer of "
            "torch.nn.Transformer, or calls of scaled_dot_product_attention"
        )
    if all(call.length < 2 for call in calls):
        raise UserError(
            "the attention of this model sees one key only, whose weight is always 1; give longer inputs with "
            "--input-shape"
        )
    return tuple(calls)


def _output(result: Any, choice: str | None) -> Path | None:
    if choice is None:
        return None
    real = {".".join(map(str, path)): path for path, t in leaves(result) if t.is_floating_point()}
    if choice not in real:
        raise UserError(
            f"the output {choice!r} is not among those of real numbers; there are {', '.join(real) or 'none'}"
        )
    return real[choice]


def _made(call: AttentionCall, name: str) -> Mechanism:
    return mechanism(
        name,
        heads=call.heads,
        kv_heads=call.k.shape[1],
        head_size=call.q.shape[3],
        length=call.length,
    ).to(call.q.dtype)


def _reasons(call: AttentionCall, names: Sequence[str]) -> dict[str, str | None]:
    """Why a mechanism cannot stand at a site."""
    n, m = call.q.shape[2], call.length
    found = {}
    for name in names:
        made = _made(call, name)
        reason = made.supports(causal=call.causal, mask=call.mask, n=n, m=m)
        rank = made.rank if isinstance(made, (Linformer, LowRank)) else None
        rank = made.landmarks if isinstance(made, Nystrom) else rank
        if reason is None and rank is not None and rank >= m:
            # As large as the sequence it is exact and saves nothing.
            reason = f"{name} attention of rank {rank} saves nothing at {m} tokens; give longer inputs"
        found[name] = reason
    return found


def _times(
    calls: Sequence[AttentionCall],
    reasons: dict[str, dict[str, str | None]],
    settings: Settings,
    tell: Progress,
) -> dict[tuple[Setting, str], Crossover]:
    """Every mechanism that is possible somewhere, at every size that the model has."""
    lengths: dict[tuple[Setting, str], set[int]] = {}
    for call in calls:
        for name, reason in reasons[call.site].items():
            if reason is None:
                lengths.setdefault((Setting.of(call), name), set()).add(call.length)
    seconds = settings.budget / 2 / max(1, len(lengths))
    found = {}
    for done, ((setting, name), own) in enumerate(lengths.items()):
        tell(done / len(lengths), f"timing {name}")
        found[setting, name] = crossover(
            name, setting, backward=settings.backward, own=tuple(own), seconds=seconds
        )
    return found


def _predicted(
    subject: Subject,
    calls: Sequence[AttentionCall],
    reasons: dict[str, dict[str, str | None]],
    output: Path | None,
    settings: Settings,
    tell: Progress,
) -> tuple[Prediction | None, list[str]]:
    """The errors of all swaps that are possible; why not, where they cannot be had."""
    candidates = {
        call.site: {name: _made(call, name) for name, reason in reasons[call.site].items() if reason is None}
        for call in calls
    }
    candidates = {site: tried for site, tried in candidates.items() if tried}
    if not candidates:
        return None, []
    try:
        found = predict(
            subject.model, subject.inputs, candidates, output=output, seed=settings.seed, progress=tell
        )
    except UserError as error:
        return None, [f"no error of the output is predicted: {error}"]
    return found, []


def _candidates(
    call: AttentionCall,
    reasons: dict[str, str | None],
    times: dict[tuple[Setting, str], Crossover],
    prediction: Prediction | None,
) -> list[Candidate]:
    found = []
    for name, reason in reasons.items():
        if reason is not None:
            found.append(Candidate(name, reason))
            continue
        swap = None if prediction is None else prediction.swaps.get((call.site, name))
        timed = times[Setting.of(call), name]
        found.append(
            Candidate(
                name,
                None,
                None if swap is None else swap.local,
                None if swap is None else swap.error,
                timed.speed(call.length),
                timed.length,
                timed.lengths[-1] if timed.lengths else None,
            )
        )
    return found


def _within(prediction: Prediction | None, swaps: Sequence[Swap], most: float) -> list[Swap]:
    """As many swaps, the best first, as together stay within the error."""
    chosen: list[Swap] = []
    for swap in swaps:
        if prediction is not None and prediction.error([*chosen, swap]) <= most:
            chosen.append(swap)
    return chosen


def _described(call: AttentionCall) -> dict[str, Any]:
    batch, heads, queries, head_size = call.q.shape
    mask = "none"
    if call.mask is not None:
        rows = "keys" if call.mask.shape[2] == 1 else "queries and keys"
        mask = f"{'float' if call.mask.is_floating_point() else 'bool'} over {rows}"
    return {
        "site": call.site,
        "module": call.module,
        "kind": call.kind,
        "place": call.place,
        "batch": batch,
        "head_count": heads,
        "kv_heads": call.k.shape[1],
        "queries": queries,
        "keys": call.length,
        "head_size": head_size,
        "value_size": call.v.shape[3],
        "dtype": str(call.q.dtype).removeprefix("torch."),
        "causal": call.causal,
        "mask": mask,
        "dropout": call.dropout,
    }


def load_a_core() -> float | None:
    """Processes that wanted a core in the last minute, over the cores; None where the system does not tell."""
    cores = os.cpu_count()
    return os.getloadavg()[0] / cores if hasattr(os, "getloadavg") and cores else None


def _remarks(calls: Sequence[AttentionCall]) -> Iterator[str]:
    if any(call.causal for call in calls):
        yield (
            "causal weights have a positive diagonal and so exact rank n; the ranks here are numerical, at 99 per cent "
            "of the squared singular values"
        )
    if any(call.dropout for call in calls):
        yield "dropout of the weights is left out of all measures"
    if any(call.mask is not None for call in calls):
        yield "mechanisms are timed without masks"
    if any(call.q.shape[2] != call.length for call in calls):
        yield "mechanisms are timed with as many queries as keys"
