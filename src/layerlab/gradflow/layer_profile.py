"""What is measured of one layer, and of the way up to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.gradflow.activations import Activation
from layerlab.gradflow.bounds.arguments import Scope
from layerlab.gradflow.bounds.combination import Bound
from layerlab.gradflow.measurement import Ends

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """An operation of the layer, and what is known of how much it can amplify a perturbation.

    By how much is not kept here: it takes spectral norms, which only a layer to blame is asked for.

    Attributes:
        module: in which it is.
        operation: its name.
        scope: "any input", "these inputs" or "unknown".
    """

    module: str
    operation: str
    scope: Scope


@dataclass(frozen=True, eq=False, kw_only=True)
class GradientLayer:
    """A layer on the way from the input to the output, all of the signal passing through it, and its gradients.

    Attributes:
        name: of the module, or of the modules between two bottlenecks.
        kind: their types; "skip" where the input is added to the output.
        module: the one module to name.
        start: the point where x is.
        stop: the point where y is.
        shape: of y.
        gradient: (B), log ‖∂loss/∂x‖.
        weights: (log ‖∂loss/∂W‖, log ‖W‖) by the weight's name.
        activations: of the activation functions within.
        parts: its operations, in order.
        designed: log of the factor by which averages over places and softmax shrink the gradient, and are meant to.
        attached: whether the gradient passes; False where the model cuts it (detach, no_grad, integers).
    """

    name: str
    kind: str
    module: str
    start: str
    stop: str
    shape: tuple[int, ...]
    gradient: Values
    weights: dict[str, tuple[float, float]]
    activations: tuple[Activation, ...]
    parts: tuple[Part, ...]
    designed: float
    attached: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerProfile(GradientLayer):
    """A layer with its singular values beside their bounds.

    Attributes:
        jacobian: extreme singular values of ∂y/∂x.
        product: logarithms of those of ∂y/∂input.
        bound: on ‖∂y/∂x‖, by theorem.
        bound_product: log of the product of the bounds up to here, itself a bound on ``product``.
    """

    jacobian: Ends
    product: Ends
    bound: Bound
    bound_product: float

    @property
    def slack(self) -> float:
        """The bound divided by the largest σ_max measured; 1 where it is attained."""
        top = float(self.jacobian.largest.max())
        return math.inf if top == 0 else self.bound.value / top

    def to_dict(self) -> dict[str, Any]:
        """For JSON; logarithms are to base e, null stands for zero or unknown."""
        return {
            "name": self.name,
            "kind": self.kind,
            "module": self.module,
            "start": self.start,
            "stop": self.stop,
            "shape": list(self.shape),
            "sigma_max": listed(self.jacobian.largest),
            "sigma_max_error": listed(self.jacobian.largest_error),
            "sigma_min": None if self.jacobian.smallest is None else listed(self.jacobian.smallest),
            "sigma_min_exact": self.jacobian.smallest_exact,
            "method": self.jacobian.method,
            "bound": finite(self.bound.value),
            "bound_scope": self.bound.scope,
            "bound_reason": self.bound.reason,
            "slack": finite(self.slack),
            "log_product_max": listed(self.product.largest),
            "log_product_max_error": listed(self.product.largest_error),
            "log_product_min": None if self.product.smallest is None else listed(self.product.smallest),
            "log_product_bound": finite(self.bound_product),
            "log_gradient": listed(self.gradient),
            "weights": {
                name: {"log_gradient": finite(grad), "log_norm": finite(size)}
                for name, (grad, size) in self.weights.items()
            },
            "activations": [activation.to_dict() for activation in self.activations],
            "designed": self.designed,
            "attached": self.attached,
        }


def finite(value: float) -> float | None:
    """None, which is null in JSON, for what is not finite."""
    return float(value) if math.isfinite(value) else None


def listed(values: Values) -> list[float | None]:
    """Numbers for JSON."""
    return [finite(float(value)) for value in values]
