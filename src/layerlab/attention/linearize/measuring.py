"""What swaps do to a model's output and to its time, measured."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerlab.attention.calls import AttentionCall
from layerlab.attention.mechanisms import Mechanism
from layerlab.attention.prediction import chosen_output, replaced_output
from layerlab.attention.watching import Replacement, Watched, attention_calls, replacing
from layerlab.errors import UserError
from layerlab.lab.models.nested import Path, leaves, replaced
from layerlab.lab.models.untouched import arguments, passed

# A model is timed so often, or as long as this, after a first call.
_REPEATS, _SECONDS = 20, 6.0


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the inputs, the attention in them and the output.

    Attributes:
        inputs: for the model.
        watched: its pass.
        output: path of the output that counts.
        seed: of the passes.
    """

    inputs: Any
    watched: Watched
    output: Path
    seed: int

    @property
    def clean(self) -> Tensor:
        """The output that counts, as it is before any swap."""
        return dict(leaves(self.watched.output))[self.output]

    @torch.no_grad()
    def error(self, model: nn.Module, mechanisms: Mapping[str, Mechanism | None]) -> float:
        """Relative error of the output with mechanisms at sites; None is an attention that gives 0."""

        def exchange(mechanism: Mechanism | None) -> Replacement:
            def zeros(call: AttentionCall) -> Tensor:
                return call.q.new_zeros(*call.q.shape[:3], call.v.shape[3])

            return zeros if mechanism is None else lambda call: replaced_output(mechanism, call)

        with replacing(model, {site: exchange(mechanism) for site, mechanism in mechanisms.items()}):
            result = passed(model, self.inputs, self.seed)
        return self.compared(result)

    @torch.no_grad()
    def error_of(self, model: nn.Module) -> float:
        """Relative error of another model's output."""
        return self.compared(passed(model, self.inputs, self.seed))

    def compared(self, result: Any) -> float:
        """``|y' - y| / |y|``; infinite where y' is not finite."""
        clean = self.clean.double()
        error = float((dict(leaves(result))[self.output].double() - clean).norm() / clean.norm())
        return error if math.isfinite(error) else math.inf


def parts(
    model: nn.Module, inputs: Any, output: Path | None, seed: int
) -> tuple[Part, Part | None, str | None]:
    """The inputs to choose and fit by, those held out, and why none are.

    The first half of the batch chooses, the second is held out, where every tensor among the inputs has the batch
    first and the model takes half of it.
    """
    whole = attention_calls(model, inputs, seed)
    path = chosen_output(whole.output, output)
    all_of_it = Part(inputs, whole, path, seed)
    tensors = [tensor for _, tensor in leaves((inputs,))]
    batch = {len(tensor) if tensor.dim() else 0 for tensor in tensors}
    if len(batch) != 1 or max(batch) < 2:
        return all_of_it, None, "none are held out: the inputs are not a batch of two or more samples"
    size = batch.pop()
    half = (size + 1) // 2
    found = []
    for wanted, piece in ((half, slice(half)), (size - half, slice(half, None))):
        try:
            watched = attention_calls(model, _sliced(inputs, piece), seed)
        except UserError as error:
            return (
                all_of_it,
                None,
                f"none are held out: the model does not take a part of the batch ({error})",
            )
        results = dict(leaves(watched.output))
        fits = [call.site for call in watched.calls] == [call.site for call in whole.calls]
        fits = fits and all(call.q.shape[0] == wanted for call in watched.calls)
        if not fits or path not in results or results[path].shape[:1] != (wanted,):
            return all_of_it, None, "none are held out: the first dimension of the inputs is not the batch"
        found.append(Part(_sliced(inputs, piece), watched, path, seed))
    return found[0], found[1], None


def _sliced(inputs: Any, piece: slice) -> Any:
    for path, tensor in list(leaves((inputs,))):
        inputs = replaced((inputs,), path, tensor[piece])[0]
    return inputs


def times(models: Mapping[str, nn.Module], inputs: Any) -> dict[str, float]:
    """Seconds of a forward pass of each, run in turns; the least."""
    args, kwargs = arguments(inputs)
    least = dict.fromkeys(models, float("inf"))
    with torch.no_grad():
        for model in models.values():
            model(*args, **kwargs)
        until = time.perf_counter() + _SECONDS
        for turn in range(_REPEATS):
            for name, model in models.items():
                started = time.perf_counter()
                model(*args, **kwargs)
                least[name] = min(least[name], time.perf_counter() - started)
            if turn >= 2 and time.perf_counter() > until:
                break
    return least
