"""Remedies for gradients that vanish or explode, each tried on a copy of the model and measured.

What is tried depends on the cause that the verdict names:

| cause | tried, in this order |
|---|---|
| saturation | gains and shifts reset, biases 0, inputs standardised, softmax scaled; weights; norm; ReLU |
| dead units | gains and shifts reset, biases 0; weights; norm; leaky ReLU |
| small norm | gains and shifts reset; if recurrent, as below; weights; norm; skip |
| large norm | statistics of batch norm renewed; else as for a small norm, skips with 1/√L |
| slope | ReLU, GELU, SELU with weights for them; weights; norm; skip |
| missing residual | skips y = x + f(x), or with 1/√L; weights; norm |
| recurrent norm | orthogonal recurrent weights, forget gate 1 |
| detached | nothing: the verdict says what to take out |

"Weights" are orthogonal initialisation (Saxe et al. 2014), variance-preserving (He et al. 2015, Glorot & Bengio 2010)
and layer-sequential unit variance (Mishkin & Matas 2016); a "skip" is y = x + f(x) (He et al. 2016), "1/√L" one with
f scaled by that (De & Smith 2020). First only the layer to blame is changed; if nothing then makes the gradient
healthy, all layers whose units are as badly off are, and at last all layers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.evaluation import Call, Choice
from layerlab.gradflow.gradients import gradient_verdict, recurrence
from layerlab.gradflow.layer_profile import finite
from layerlab.gradflow.profiling import Profile
from layerlab.gradflow.remedies.plans import changes
from layerlab.gradflow.remedies.targets import Change
from layerlab.gradflow.remedies.weighted import anatomy
from layerlab.gradflow.verdict import Verdict
from layerlab.lab.subjects import user_code

# log of the factor by which a gradient must come nearer to the output's to count as better: more than chance.
_BETTER = math.log(2.0)


@dataclass(frozen=True)
class Remedy:
    """A change that was tried on a copy of the model, with the gradient before and after.

    Attributes:
        name: in a few words.
        what: what was changed, with the line of code for it.
        applies_to: names of the modules or parameters changed.
        log_factor_before: of the verdict: log of the least (if exploding, greatest) gradient relative to the output's;
            of a recurrent layer, of its Jacobian through time.
        log_factor_after: the same with the change; None where it could not be tried.
        verdict_after: on the copy; None where it could not be tried.
        helped: whether the copy is healthy, or has the same fault but at least by a factor of 2 less.
        sentence: before against after, in words.
        reference: where it comes from.
    """

    name: str
    what: str
    applies_to: tuple[str, ...]
    log_factor_before: float
    log_factor_after: float | None
    verdict_after: Verdict | None
    helped: bool
    sentence: str
    reference: str

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong any more."""
        return self.verdict_after is not None and self.verdict_after.kind == "healthy"

    def to_dict(self) -> dict[str, Any]:
        """For JSON; logarithms are to base e, null stands for no gradient at all or not measured."""
        after = self.log_factor_after
        return {
            "name": self.name,
            "what": self.what,
            "applies_to": list(self.applies_to),
            "log_factor_before": finite(self.log_factor_before),
            "log_factor_after": None if after is None else finite(after),
            "verdict_after": None if self.verdict_after is None else self.verdict_after.to_dict(),
            "helped": self.helped,
            "sentence": self.sentence,
            "reference": self.reference,
        }


