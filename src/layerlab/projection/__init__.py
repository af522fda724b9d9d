"""Almost-orthogonal codebooks and Johnson-Lindenstrauss projections, certified.

The names below are imported on first use: `import layerlab` does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlab.projection.certificate import certify
    from layerlab.projection.codebooks import Codebook, codebook
    from layerlab.projection.layers import JLProjection
    from layerlab.projection.transform import JLTransform

_HOMES: dict[str, str] = {
    "Codebook": "codebooks",
    "JLProjection": "layers",
    "JLTransform": "transform",
    "certify": "certificate",
    "codebook": "codebooks",
}

__all__ = ["Codebook", "JLProjection", "JLTransform", "certify", "codebook"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
