"""Makes a model's attention linear: choose, fit, swap, measure; refuse where it does not pay or costs too much."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from layerlab.attention.calls import AttentionCall
from layerlab.attention.inspection import text
from layerlab.attention.inspection.measure import load_a_core
from layerlab.attention.linearize import plain
from layerlab.attention.linearize.candidates import MAPS, Clock, Speed, checked, made, obstacle, sizes
from layerlab.attention.linearize.choice import Step, choose
from layerlab.attention.linearize.fitting import Fit, fit_hedgehog
from layerlab.attention.linearize.measuring import Part, parts, times
from layerlab.attention.mechanisms import Linear
from layerlab.attention.prediction import Prediction, predict
from layerlab.attention.unseen import Unseen
from layerlab.errors import UserError
from layerlab.lab.models.nested import Path, leaves
from layerlab.lab.models.subject import Request, Subject
from layerlab.lab.subjects import user_code

Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Settings:
    """What is asked; every field is JSON.

    Attributes:
        shapes: inputs by shape, see `layerlab.lab.models.input_shapes.InputShape.parse`.
        file: inputs from an ``.npz``.
        output: which of several outputs counts, by name or position, with dots (``1.0``).
        max_error: relative error of the output that is allowed.
        mechanisms: of `layerlab.attention.linearize.candidates.MAPS`.
        dtype: "float32" or "float64"; the model's own by default.
        seed: of the factory, the inputs, random features and fitting.
    """

    shapes: tuple[str, ...] = ()
    file: str | None = None
    output: str | None = None
    max_error: float = 0.02
    mechanisms: tuple[str, ...] = tuple(MAPS)
    dtype: str | None = None
    seed: int = 0

    def request(self) -> Request:
        """What `layerlab.lab.models.subject.load_subject` is asked for; always in eval mode."""
        return Request(self.shapes, self.file, "eval", self.dtype, self.seed)

    def path(self) -> Path | None:
        """The output's path."""
        if self.output is None:
            return None
        return tuple(int(part) if part.isdecimal() else part for part in self.output.split("."))


@dataclass(eq=False)
class Site:
    """One attention of the model.

    Attributes:
        call: in the inputs to choose by.
        why_not: why it is not exchanged; None if it is.
        speeds: of the mechanisms.
        fit: of the feature map.
        predicted: relative error of the output by mechanism, this site exchanged alone.
        local: relative error of its own output by mechanism.
        mechanism: the one that is chosen, or the best one.
        measured: error with it at this site alone.
        held_out: the same on inputs that were held out.
        zeroed: error with an output of 0 at this site alone.
        chosen: whether it is exchanged.
    """

    call: AttentionCall
    why_not: str | None = None
    speeds: dict[str, Speed] = field(default_factory=dict)
    fit: Fit | None = None
    predicted: dict[str, float] = field(default_factory=dict)
    local: dict[str, float] = field(default_factory=dict)
    mechanism: str | None = None
    measured: float | None = None
    held_out: float | None = None
    zeroed: float | None = None
    chosen: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        call = self.call
        return {
            "site": call.site,
            "kind": call.kind,
            "heads": call.heads,
            "head_size": call.q.shape[-1],
            "queries": call.q.shape[2],
            "keys": call.length,
            "causal": call.causal,
            "chosen": self.chosen,
            "mechanism": self.mechanism,
            "why_not": self.why_not,
            "predicted": self.predicted,
            "local": self.local,
            "measured": self.measured,
            "held_out": self.held_out,
            "zeroed": self.zeroed,
            "fit": None if self.fit is None else asdict(self.fit),
            "speeds": {name: asdict(speed) for name, speed in self.speeds.items()},
        }


@dataclass(frozen=True)
class Whole:
    """All chosen swaps together.

    Attributes:
        predicted: relative error of the output.
        measured: with the code that is written, on the inputs to choose by.
        held_out: on inputs that were held out; None where there are none.
        zeroed: with all of these attentions giving 0.
        seconds_before: of a forward pass with all inputs.
        seconds_after: of the same with the swaps, in plain torch.
    """

    predicted: float
    measured: float
    held_out: float | None
    zeroed: float
    seconds_before: float
    seconds_after: float


@dataclass(frozen=True, eq=False)
class Linearization:
    """What came of it.

    Attributes:
        subject: the model.
        settings: what was asked.
        sites: every attention.
        whole: the swaps together; None if there are none.
        refused: why nothing is to be written; None if it may be.
        model: a copy with the swaps; None if there are none.
        swaps: what `layerlab.attention.linearize.plain.install` takes.
        unseen: attention that could not be watched.
        way: how tangents were computed.
        notes: remarks.
    """

    subject: Subject
    settings: Settings
    sites: tuple[Site, ...]
    whole: Whole | None
    refused: str | None
    model: nn.Module | None
    swaps: Mapping[str, Mapping[str, Any]]
    unseen: tuple[Unseen, ...]
    way: str | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        model = self.subject.model
        given = leaves((self.subject.inputs,))
        return {
            "subject": self.subject.name,
            "model": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "inputs": [{"shape": list(t.shape), "dtype": str(t.dtype).split(".")[-1]} for _, t in given],
            "dtype": str(self.subject.dtype).removeprefix("torch."),
            "seed": self.settings.seed,
            "max_error": self.settings.max_error,
            "threads": torch.get_num_threads(),
            "sites": [site.to_dict() for site in self.sites],
            "whole": None if self.whole is None else asdict(self.whole),
            "refused": self.refused,
            "unseen": [asdict(unseen) for unseen in self.unseen],
            "way": self.way,
            "notes": list(self.notes),
        }


