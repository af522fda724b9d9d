"""What ``layerlab model inspect`` does with a model: losses by name, its profile as a record, as text and as a page."""

from __future__ import annotations
