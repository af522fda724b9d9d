"""Whether anybody would notice that a module is not called."""

from __future__ import annotations

from torch import nn

from layerlab.lab import private


def heard(*modules: nn.Module) -> bool:
    """Whether somebody listens to the calls of one of these modules, or of all, or it cannot be told.

    >>> layer = nn.ReLU()
    >>> handle = layer.register_forward_hook(lambda module, given, out: None)
    >>> heard(layer), heard(nn.ReLU())
    (True, False)
    """
    if any("forward" in vars(module) for module in modules):
        return True
    own = any(vars(module).get(name, True) for module in modules for name in private.own_module_hooks)
    return own or any(hooks is None or bool(hooks) for hooks in private.module_hooks)