def linearize(subject: Subject, settings: Settings, progress: Tell | None = None) -> Linearization:
    """Exchanges as much of a model's attention as its output can bear.

    Attentions are candidates where a mechanism is faster at their length on this machine. Maps are fitted to the
    attention weights of the first half of the batch, the other half judges. Swaps are added while the first-order
    prediction of the output's error stays within ``max_error``; then the error is measured, and the last swaps are
    taken back while it is above. The model itself is left as it is.

    Raises:
        UserError: the model raises, computes no attention that can be seen, or the settings are no such.
    """
    names = checked(settings.mechanisms)
    if not 0 < settings.max_error < 1:
        raise UserError(f"expected a largest error between 0 and 1, got {settings.max_error:g}")
    tell = progress or (lambda share, words: None)
    model, notes = subject.model, list(subject.notes)
    # Before this work adds to it.
    busy = text.busy({"load": load_a_core()})
    tell(0.0, "watching")
    part, held, why = parts(model, subject.inputs, settings.path(), settings.seed)
    if why is not None:
        notes.append(f"of the inputs {why}")
    if not part.watched.calls:
        found = "; ".join(f"{unseen.module}: {unseen.why}" for unseen in part.watched.unseen[:3])
        raise UserError(
            f"{subject.name} computes no attention that can be seen{': ' if found else ''}{found}"
        )
    sites = _sites(part, model, names, tell)
    mechanisms = _mechanisms(sites, part, held, settings.seed, tell)
    prediction: Prediction | None = None
    whole, refused, swapped, swaps = None, None, None, dict[str, dict[str, Any]]()
    if not mechanisms:
        refused = _too_short(sites)
    else:
        prediction = predict(
            model,
            part.inputs,
            mechanisms,
            output=part.output,
            seed=settings.seed,
            progress=lambda share, words: tell(0.6 + 0.2 * share, f"predicting {words}"),
        )
        if prediction.why is not None:
            notes.append(f"tangents are central differences: {prediction.why}")
        _alone(sites, prediction, mechanisms, model, part, held, tell)
        candidates = {site: list(found) for site, found in mechanisms.items()}
        steps: Sequence[Step] = choose(prediction, candidates, settings.max_error)
        steps, refused = _proven(steps, sites, mechanisms, model, part, held, settings.max_error, notes)
        if steps:
            tell(0.95, "timing")
            swapped, swaps = _swapped(model, steps, sites, mechanisms)
            whole = _whole(subject, swapped, steps, part, held)
            if whole.seconds_after >= whole.seconds_before:
                notes.append("the model as a whole is not faster with these swaps at this length")
            for site in sites:
                site.chosen = any(step.swap[0] == site.call.site for step in steps)
                if not site.chosen and site.why_not is None:
                    site.why_not = "with it the error of the output is too large"
    if busy is not None:
        notes.append(busy)
    if any(call.dropout for call in part.watched.calls):
        notes.append("dropout of attention weights is left out")
    way = None if prediction is None else prediction.way
    return Linearization(
        subject,
        settings,
        tuple(sites),
        whole,
        refused,
        swapped,
        swaps,
        part.watched.unseen,
        way,
        tuple(notes),
    )


def _sites(part: Part, model: nn.Module, names: Sequence[str], tell: Tell) -> list[Site]:
    """Every attention, what stands in its way, and how fast the mechanisms are there."""
    clock, found = Clock(), []
    calls = part.watched.calls
    for number, call in enumerate(calls):
        tell(0.05 + 0.15 * number / len(calls), f"timing {call.site}")
        site = Site(call, obstacle(call, calls, model))
        found.append(site)
        if site.why_not is not None:
            continue
        site.speeds = {name: clock.speed(name, call) for name in names}
        if not any(speed.pays(call.length) for speed in site.speeds.values()):
            crossovers = [speed.crossover for speed in site.speeds.values() if speed.crossover is not None]
            longest = max(speed.longest for speed in site.speeds.values())
            if not longest:
                site.why_not = f"its batch of {call.q.shape[0]:,} is too large to time linear attention here"
                continue
            site.why_not = (
                f"linear attention is not faster at its {call.length:,} tokens on this machine, "
                + (f"but from about {min(crossovers):,} on" if crossovers else f"nor up to {longest:,}")
            )
    return found


