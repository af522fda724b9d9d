"""Which modules of a model are its layers, and which parameters are their own."""

from __future__ import annotations

from torch import nn


def parameters_of(module: nn.Module) -> list[nn.Parameter]:
    """A module's own parameters, those that a parametrization computes its weights from included."""
    return [
        p
        for name, p in module.named_parameters()
        if ("." not in name or name.startswith("parametrizations."))
        and not isinstance(p, nn.parameter.UninitializedParameter)
    ]


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """Modules without modules inside, and those with parameters of their own, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if (name or not list(model.children()))
        and "parametrizations" not in name.split(".")
        and (
            all(child == "parametrizations" for child, _ in module.named_children()) or parameters_of(module)
        )
    }
