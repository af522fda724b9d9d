"""A model from a file looked at: built, given inputs, measured; what `layerlab model inspect` prints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from layerlab.errors import UserError
from layerlab.gradflow.evaluation import Call, run
from layerlab.gradflow.inspection.losses import loss_of
from layerlab.gradflow.profiling import BUDGET, TOLERANCE, Profile, Progress, profile
from layerlab.gradflow.recurrent import ThroughTime
from layerlab.gradflow.remedies.trial import Remedy, try_remedies
from layerlab.gradflow.trace import by_memory, is_memory
from layerlab.lab.models.nested import Path, leaves
from layerlab.lab.models.subject import Mode, Request, Subject

# Of several outputs the first of these names, as Hugging Face's models call them.
_OUTPUTS = ("logits", "prediction_logits", "last_hidden_state", "out", "output")


@dataclass(frozen=True)
class Settings:
    """What is asked of a model; every field is JSON.

    Attributes:
        shapes: inputs by shape, see `layerlab.lab.models.input_shapes.InputShape.parse`.
        file: inputs from an ``.npz``.
        wrt: inputs to differentiate, by name or position; needed where several are real numbers.
        output: which of several outputs, by name or position, with dots (``1.0``).
        loss: see `layerlab.gradflow.inspection.losses.loss_of`; random directions by default.
        layers: patterns of module names.
        budget: see `layerlab.gradflow.profiling.profile`.
        tolerance: see there.
        mode: "train" or "eval"; as the factory returns it by default.
        dtype: "float32" or "float64"; the model's own by default.
        remedy: whether remedies are tried, on copies, where the gradient vanishes or explodes.
        seed: of the factory, the inputs, the targets and the measurement.
    """

    shapes: tuple[str, ...] = ()
    file: str | None = None
    wrt: tuple[str, ...] = ()
    output: str | None = None
    loss: str | None = None
    layers: tuple[str, ...] = ()
    budget: int = BUDGET
    tolerance: float = TOLERANCE
    mode: Mode | None = None
    dtype: str | None = None
    remedy: bool = True
    seed: int = 0

    def request(self) -> Request:
        """What `layerlab.lab.models.subject.load_subject` is asked for."""
        return Request(self.shapes, self.file, self.mode, self.dtype, self.seed)


@dataclass(frozen=True, eq=False)
class ModelInspection:
    """What was measured of a model, and how it was asked.

    Attributes:
        subject: the model.
        settings: what was asked.
        profile: what was found.
        remedies: what was tried on copies, best first; empty for a healthy model.
        through_time: Jacobians through time; None for a model without a recurrent layer.
        notes: what was chosen for the user, then the remarks of the profile.
    """

    subject: Subject
    settings: Settings
    profile: Profile
    remedies: tuple[Remedy, ...]
    through_time: ThroughTime | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the profile's fields, and what it was measured on."""
        model = self.subject.model
        return {
            "subject": self.subject.name,
            **self.profile.to_dict(),
            "inputs": [_described(path, tensor) for path, tensor in _tensors(self.subject.inputs)],
            "mode": self.subject.mode,
            "dtype": str(self.subject.dtype).removeprefix("torch."),
            "parameters": sum(p.numel() for p in model.parameters()),
            "seed": self.settings.seed,
            "remedies": [remedy.to_dict() for remedy in self.remedies],
            "through_time": None if self.through_time is None else self.through_time.to_dict(),
            "notes": list(self.notes),
        }


def inspect(subject: Subject, settings: Settings, progress: Progress | None = None) -> ModelInspection:
    """Measures a model where its user has said little: of several outputs one is chosen, and said.

    Raises:
        UserError: as `layerlab.gradflow.profiling.profile`; several inputs that can be differentiated and no choice.
    """
    with by_memory():
        return _inspect(subject, settings, progress)


def _inspect(subject: Subject, settings: Settings, progress: Progress | None) -> ModelInspection:
    notes = list(subject.notes)
    wrt = _wrt(subject.inputs, settings.wrt)
    loss, words = (None, "") if settings.loss is None else loss_of(settings.loss, settings.seed)
    if words:
        notes.append(f"gradients of {words}")
    output = _output(subject, wrt, settings, notes)
    model, inputs = subject.model, subject.inputs
    asked: dict[str, Any] = {
        "loss": loss,
        "wrt": wrt,
        "output": output,
        "layers": settings.layers,
        "seed": settings.seed,
    }
    found = profile(
        model,
        inputs,
        **asked,
        budget=settings.budget,
        tolerance=settings.tolerance,
        progress=_part(progress, 0.0, 0.7),
    )
    notes += found.notes
    remedies: tuple[Remedy, ...] = ()
    if settings.remedy:
        with _optional("no remedies tried", notes):
            remedies = try_remedies(model, inputs, found, **asked, progress=_part(progress, 0.7, 1.0))
    if found.through_time is not None:
        notes += found.through_time.notes
    return ModelInspection(subject, settings, found, remedies, found.through_time, tuple(notes))


def _part(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """The progress of a part of the work, from ``start`` to ``stop`` of the whole."""
    if progress is None:
        return None
    return lambda share, words: progress(start + (stop - start) * share, words)


@contextlib.contextmanager
def _optional(missing: str, notes: list[str]) -> Iterator[None]:
    """What the profile can do without: why it is missing becomes a note."""
    try:
        yield
    except UserError as error:
        notes.append(f"{missing}: {error}")


def _tensors(inputs: Any) -> list[tuple[Path, Tensor]]:
    """The tensors among the arguments, positional ones by number."""
    if isinstance(inputs, Tensor):
        return [((0,), inputs)]
    return list(leaves(inputs))


def _described(path: Path, tensor: Tensor) -> dict[str, Any]:
    return {
        "name": _dotted(path),
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
    }


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _named(text: str, paths: Sequence[Path], what: str) -> Path:
    """The path that is spelled like ``text``.

    Raises:
        UserError: there is none.
    """
    for path in paths:
        if _dotted(path) == text:
            return path
    there = ", ".join(map(_dotted, paths)) or "none"
    raise UserError(f"{what} {text!r} is not among those of real numbers; there are {there}")


def _wrt(inputs: Any, chosen: Sequence[str]) -> list[Path] | None:
    real = [path for path, tensor in _tensors(inputs) if tensor.is_floating_point()]
    if chosen:
        return [_named(text, real, "the input") for text in chosen]
    if len(real) > 1:
        raise UserError(
            "several inputs are real numbers: choose which to differentiate with --wrt, of "
            f"{', '.join(map(_dotted, real))}"
        )
    return None


def _output(subject: Subject, wrt: list[Path] | None, settings: Settings, notes: list[str]) -> Path | None:
    """Which of several outputs is looked at; None where there is one."""
    seen: list[Any] = []
    handle = subject.model.register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        run(Call.of(subject.model, subject.inputs, wrt, None, settings.seed), {})
    except UserError as error:
        if subject.guessed and error.__cause__ is not None and not is_memory(error.__cause__):
            raise UserError(f"{error}; these inputs were a guess: give others with --input-shape") from error
        raise
    finally:
        handle.remove()
    result = seen[-1]
    real = [] if isinstance(result, Tensor) else [p for p, t in leaves(result) if t.is_floating_point()]
    if settings.output is not None:
        return _named(settings.output, real, "the output")
    if len(real) < 2:
        return None
    chosen = next((p for name in _OUTPUTS for p in real if p == (name,)), real[0])
    others = ", ".join(_dotted(path) for path in real if path != chosen)
    notes.append(f"of several outputs {_dotted(chosen)} is looked at (--output for another: {others})")
    return chosen
