"""The largest set of swaps whose predicted error is small enough: greedily, on the sum of their tangents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layerlab.attention.prediction import Prediction, Swap


@dataclass(frozen=True)
class Step:
    """One more swap.

    Attributes:
        swap: site and mechanism.
        predicted: relative error of the output with it and all before it.
    """

    swap: Swap
    predicted: float


def choose(
    prediction: Prediction, candidates: Mapping[str, Sequence[str]], max_error: float
) -> tuple[Step, ...]:
    """Adds, one at a time, the swap that leaves the sum of tangents smallest, while that is at most ``max_error``.

    Args:
        prediction: tangents of all candidates.
        candidates: mechanisms by site.
        max_error: relative error of the output.

    Returns:
        The swaps in the order in which they were added.
    """
    steps: list[Step] = []
    left = {site: list(names) for site, names in candidates.items() if names}
    while left:
        chosen = [step.swap for step in steps]
        error, swap = min(
            (prediction.error([*chosen, (site, name)]), (site, name)) for site in left for name in left[site]
        )
        if error > max_error:
            break
        steps.append(Step(swap, error))
        del left[swap[0]]
    return tuple(steps)
