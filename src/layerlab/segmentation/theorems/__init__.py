"""The claims about skip connections; ``docs/theory/segmentation.md`` has what is known and the proofs."""

from __future__ import annotations

from layerlab.claims import Claim
from layerlab.segmentation.theorems.benefit import ALWAYS, FINEST, SKIPS
from layerlab.segmentation.theorems.detail import BOTTLENECK, CONTROL
from layerlab.segmentation.theorems.gradients import REASON, STEM

CLAIMS: tuple[Claim, ...] = (SKIPS, FINEST, ALWAYS, BOTTLENECK, CONTROL, STEM, REASON)