def _mechanisms(
    sites: Sequence[Site], part: Part, held: Part | None, seed: int, tell: Tell
) -> dict[str, dict[str, Linear]]:
    """Those that pay at each site, fitted where they can be."""
    found: dict[str, dict[str, Linear]] = {}
    validation = {} if held is None else {call.site: call for call in held.watched.calls}
    able = [site for site in sites if site.why_not is None]
    for number, site in enumerate(able):
        call, mine = site.call, dict[str, Linear]()
        for name, speed in site.speeds.items():
            if not speed.pays(call.length):
                continue
            if name != "hedgehog":
                mine[name] = made(name, call, seed)
                continue
            start, width = 0.2 + 0.4 * number / len(able), 0.4 / len(able)

            def fitting(share: float, words: str, start: float = start, width: float = width) -> None:
                tell(start + width * share, f"fitting {call.site}: {words}")  # noqa: B023 (called at once)

            mine[name], site.fit = fit_hedgehog(call, validation.get(call.site), seed=seed, progress=fitting)
            mine[name].to(call.q.dtype)
        found[call.site] = mine
    return found


def _too_short(sites: Sequence[Site]) -> str:
    reasons = list(dict.fromkeys(f"{site.call.site}: {site.why_not}" for site in sites))
    more = f", and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return f"there is nothing to exchange: {'; '.join(reasons[:3])}{more}"


def _alone(
    sites: Sequence[Site],
    prediction: Prediction,
    mechanisms: Mapping[str, Mapping[str, Linear]],
    model: nn.Module,
    part: Part,
    held: Part | None,
    tell: Tell,
) -> None:
    """Each site exchanged by its best mechanism, and each giving 0."""
    for number, site in enumerate(sites):
        name = site.call.site
        tell(0.8 + 0.15 * number / len(sites), f"measuring {name}")
        site.zeroed = part.error(model, {name: None})
        if name not in mechanisms:
            continue
        swaps = {kind: prediction.swaps[name, kind] for kind in mechanisms[name]}
        site.predicted = {kind: swap.error for kind, swap in swaps.items()}
        site.local = {kind: swap.local for kind, swap in swaps.items()}
        site.mechanism = min(site.predicted, key=site.predicted.__getitem__)
        best = {name: mechanisms[name][site.mechanism]}
        site.measured = part.error(model, best)
        site.held_out = None if held is None else held.error(model, best)


def _proven(
    steps: Sequence[Step],
    sites: Sequence[Site],
    mechanisms: Mapping[str, Mapping[str, Linear]],
    model: nn.Module,
    part: Part,
    held: Part | None,
    max_error: float,
    notes: list[str],
) -> tuple[Sequence[Step], str | None]:
    """The first swaps, as many as keep the measured error within the bound; else why there are none."""
    if not steps:
        best = min((site for site in sites if site.predicted), key=lambda site: min(site.predicted.values()))
        return (), (
            f"no swap is predicted to change the output by at most {max_error:.3g}; the least is "
            f"{best.mechanism} at {best.call.site}, predicted {min(best.predicted.values()):.3g} and measured "
            f"{best.measured:.3g}; allow more with --max-error"
        )
    worst, asked = 0.0, len(steps)
    while steps:
        chosen = {step.swap[0]: mechanisms[step.swap[0]][step.swap[1]] for step in steps}
        worst = max(part.error(model, chosen), 0.0 if held is None else held.error(model, chosen))
        if worst <= max_error:
            if len(steps) < asked:
                notes.append(f"of {asked} swaps that were predicted to be possible, {len(steps)} measured so")
            return steps, None
        steps = steps[:-1]
    return (), (
        f"the error was predicted to be within {max_error:.3g}, and measured {worst:.3g} with a single swap; allow "
        "more with --max-error"
    )


def _swapped(
    model: nn.Module,
    steps: Sequence[Step],
    sites: Sequence[Site],
    mechanisms: Mapping[str, Mapping[str, Linear]],
) -> tuple[nn.Module, dict[str, dict[str, Any]]]:
    """A copy of the model with the swaps, by the code that is written; and what that code is told."""
    calls = {site.call.site: site.call for site in sites}
    swaps = {calls[step.swap[0]].module: sizes(calls[step.swap[0]], step.swap[1]) for step in steps}
    with user_code("copying the model raised"):
        twin = plain.install(copy.deepcopy(model), swaps)
    for step in steps:
        module = twin.get_submodule(calls[step.swap[0]].module)
        phi = mechanisms[step.swap[0]][step.swap[1]].feature_map
        linear = module.get_submodule("linear_attention")
        linear.load_state_dict(phi.state_dict())
        linear.requires_grad_(True)
    return twin, swaps


def _whole(
    subject: Subject, swapped: nn.Module, steps: Sequence[Step], part: Part, held: Part | None
) -> Whole:
    measured = part.error_of(swapped)
    out = None if held is None else held.error_of(swapped)
    zeroed = part.error(subject.model, {step.swap[0]: None for step in steps})
    seconds = times({"before": subject.model, "after": swapped}, subject.inputs)
    return Whole(steps[-1].predicted, measured, out, zeroed, seconds["before"], seconds["after"])
