"""Almost-orthogonal codebooks and Johnson-Lindenstrauss projections, certified.

The names below are imported on first use: `import layerlab` does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlab.lab.lazy import on_first_use

if TYPE_CHECKING:
    from layerlab.projection.certificate import certify
    from layerlab.projection.codebooks import Codebook, codebook
    from layerlab.projection.layers import JLProjection
    from layerlab.projection.transform import JLTransform

_HOMES = {
    "Codebook": "codebooks",
    "JLProjection": "layers",
    "JLTransform": "transform",
    "certify": "certificate",
    "codebook": "codebooks",
}

__all__ = ["Codebook", "JLProjection", "JLTransform", "certify", "codebook"]

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
