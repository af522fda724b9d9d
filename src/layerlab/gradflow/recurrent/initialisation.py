"""Other recurrent weights tried on a copy: the horizon before against after."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from torch.nn.utils import parametrize

from layerlab.errors import UserError
from layerlab.gradflow.recurrent.calls import recurrent_modules
from layerlab.gradflow.recurrent.gates import make_orthogonal, open_forget_gate
from layerlab.gradflow.recurrent.result import ThroughTime
from layerlab.gradflow.recurrent.through_time import BUDGET, THRESHOLD, TOLERANCE, through_time

Initialisation: TypeAlias = Literal["orthogonal", "open forget gates"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The same inputs through the model as it is and through copies of it.

    Attributes:
        before: the model as it is.
        after: by the name of the initialisation.
    """

    before: ThroughTime
    after: dict[Initialisation, ThroughTime]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: for each layer the verdicts, rates and horizons, and everything of `ThroughTime.to_dict`."""
        arms: list[tuple[str, ThroughTime]] = [("as is", self.before), *self.after.items()]
        return {
            "layers": [
                {
                    "label": layer.label,
                    "arms": {
                        name: {
                            "verdict": found.layers[index].verdict,
                            "summary": found.layers[index].summary,
                            "vanishing": vars(found.layers[index].vanishing).copy(),
                            "exploding": vars(found.layers[index].exploding).copy(),
                        }
                        for name, found in arms
                    },
                }
                for index, layer in enumerate(self.before.layers)
            ],
            "arms": {name: found.to_dict() for name, found in arms},
        }


def compare_initialisations(
    model: nn.Module,
    inputs: Any,
    *,
    module: str | None = None,
    threshold: float = THRESHOLD,
    tolerance: float = TOLERANCE,
    budget: int = BUDGET,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Comparison:
    """The horizons of a model as it is, and with other recurrent weights; the model itself is never changed.

    - "orthogonal": W_hh is a random orthogonal matrix for each gate and layer (orthonormal columns or rows, where
      proj_size makes it not square). Then σ_max(W) = 1: the bound of a tanh RNN no longer shrinks, and only the slopes
      of tanh do.
    - "open forget gates", where there is an LSTM: besides, the biases of the forget gates are together 1, so that a
      cell keeps sigmoid(1) = 0.73 of its content a step rather than a half.

    Reference: Q. Le, N. Jaitly and G. Hinton, A simple way to initialize recurrent networks of rectified linear units
    (2015); R. Jozefowicz, W. Zaremba and I. Sutskever, An empirical exploration of recurrent network architectures
    (ICML 2015).

    Args:
        model: as `through_time`, and so all others.
        seed: of the orthogonal matrices, too.

    Raises:
        UserError: as `through_time`; a model that cannot be copied; or parametrised recurrent weights.

    >>> _ = torch.manual_seed(0)
    >>> found = compare_initialisations(torch.nn.RNN(3, 16), 0.1 * torch.randn(60, 2, 3))
    >>> found.before.layers[0].vanishing.first < 20 < found.after["orthogonal"].layers[0].vanishing.first
    True
    """
    arms: list[Initialisation] = ["orthogonal"]
    names = list(recurrent_modules(model, module)) if isinstance(model, nn.Module) else []
    if any(isinstance(model.get_submodule(name), (nn.LSTM, nn.LSTMCell)) for name in names):
        arms.append("open forget gates")

    def found(number: int, subject: nn.Module) -> ThroughTime:
        def tell(share: float, text: str) -> None:
            if progress is not None:
                progress((number + share) / (len(arms) + 1), text)

        return through_time(
            subject,
            inputs,
            module=module,
            threshold=threshold,
            tolerance=tolerance,
            budget=budget,
            seed=seed,
            progress=tell,
        )

    before = found(0, model)
    after = {arm: found(number, _initialised(model, names, arm, seed)) for number, arm in enumerate(arms, 1)}
    return Comparison(before, after)


def _initialised(model: nn.Module, names: list[str], arm: Initialisation, seed: int) -> nn.Module:
    try:
        new = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"the model cannot be copied: {error}") from error
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        _initialise(name, new.get_submodule(name), arm, generator)
    return new


def _initialise(name: str, module: nn.Module, arm: Initialisation, generator: torch.Generator) -> None:
    if parametrize.is_parametrized(module):
        raise UserError(f"the weights of {name or 'the model'} are parametrised; other ones cannot be set")
    opened = arm == "open forget gates" and isinstance(module, (nn.LSTM, nn.LSTMCell))
    for parameter_name, parameter in module.named_parameters(recurse=False):
        if parameter_name.startswith("weight_hh"):
            make_orthogonal(module, parameter, generator)
        elif parameter_name.startswith("bias_") and opened:
            open_forget_gate(module, parameter_name, parameter)
