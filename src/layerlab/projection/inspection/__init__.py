"""What ``layerlab codebook inspect`` says of anybody's vectors: measure, text and page."""

from __future__ import annotations
