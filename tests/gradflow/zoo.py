"""The models on which the verdict of a profile is judged: 40 with one planted fault each, and 40 that train.

How it was set. All cases were written before there was a verdict, by someone who had not seen its code, and in two
halves of the same kinds (the same causes, equally often; the same families of healthy models) with other
architectures, other places and other strengths:

* **practice** (`PRACTICE_FAULTS`, `PRACTICE_HEALTHY`): thresholds and rules of the verdict may be chosen on it;
* **exam** (`EXAM_FAULTS`, `EXAM_HEALTHY`): it judges. **No threshold and no rule may be chosen on it**; a case of it
  is not changed because the verdict misses it. What is reported is its result, misses included.

A fault counts as planted only where plain autograd finds it (`test_zoo.py`): the gradient at the first parameter (for
recurrent faults: at the first step of the input) is 100 times below or above that of the same model without the fault,
or 0, and the cause is measured where it is said to be. A model counts as healthy only if its loss falls in a few
dozen steps.

What the causes mean where they could be confused:

* "small norm", "large norm": the weights, or the gain of a normalisation, of the layers named are out of line with
  all others. The only difference to the healthy twin lies there.
* "saturation", "dead units": the units named are beyond their linear range, or off, on (almost) the whole batch,
  whether bias, weights or inputs brought them there. A softmax that puts everything on one entry is saturated.
* "slope": no layer is out of line; the activation has a slope of at most 1/4, and depth does the rest.
* "missing residual": no layer is out of line, the activation has slope 1; many equal blocks of gain below 1 follow
  each other without a skip.
* "recurrent norm": the spectral norm of a recurrent weight, over many steps.
* "detached": parameters that require gradients get none, for the graph is cut after them. The verdict is "vanishing".
* "not finite": the first module whose output has NaN or Inf, or whose weight has.

`where` is empty where depth is the cause. Several names mean that each is right: the layer that drives units out of
range and the activation that is out of range, or any of several layers with the same fault.
"""

from __future__ import annotations

from .zoo_case import CAUSES, VERDICTS, Case
from .zoo_exam_faults import EXAM_FAULTS
from .zoo_exam_healthy import EXAM_HEALTHY
from .zoo_practice_faults import PRACTICE_FAULTS
from .zoo_practice_healthy import PRACTICE_HEALTHY

__all__ = ["CAUSES", "EXAM_FAULTS", "EXAM_HEALTHY", "PRACTICE_FAULTS", "PRACTICE_HEALTHY", "VERDICTS", "Case"]
