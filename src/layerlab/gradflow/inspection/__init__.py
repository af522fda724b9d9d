"""What ``layerlab model inspect`` asks of a model: inputs for it, its profile as a record, its page."""

from __future__ import annotations