def try_remedies(
    model: Callable[..., Any],
    inputs: Any,
    profile: Profile,
    *,
    loss: Callable[[Tensor], Tensor] | None = None,
    wrt: Choice | Sequence[Choice] = None,
    output: Choice = None,
    layers: Sequence[str] = (),
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Remedy, ...]:
    """Tries what theory advises for the cause in the verdict, each remedy on a copy of its own, and measures again.

    The model is left as it was, bit by bit.

    Args:
        model: the module that was profiled.
        inputs: as given to `layerlab.gradflow.profiling.profile`; so are ``loss``, ``wrt``, ``output``, ``layers``.
        profile: its profile.
        seed: of new weights, and as there.
        progress: called with the share done and the name of what is tried.

    Returns:
        The remedies, best first: those that make the gradient healthy, the smallest change first; then by what is
        left. Empty for a healthy model, and where the gradient is cut off.

    Raises:
        UserError: not a module, or one that cannot be copied.

    >>> import torch
    >>> from layerlab.gradflow.profiling import profile
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(*(m for _ in range(9) for m in (nn.Linear(24, 24), nn.Sigmoid())))
    >>> x = torch.randn(4, 24)
    >>> best = try_remedies(model, x, profile(model, x))[0]
    >>> best.name, best.log_factor_before < -12, best.verdict_after.kind
    ('ReLU, all layers', True, 'healthy')
    """
    verdict = profile.verdict
    if verdict.kind == "healthy" or verdict.cause in (None, "detached"):
        return ()
    if not isinstance(model, nn.Module):
        raise UserError(
            "remedies are tried on a copy of the model: expected a torch.nn.Module, got a function"
        )
    tell = progress or (lambda share, text: None)
    tried: list[Remedy] = []
    plans = changes(anatomy(Call.of(model, inputs, wrt, output, seed), layers), model, verdict)
    for index, change in enumerate(plans):
        if index and change.scope != plans[index - 1].scope and any(remedy.healthy for remedy in tried):
            break
        tell(index / len(plans), change.name)
        twin = _copy(model)

        def measure(twin: nn.Module = twin, change: Change = change) -> tuple[Verdict, float]:
            changed = change.apply(Call.of(twin, inputs, wrt, output, seed), seed)
            given = inputs if changed is None else changed
            after = gradient_verdict(twin, given, loss=loss, wrt=wrt, output=output, layers=layers, seed=seed)
            through_time = _through_time(twin, given, verdict, seed)
            return after, after.log_factor if through_time is None else through_time

        tried.append(_remedy(change, verdict, measure))
    tell(1.0, "done")
    return tuple(sorted(tried, key=_rank))


def _rank(remedy: Remedy) -> tuple[bool, bool, float]:
    """Healthy ones first, in the order in which they were tried; of the others by what is left."""
    after = remedy.log_factor_after
    distance = 0.0 if remedy.healthy else math.inf if after is None else abs(after)
    return (not remedy.healthy, not remedy.helped, distance)


def _copy(model: nn.Module) -> nn.Module:
    with user_code("the model cannot be copied to try remedies on; copy.deepcopy(model) raised"):
        return copy.deepcopy(model)


def _through_time(model: nn.Module, inputs: Any, before: Verdict, seed: int) -> float | None:
    """What a verdict on a recurrent layer's memory is about: its gradient through time, not through depth."""
    if before.cause != "recurrent norm" or (found := recurrence(model, inputs, seed)) is None:
        return None
    medians = [layer.median for layer in found.layers if layer.name == before.layer]
    if before.kind == "vanishing":
        return min((float(median[-1]) for median in medians), default=None)
    return max((float(median.max()) for median in medians), default=None)


def _remedy(change: Change, before: Verdict, measure: Callable[[], tuple[Verdict, float]]) -> Remedy:
    try:
        after, factor = measure()
    except UserError as error:
        sentence = f"{change.name}: could not be tried: {error}"
        return _described(change, before, None, None, False, sentence)
    helped = after.kind == "healthy" or (
        after.kind == before.kind and abs(factor) < abs(before.log_factor) - _BETTER
    )
    outcome = (
        after.kind if after.kind == "healthy" else f"{'still ' * (after.kind == before.kind)}{after.kind}"
    )
    whose = "through time" if before.cause == "recurrent norm" else "that of the output"
    sentence = (
        f"{change.name}: gradient {_times(before.log_factor)} {whose} before, {_times(factor)} after: "
        f"{outcome}{'' if helped else ', does not help'}"
    )
    return _described(change, before, after, factor, helped, sentence)


def _described(
    change: Change, before: Verdict, after: Verdict | None, factor: float | None, helped: bool, sentence: str
) -> Remedy:
    return Remedy(
        change.name,
        change.what,
        change.applies_to,
        before.log_factor,
        factor,
        after,
        helped,
        sentence,
        change.reference,
    )


def _times(log: float) -> str:
    return "0 times" if log == -math.inf else f"{math.exp(min(log, 700.0)):.2g} times"
